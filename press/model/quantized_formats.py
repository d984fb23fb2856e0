"""Checkpoints that are quantized already: which of others' formats are taken, by what config.json says of them.

`press/sources/integers.py` brings them into Olive's format, integer for integer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from press.core import paths
from press.core.errors import UserError
from press.model import checkpoints

KEY = "quantization_config"
# Olive's own, which all others are brought into.
OLIVE = "olive"
BITS = (4, 8)
GROUP_SIZES = (256, 128, 64, 32, 16)
INSTEAD = "name the checkpoint that it was made from, or one in a format that is taken (docs/models.md)"
# How each method's formats that are taken lay out the integers.
Layout = Literal["olive", "gptq", "gptq_v2", "gemm", "pack-quantized", "int-quantized"]


@dataclass(frozen=True)
class Scheme:
    """How the weights of a quantized checkpoint are stored.

    :param method: as quant_method in config.json names it
    :param group_size: -1 for one group a row
    :param symmetric: as the checkpoint says; that of Olive's format is that no zero points are stored
    """

    method: str
    layout: Layout
    bits: int
    group_size: int
    symmetric: bool


def of(config: Mapping) -> Scheme | None:
    """Return how a checkpoint is quantized, or None for plain weights.

    :param config: content of its config.json
    :raises UserError: if it is quantized in a way that is not taken
    """
    if KEY not in config:
        return None
    given = config[KEY]
    method = given.get("quant_method") if isinstance(given, dict) else None
    readers = {OLIVE: _olive, "gptq": _gptq, "awq": _awq, "compressed-tensors": _compressed_tensors}
    if method not in readers:
        raise refusal(str(method or "an unnamed method"), f"of which only {', '.join(sorted(readers))} are taken")
    scheme = readers[method](given)
    if scheme.bits not in BITS:
        raise refusal(method, f"in {scheme.bits} bits, but the pipeline stores 4 or 8")
    return scheme


def of_folder(folder: Path) -> Scheme | None:
    """Return how the checkpoint in a folder is quantized, or None for plain weights."""
    return of(checkpoints.read_object(folder / paths.CONFIG))


def settings(scheme: Scheme) -> str:
    """Say what params.yaml must have for the integers to be kept."""
    return (
        f"quantize.algorithm must be none, .bits {scheme.bits}, .group_size {scheme.group_size} and .symmetric "
        f"{str(scheme.symmetric).lower()}"
    )


def refusal(method: str, reason: str) -> UserError:
    """Return the sentence for a checkpoint that is not taken."""
    return UserError(f"the base model is quantized already by {method}, {reason}: {INSTEAD}")


def _olive(given: Mapping) -> Scheme:
    if given.get("overrides") or given.get("lm_head") or given.get("embeds") or given.get("modules_to_not_convert"):
        raise refusal(OLIVE, "but not all of its decoder layers, and nothing else, alike")
    return _scheme(OLIVE, OLIVE, given, given.get("symmetric"))


def _gptq(given: Mapping) -> Scheme:
    layout = given.get("checkpoint_format") or given.get("format") or "gptq"
    if layout not in ("gptq", "gptq_v2"):
        raise refusal("gptq", f"in the format {layout}, of which gptq and gptq_v2 are taken")
    if given.get("dynamic"):
        raise refusal("gptq", "with settings of their own for some layers (dynamic)")
    return _scheme("gptq", layout, given, given.get("sym", True))


def _awq(given: Mapping) -> Scheme:
    layout = str(given.get("version") or given.get("checkpoint_format") or given.get("format") or "gemm").lower()
    if layout != "gemm" or given.get("backend", "autoawq") == "llm-awq":
        raise refusal("awq", f"in the format {given.get('backend') or layout}, of which AutoAWQ's gemm is taken")
    return _scheme("awq", "gemm", given, not given.get("zero_point", True))


def _compressed_tensors(given: Mapping) -> Scheme:
    method = "compressed-tensors"
    layout = given.get("format")
    if layout not in ("pack-quantized", "int-quantized"):
        raise refusal(method, f"in the format {layout}, of which pack-quantized and int-quantized are taken")
    for key in ("transform_config", "sparsity_config", "kv_cache_scheme"):
        block = given.get(key) or {}
        if block and block.get("format") != "dense":
            raise refusal(method, f"with {key}, which is not taken")
    groups = given.get("config_groups")
    blocks = list(groups.values()) if isinstance(groups, dict) else []
    kinds = [block.get("weights") or {} for block in blocks if isinstance(block, dict)]
    if not kinds or any(kind != kinds[0] for kind in kinds):
        raise refusal(method, "with other settings for some layers than for the rest (config_groups)")
    for block in blocks:
        for key in ("input_activations", "output_activations"):
            if block.get(key) and not block[key].get("dynamic"):
                raise refusal(method, f"with {key} of fixed scales, which no graph here has")
    weights = kinds[0]
    if weights.get("type", "int") != "int" or weights.get("strategy") not in ("group", "channel"):
        raise refusal(
            method, f"as {weights.get('type')} by {weights.get('strategy')}, of which int by group or channel is taken"
        )
    named = {"bits": weights.get("num_bits"), "group_size": weights.get("group_size") or -1}
    return _scheme(method, layout, named, weights.get("symmetric", True))


def _scheme(method: str, layout: Layout, given: Mapping, symmetric: object) -> Scheme:
    bits, group_size = given.get("bits"), given.get("group_size")
    if not isinstance(bits, int) or not isinstance(group_size, int):
        raise refusal(method, f"with bits {bits!r} and group_size {group_size!r}, which are no numbers")
    return Scheme(method, layout, bits, group_size, bool(symmetric))
