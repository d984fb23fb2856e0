"""Search for the parameters that serve an objective best under constraints, with DVC experiments as its trials."""
