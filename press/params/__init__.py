"""params.yaml: its blocks, their defaults and bounds, how it is read and refused, presets and gates."""
