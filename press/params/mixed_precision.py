"""What `quantize.mixed_precision` gives to the layers that it chooses."""

HIGH_BITS = 8
