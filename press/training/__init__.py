"""From a data set to an adapter: examples that a model can be trained on, and the training."""
