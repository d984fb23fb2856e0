"""Checkpoints and graphs: what is supported, how Olive is run on them, where, and how they are loaded."""
