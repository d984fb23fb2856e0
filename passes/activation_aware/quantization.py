"""The quantization of a model's decoder layers, one after the other."""

from collections.abc import Sequence
from typing import Any

import torch
from olive.common.hf.wrapper import ModelWrapper
from olive.common.quant.nn import QuantLinear
from olive.passes.pass_config import BasePassConfig
from torch import nn
from tqdm.auto import tqdm

from passes.activation_aware import search
from passes.activation_aware.calibration import LayerInputs, Moments, collected, say_unreached
from passes.activation_aware.fold import Fixed, Fold
from passes.activation_aware.grid import Grid
from passes.activation_aware.layers import check_folds, folds
from passes.activation_aware.rounding import compensated_codes
from passes.activation_aware.shares import Shares
from press.core.errors import UserError

BATCH_TOKENS = 4096


def quantize_layers(
    wrapper: ModelWrapper,
    rows: torch.Tensor,
    config: BasePassConfig,
    device: torch.device,
    shares: Shares = Shares(),  # noqa: B008 - it is frozen
) -> None:
    """Replace the linears of the decoder layers by quantized ones, layer by layer.

    :param wrapper: the model as Olive's prepare_model leaves it
    :param rows: int64 of shape (rows, tokens); of several processes, this one's
    :param config: the pass's config
    :param shares: of several processes, of which the first alone replaces anything
    """
    layers, prefix = wrapper.get_layers()
    names = [f"{prefix}.{index}" for index in range(len(layers))]
    _check_names([folds(layer, name) for layer, name in zip(layers, names, strict=True)], config.clip_modules)
    _check_rest(wrapper.model, prefix)
    batches = rows.split(max(1, BATCH_TOKENS // rows.shape[1]))
    inputs = LayerInputs.record(wrapper.model, layers, batches, device)
    generator = torch.Generator().manual_seed(config.seed)
    checked = set()
    unreached: list[str] = []
    progress = tqdm(layers, desc="AWQ", unit="layer", disable=shares.rank > 0)
    for index, layer in enumerate(progress):
        kind = tuple((key, tensor.shape) for key, tensor in layer.state_dict().items())
        layer.to(device)
        is_new = kind not in checked
        losses = _quantize_layer(layer, names[index], inputs, index, config, generator, is_new, shares, unreached)
        layer.to("cpu")
        checked.add(kind)
        if losses:
            progress.set_postfix_str("relative error {:.2%} rounded plainly, {:.2%} now".format(*losses))
    say_unreached(unreached)


def _quantize_layer(
    layer: nn.Module,
    name: str,
    inputs: LayerInputs,
    index: int,
    config: BasePassConfig,
    generator: torch.Generator,
    is_new: bool,
    shares: Shares,
    unreached: list[str],
) -> tuple[float, float] | None:
    """Quantize a layer and advance the inputs beyond it; return the relative losses, of plain rounding and now.

    The names of linears that no token reached are put into `unreached`.

    A process that is not the first only adds what its rows are to the first one's moments.

    Nothing refers to the replaced linears afterwards, so that their memory is free for the next layer.
    """
    groups = folds(layer, name)
    states = inputs.hidden[0]
    with collected(groups, states.device) as moments:
        inputs.advance(layer, index)
    shares.add_up(moments)
    if shares.rank:
        return None
    for group, moment in zip(groups, moments, strict=True):
        unreached += [f"{name}.{path}" for path in group.linears if not moment.tokens]
    job = LayerJob(layer, name, groups, moments, config, generator)
    if is_new:
        check_folds(layer, name, states, inputs.arguments[index][0])
    return job.run()


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
        outcomes = [self._search(*parts) for parts in zip(self.groups, self.grams, self.magnitudes, strict=True)]
        # Only now, since every search looks at the weights as they were.
        for index, (scales, _) in enumerate(outcomes):
            applied = self.groups[index].apply(scales, self.weights)
            self.grams[index] /= applied[:, None] * applied
        before = sum(plain for _, plain in outcomes)
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
        if isinstance(group.maker, Fixed):
            candidates = candidates[:1]
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
            codes = self._compensated(path, weight, gram, scales, zero_points, grid)
        else:
            codes = grid.codes(grid.groups(weight), scales, zero_points).flatten(-2)
        self.layer.set_submodule(path, _quant_linear(linear, codes, scales, zero_points, grid))
        rows = self.judged[linear]
        values = grid.values(grid.groups(codes[rows]), scales[rows], zero_points[rows]).flatten(-2)
        return search.gram_loss(values - weight[rows], gram)

    def _compensated(
        self,
        path: str,
        weight: torch.Tensor,
        gram: torch.Tensor,
        scales: torch.Tensor,
        zero_points: torch.Tensor,
        grid: Grid,
    ) -> torch.Tensor:
        try:
            return compensated_codes(weight, gram, scales, zero_points, grid, self.config.damping)
        except torch.linalg.LinAlgError as error:
            raise UserError(
                f"{self.name}.{path}: damping is {self.config.damping}, too little for the calibration data's Gram "
                "matrix to be inverted; raise it, 0.1 is the default"
            ) from error

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
    noted: Any = linear.quant_info
    quantizer = noted.quantizer
    return Grid(quantizer.bits, quantizer.group_size, quantizer.symmetric, linear.weight.dtype)


def _quant_linear(
    linear: nn.Linear, codes: torch.Tensor, scales: torch.Tensor, zero_points: torch.Tensor, grid: Grid
) -> QuantLinear:
    """Pack codes as Olive's quantized linear: Olive would round a 16-bit weight anew, with other codes."""
    quantized = QuantLinear.from_tensors(
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
        quantized.bias = linear.bias.detach()
    return quantized


def _named(path: str, modules: list[str] | None) -> bool:
    return modules is None or path.rpartition(".")[2] in modules


def _check_names(groups: Sequence[Sequence[Fold]], clip_modules: list[str] | None) -> None:
    """Refuse names of linears to clip that no layer has."""
    names = {path.rpartition(".")[2] for layer in groups for group in layer for path in group.linears}
    unknown = set(clip_modules or ()) - names
    if unknown:
        raise UserError(f"clip_modules has {min(unknown)}, but the model's linears are {', '.join(sorted(names))}")


def _check_rest(model: nn.Module, prefix: str) -> None:
    """Refuse NaN and infinity in what is not quantized."""
    for name, parameter in model.named_parameters():
        if not name.startswith(f"{prefix}.") and not torch.isfinite(parameter).all():
            raise UserError(f"{name} has NaN or infinite weights: the checkpoint cannot be quantized")
