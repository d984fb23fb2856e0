"""What stages and passes share: parameter types, file helpers, checkpoint loading."""
