"""The DVC stages: one entry script each, run as `python -m stages.NAME`."""

from press.core import arithmetic

# Before a stage's script is imported, and with it libraries that read their variables once.
arithmetic.enter()
