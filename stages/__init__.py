"""The DVC stages: one entry script each, run as `python -m stages.NAME`."""
