"""The quantizers that params.yaml may name, as Olive knows them."""

# Olive's pass for each `quantize.algorithm`.
PASSES = {"awq": "Awq", "rtn": "Rtn", "gptq": "Gptq", "kquant": "KQuant"}
# Bits of the layers that `quantize.mixed_precision` chooses.
HIGH_BITS = 8
