"""The frozen base in NF4, by bitsandbytes (QLoRA, arXiv 2305.14314)."""

from typing import Any

import torch
from olive.common.quant.nn import QuantLinear
from transformers import PreTrainedModel

from press.model import device


def to_nf4(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Replace every QuantLinear by one in NF4 with doubly quantized scales, in place and one by one.

    NF4 is rounded from the dequantized weight: 4.13 bits a weight, in blocks of 64 that share an absolute maximum,
    and 256 of those that share another. Embeddings, norms and the head stay as they are.

    :param model: an Olive-quantized model, on the device that it trains on
    :param dtype: of what is computed
    :raises UserError: if bitsandbytes is missing, or of another version
    """
    device.check_bitsandbytes()
    import bitsandbytes

    for name, module in list(model.named_modules()):
        if isinstance(module, QuantLinear):
            weight = module.unpack_and_dequantize(module.qweight, module.scales, module.qzeros).to(dtype)
            linear = bitsandbytes.nn.Linear4bit(
                module.cols,
                module.rows,
                bias=module.bias is not None,
                compute_dtype=dtype,
                compress_statistics=True,
                quant_type="nf4",
                device="meta",
            )
            # It is quantized when it is moved, even if it is there already.
            linear.weight = bitsandbytes.nn.Params4bit(
                weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=linear
            ).to(weight.device)
            if module.bias is not None:
                linear.bias = torch.nn.Parameter(module.bias.to(dtype), requires_grad=False)
            model.set_submodule(name, linear)
    # By this, PEFT knows what it adds its branches to; modules are typed as if they had no flags.
    attributes: Any = model
    attributes.is_loaded_in_4bit = True
    return model
