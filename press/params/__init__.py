"""params.yaml: its blocks and bounds, how it is read and refused, presets and gates."""
