"""Olive pass: activation-aware weight quantization (AWQ, arXiv 2306.00978) on any device; docs/awq.md explains it."""

from typing import Annotated, Literal

import torch
from olive.common.hf.wrapper import ModelWrapper
from olive.common.quant.nn import QuantLinear
from olive.data.config import DataConfig
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import HfModelHandler
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam
from olive.passes.pytorch.quant_utils import finalize, get_quantizer_config, prepare_model
from olive.passes.pytorch.train_utils import get_calibration_dataset
from pydantic import Field
from torch import nn
from tqdm.auto import tqdm

from passes.activation_aware import search
from passes.activation_aware.calibration import LayerInputs, Moments, choose_rows, collected
from passes.activation_aware.grid import Grid
from passes.activation_aware.layers import Fold, check_folds, folds
from passes.activation_aware.rounding import compensated_codes
from press.errors import UserError

BATCH_TOKENS = 4096


class Awq(Pass):
    """Quantize the decoder layers' linears of a Hugging Face model with AWQ; write Olive's checkpoint.

    Layer by layer: one forward of the calibration rows gives the Gram matrix of what each group of linears
    reads; on it the scales of the input channels, the clipping and the rounding are chosen. Each layer sees the
    unquantized layers' outputs.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        positive = Annotated[int, Field(ge=1)]
        return {
            **get_quantizer_config(),
            "bits": PassConfigParam(type_=Literal[4, 8], default_value=4, description="Bits a weight: 4 or 8."),
            "group_size": PassConfigParam(
                type_=Literal[16, 32, 64, 128, 256],
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
        device = _device(config.device)
        hf_config = model.get_hf_model_config()
        _check_config(hf_config, config)
        batches = get_calibration_dataset(model, config.data_config)
        rows = choose_rows(batches, config.rows, config.row_tokens, config.seed)
        wrapper, quantization_config, _ = prepare_model(model, config)
        _check_widths(wrapper)
        quantize_layers(wrapper, rows, config, device)
        return finalize(model, output_model_path, wrapper, quantization_config, str(device))


def quantize_layers(wrapper: ModelWrapper, rows: torch.Tensor, config: BasePassConfig, device: torch.device) -> None:
    """Replace the linears of the decoder layers by quantized ones, layer by layer.

    :param wrapper: the model as Olive's prepare_model leaves it
    :param rows: int64 of shape (rows, tokens)
    :param config: the pass's config
    """
    layers, prefix = wrapper.get_layers()
    batches = rows.split(max(1, BATCH_TOKENS // rows.shape[1]))
    inputs = LayerInputs.record(wrapper.model, layers, batches, device)
    generator = torch.Generator().manual_seed(config.seed)
    known = set()
    progress = tqdm(layers, desc="AWQ", unit="layer")
    for index, layer in enumerate(progress):
        name = f"{prefix}.{index}"
        layer.to(device)
        kind = tuple((key, tensor.shape) for key, tensor in layer.state_dict().items())
        if kind not in known:
            states, arguments = inputs.hidden[0], inputs.arguments[index][0]
            check_folds(layer, name, lambda: (layer(states, **arguments), states))  # noqa: B023 - called at once
            known.add(kind)
        groups = folds(layer, name)
        with collected(groups, device) as moments:
            inputs.advance(layer, index)
        job = LayerJob(layer, name, groups, moments, config, generator)
        before, after = job.run()
        layer.to("cpu")
        progress.set_postfix_str(f"relative error {before:.2%} rounded plainly, {after:.2%} now")


class LayerJob:
    """The quantization of one decoder layer, from the moments of what its linears read to their codes."""

    def __init__(
        self,
        layer: nn.Module,
        name: str,
        groups: list[Fold],
        moments: list[Moments],
        config: BasePassConfig,
        generator: torch.Generator,
    ) -> None:
        self.layer = layer
        self.name = name
        self.groups = groups
        self.config = config
        self.grams = [moment.gram for moment in moments]
        self.magnitudes = [moment.magnitude for moment in moments]
        self.weights: dict[nn.Module, torch.Tensor] = {}
        self.judged: dict[nn.Module, torch.Tensor] = {}
        for group, gram in zip(groups, self.grams, strict=True):
            for path, linear in group.linears.items():
                self._check_finite(path, linear, gram)
                self.weights[linear] = linear.weight.float()
                self.judged[linear] = self._some_rows(group, linear, generator)

    def run(self) -> tuple[float, float]:
        """Quantize; return the loss of plain rounding and of the result, relative to the outputs' energy."""
        energy = sum(
            search.gram_loss(self.weights[linear][self.judged[linear]], gram)
            for group, gram in zip(self.groups, self.grams, strict=True)
            for linear in group.linears.values()
        )
        found = [self._search(*parts) for parts in zip(self.groups, self.grams, self.magnitudes, strict=True)]
        # Only now, since every search looks at the weights as they were.
        for index, (scales, _) in enumerate(found):
            applied = self.groups[index].apply(scales, self.weights)
            self.grams[index] /= applied[:, None] * applied
        before = sum(plain for _, plain in found)
        after = sum(
            self._replace(path, linear, gram)
            for group, gram in zip(self.groups, self.grams, strict=True)
            for path, linear in group.linears.items()
        )
        return float(before / energy), float(after / energy)

    def _search(self, group: Fold, gram: torch.Tensor, magnitude: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best scales of a fold, per channel of its maker, and the loss without any."""
        weights = [self.weights[linear] for linear in group.linears.values()]
        grids = [_grid(linear) for linear in group.linears.values()]
        candidates = search.candidate_scales(
            group.shared(magnitude), group.shared(search.weight_magnitude(weights, grids)), self.config.grid_points
        )
        judged = [self.weights[linear][self.judged[linear]] for linear in group.linears.values()]
        losses = search.scale_losses(judged, grids, gram, group.repeated(candidates))
        return candidates[losses.argmin()], losses[0]

    def _replace(self, path: str, linear: nn.Linear, gram: torch.Tensor) -> torch.Tensor:
        """Quantize a linear, put the result in its place, and return the loss of the judged rows."""
        weight, grid = self.weights[linear], _grid(linear)
        if self.config.clip and _named(path, self.config.clip_modules):
            scales, zero_points = search.clipped_parameters(weight, gram, grid)
        else:
            scales, zero_points = grid.parameters(grid.groups(weight))
        if self.config.rounding == "compensated":
            codes = compensated_codes(weight, gram, scales, zero_points, grid, self.config.damping)
        else:
            codes = grid.codes(grid.groups(weight), scales, zero_points).flatten(-2)
        self.layer.set_submodule(path, _quant_linear(linear, codes, scales, zero_points, grid))
        rows = self.judged[linear]
        values = grid.values(grid.groups(codes[rows]), scales[rows], zero_points[rows]).flatten(-2)
        return search.gram_loss(values - weight[rows], gram)

    def _some_rows(self, group: Fold, linear: nn.Linear, generator: torch.Generator) -> torch.Tensor:
        """Choose the output rows by which candidates are judged: as many of a projection, fused or not."""
        wanted = self.config.search_rows * group.fused // len(group.linears)
        chosen = torch.randperm(linear.out_features, generator=generator)[:wanted]
        return chosen.sort().values.to(linear.weight.device)

    def _check_finite(self, path: str, linear: nn.Linear, gram: torch.Tensor) -> None:
        for what, tensor in (("weights", linear.weight), ("inputs for the calibration rows", gram)):
            if not torch.isfinite(tensor).all():
                raise UserError(f"{self.name}.{path} has NaN or infinite {what}: the checkpoint cannot be quantized")


def _grid(linear: nn.Linear) -> Grid:
    """Return the grid that Olive's prepare_model noted for a linear."""
    quantizer = linear.quant_info.quantizer
    return Grid(quantizer.bits, quantizer.group_size, quantizer.symmetric, linear.weight.dtype)


def _quant_linear(
    linear: nn.Linear, codes: torch.Tensor, scales: torch.Tensor, zero_points: torch.Tensor, grid: Grid
) -> QuantLinear:
    """Pack codes as Olive's quantized linear: Olive would round a 16-bit weight anew, with other codes."""
    result = QuantLinear.from_tensors(
        weight=codes.to(torch.uint8),
        quantized=True,
        scales=scales.to(grid.dtype),
        zero_points=zero_points.to(torch.uint8),
        bits=grid.bits,
        symmetric=grid.symmetric,
        group_size=grid.group_size,
        in_features=linear.in_features,
        out_features=linear.out_features,
        bias=linear.bias is not None,
    )
    if linear.bias is not None:
        result.bias = linear.bias.detach()
    return result


def _check_config(hf_config: object, config: BasePassConfig) -> None:
    if getattr(hf_config, "quantization_config", None):
        raise UserError("the model is quantized already: awq needs one in fp32, fp16 or bf16")
    if config.lm_head and hf_config.tie_word_embeddings:
        raise UserError("lm_head is tied to the embedding, which awq does not quantize: leave lm_head false")


def _check_widths(wrapper: ModelWrapper) -> None:
    for name, module in wrapper.model.named_modules():
        if hasattr(module, "quant_info") and module.in_features % module.quant_info.quantizer.group_size:
            size = module.quant_info.quantizer.group_size
            raise UserError(f"group_size is {size}, but must divide {module.in_features}, the input width of {name}")


def _named(path: str, modules: list[str] | None) -> bool:
    return modules is None or path.rpartition(".")[2] in modules


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but PyTorch finds no CUDA device here: choose auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
