"""Olive pass: activation-aware weight quantization (AWQ, arXiv 2306.00978) on any device; docs/awq.md explains it."""

import sys
from collections.abc import Iterator
from typing import Annotated, Literal, get_args

import torch
from olive.common.config_utils import validate_config
from olive.common.hf.wrapper import ModelWrapper
from olive.data.config import DataConfig
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import HfModelHandler
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam
from olive.passes.pytorch.quant_utils import finalize, get_quantizer_config, prepare_model
from pydantic import Field
from transformers import PreTrainedConfig

from passes.activation_aware.calibration import choose_rows
from passes.activation_aware.quantization import quantize_layers
from passes.activation_aware.shares import Shares
from press.core.errors import UserError
from press.model import device

GroupSize = Literal[16, 32, 64, 128, 256]


class Awq(Pass):
    """Quantize the decoder layers' linears of a Hugging Face model with AWQ; write Olive's checkpoint.

    Layer by layer: one forward of the calibration rows gives the Gram matrix of what each group of linears
    reads; on it the scales of the input channels, the clipping and the rounding are chosen. Each layer sees the
    unquantized layers' outputs.

    A launcher such as torchrun may run it in several processes, each with its part of the rows: the first sums their
    Gram matrices, quantizes and saves; the others end there.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        positive = Annotated[int, Field(ge=1)]
        return {
            **get_quantizer_config(),
            "bits": PassConfigParam(type_=Literal[4, 8], default_value=4, description="Bits a weight: 4 or 8."),
            "group_size": PassConfigParam(
                type_=GroupSize,
                default_value=128,
                description="Weights that share a scale. Must divide the input width of every linear.",
            ),
            "grid_points": PassConfigParam(
                type_=Annotated[int, Field(ge=3)],
                default_value=20,
                description="Candidates of the scale search: no scales, and exponents from 0 to 1.",
            ),
            "search_rows": PassConfigParam(
                type_=positive,
                default_value=128,
                description="Output rows of each projection by which a candidate is judged, chosen by the seed.",
            ),
            "clip": PassConfigParam(
                type_=bool, default_value=True, description="Whether to search for the range of each group."
            ),
            "clip_modules": PassConfigParam(
                type_=Annotated[list[str], Field(min_length=1)] | None,
                default_value=None,
                description="Last parts of the names of the linears to clip, such as v_proj. Default is all.",
            ),
            "rounding": PassConfigParam(
                type_=Literal["compensated", "nearest"],
                default_value="compensated",
                description=(
                    "Whether a column's rounding makes up for that of the columns before it, as GPTQ's does, or"
                    " takes the nearest code, as the AWQ paper does."
                ),
            ),
            "damping": PassConfigParam(
                type_=Annotated[float, Field(gt=0, lt=1)],
                default_value=0.1,
                description="Share of the mean diagonal added to the Gram matrix's for the compensated rounding.",
            ),
            "data_config": PassConfigParam(
                type_=DataConfig | dict,
                required=True,
                description="Data config of the calibration rows, with input_ids. Nothing is downloaded by default.",
            ),
            "rows": PassConfigParam(type_=positive, default_value=32, description="Calibration rows."),
            "row_tokens": PassConfigParam(
                type_=positive, default_value=512, description="Tokens of a calibration row."
            ),
            "device": PassConfigParam(
                type_=Literal["auto", "cpu", "cuda"],
                default_value="auto",
                description="Where to compute: auto takes CUDA if it is there.",
            ),
            "processes": PassConfigParam(
                type_=positive, default_value=1, description="Of a launcher, which share the calibration rows."
            ),
            "seed": PassConfigParam(
                type_=int,
                default_value=42,
                description="Seed of the choice of calibration rows, where there are more, and of search rows.",
            ),
        }

    @torch.no_grad()
    def _run_for_config(
        self, model: HfModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> HfModelHandler:
        """Quantize the model and save it.

        :raises UserError: if the model, the calibration data or the device do not fit
        """
        chosen = torch.device(device.resolve(config.device))
        hf_config = model.get_hf_model_config()
        _check_config(hf_config, config)
        rows = choose_rows(_batches(config.data_config), config.rows, config.row_tokens, config.seed)
        try:
            wrapper, quantization_config, _ = prepare_model(model, config)
        except AttributeError as error:
            raise UserError(f"awq cannot quantize a {hf_config.model_type} model: {error}") from error
        _check_widths(wrapper)
        shares = Shares.of(config.processes, chosen)
        quantize_layers(wrapper, shares.own(rows), config, chosen, shares)
        if shares.rank:
            # All that this process was for; its model is neither whole nor wanted.
            sys.exit()
        return finalize(model, output_model_path, wrapper, quantization_config, str(chosen))


def _check_config(hf_config: PreTrainedConfig, config: BasePassConfig) -> None:
    if getattr(hf_config, "quantization_config", None):
        raise UserError("the model is quantized already: awq needs one in fp32, fp16 or bf16")
    if config.lm_head and hf_config.tie_word_embeddings:
        raise UserError("lm_head is tied to the embedding, which awq does not quantize: leave lm_head false")


def _check_widths(wrapper: ModelWrapper) -> None:
    for name, module in wrapper.model.named_modules():
        if not hasattr(module, "quant_info"):
            continue
        size = module.quant_info.quantizer.group_size
        if size not in get_args(GroupSize):
            sizes = ", ".join(map(str, get_args(GroupSize)))
            raise UserError(f"group_size of {name} is {size}, but must be one of {sizes}")
        if module.in_features % size:
            raise UserError(f"group_size is {size}, but must divide {module.in_features}, the input width of {name}")


def _batches(data_config: DataConfig | dict | None) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the batches of a data config; without one, Olive would download a data set."""
    if not data_config:
        raise UserError("data_config is empty: awq needs calibration data")
    for inputs, *_ in validate_config(data_config, DataConfig).to_data_container().create_dataloader():
        yield inputs
