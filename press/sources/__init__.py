"""Where a base model can come from: a wheel, a folder, the hub, Azure ML, or random numbers."""
