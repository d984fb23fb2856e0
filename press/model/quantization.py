"""Quantize a checkpoint's linear layers by Olive's passes."""

import shutil
from pathlib import Path
from typing import Any

from press.core import arithmetic, nested, paths
from press.core.errors import UserError
from press.model import checkpoints, device, launcher, olive_passes, olive_run, quantized_formats
from press.params import schema
from press.params.mixed_precision import HIGH_BITS

# Olive's pass for each `quantize.algorithm` but KEEP, for a base model's own integers.
PASSES = {"awq": "Awq", "rtn": "Rtn", "gptq": "Gptq", "kquant": "KQuant"}
KEEP = "none"
# What lowers the memory that it needs.
KNOBS = "quantize.calibration.rows or .row_tokens"


def quantize(
    params: schema.Quantize,
    base: Path,
    building: Path,
    seed: int,
    trust: bool = False,
    others: schema.Passes | None = None,
    mode: str = arithmetic.NATIVE,
) -> Path:
    """Quantize the checkpoint in `base`; return the folder of the result, below `building`.

    :param trust: whether the checkpoint's own Python code may run
    :param others: passes of Olive's own, of which those before and after are run
    :param mode: of arithmetic, for the processes that awq may start
    :raises UserError: if the model has experts that cannot be so quantized, the group size does not divide a layer's
        width, the base is quantized already and is not to stay so, or one of the passes breaks the model
    """
    check_experts(params, base)
    check_already_quantized(params, quantized_formats.of_folder(base))
    if params.algorithm != KEEP:
        check_group_size(params.group_size, base)
    before, after = (around(place, params, base, others, trust) for place in ("before_quantize", "after_quantize"))
    model, own = olive_run.hf_model(base, trust), passes(params, base, seed, trust)
    start = _applied("before_quantize", before, model, building, trust)
    if (processes := device.quantizing_processes(params)) > 1:
        own["quantize"]["processes"] = processes
        quantized = launcher.run(start, own, building, processes, KNOBS, mode, "the quantization") / "model"
    else:
        quantized = olive_run.run(start, own, building) / "model" if own else _kept(base, model, building)
    checkpoints.load(quantized, trust=trust)
    end = _applied("after_quantize", after, {**start, "model_path": str(quantized)}, building, trust)
    if before or after:
        # All of them as one run, since those above name folders that are gone by then.
        olive_run.configure(model, before | own | after, building)
    return Path(end["model_path"])


def check_already_quantized(params: schema.Quantize, scheme: quantized_formats.Scheme | None) -> None:
    """Refuse to quantize integers again, and to keep what are none or others than params.yaml says.

    :param scheme: how the base is quantized, if it is
    """
    if scheme is None:
        if params.algorithm == KEEP:
            raise UserError(
                f"quantize.algorithm is {KEEP}, which keeps a base model's own integers, but the base model is not "
                f"quantized: choose {', '.join(PASSES)}"
            )
        return
    named = {"bits": scheme.bits, "group_size": scheme.group_size, "symmetric": scheme.symmetric}
    if params.algorithm != KEEP or any(getattr(params, key) != value for key, value in named.items()):
        raise UserError(
            f"the base model is quantized already, which is not done twice: {quantized_formats.settings(scheme)}"
        )


def _kept(base: Path, model: dict, building: Path) -> Path:
    """Copy a base that is quantized already, as a run of Olive without a pass would."""
    olive_run.configure(model, {}, building)
    return Path(shutil.copytree(base, building / "olive/model"))


def around(
    place: str, params: schema.Quantize, base: Path, others: schema.Passes | None, trust: bool = False
) -> dict[str, dict]:
    """Return Olive's passes block of what params.yaml names before or after the quantizer."""
    given = getattr(others, place) if others else []
    return olive_passes.blocks(place, given, calibration_config(params.calibration, base, trust)) if given else {}


def _applied(place: str, given: dict[str, dict], model: dict, building: Path, trust: bool) -> dict:
    # NumPy, which only a pass needs here.
    from press.model import parity

    def finish(before: Path, result: Path) -> tuple[Path, float]:
        return result / "model", parity.check_checkpoints(before, result / "model", trust)

    return olive_passes.apply(place, given, model, building, finish)


def passes(params: schema.Quantize, base: Path, seed: int, trust: bool = False) -> dict[str, dict]:
    """Return Olive's passes: the quantizer, and before it what chooses the layers of higher precision; or none.

    :param base: a checkpoint with the tokenizer for the calibration text
    :param trust: whether its own Python code may run
    """
    if params.algorithm == KEEP:
        return {}
    chosen = {"quantize": _quantizer(params, base, seed, trust)}
    if params.mixed_precision.method == "none":
        return chosen
    return {"precision": _mixed_precision(params), **chosen}


def _mixed_precision(params: schema.Quantize) -> dict:
    return {
        "type": "SelectiveMixedPrecision",
        "algorithm": params.mixed_precision.method,
        # The share of the weights that stay in lower precision.
        "ratio": round(1 - params.mixed_precision.share, 6),
        "bits": params.bits,
        "high_bits": HIGH_BITS,
        "group_size": params.group_size,
        "sym": params.symmetric,
    }


def _quantizer(params: schema.Quantize, base: Path, seed: int, trust: bool) -> dict:
    block: dict[str, Any] = {
        "type": PASSES[params.algorithm],
        "bits": params.bits,
        "group_size": params.group_size,
        "sym": params.symmetric,
    }
    if params.algorithm in ("awq", "gptq"):
        block["data_config"] = calibration_config(params.calibration, base, trust)
    if params.algorithm == "awq":
        calibration = {"rows": params.calibration.rows, "row_tokens": params.calibration.row_tokens}
        block |= nested.in_order(params.awq.model_dump(exclude={"processes"})) | calibration | {"seed": seed}
    return block


def calibration_config(calibration: schema.Calibration, base: Path, trust: bool = False) -> dict:
    """Return Olive's data config of the calibration rows.

    :param base: a checkpoint with their tokenizer
    :param trust: whether its own Python code may run
    """
    rows = {
        "type": "calibration_rows",
        "params": {
            "path": calibration.data,
            "model_path": str(base),
            "rows": calibration.rows,
            "row_tokens": calibration.row_tokens,
            **({"trust_remote_code": True} if trust else {}),
        },
    }
    return {"name": "calibration", "user_script": "passes/data.py", "load_dataset_config": rows}


def check_experts(params: schema.Quantize, base: Path) -> None:
    """Refuse what the runtime's operator for experts does not compute."""
    if not checkpoints.has_experts(checkpoints.read_object(base / paths.CONFIG)):
        return
    if params.bits != 4:
        raise UserError(
            f"quantize.bits is {params.bits}, but ONNX Runtime's product of experts is exact for 4 bits alone, and off "
            "by a hundredth for 8: set it to 4"
        )
    if params.mixed_precision.method != "none":
        raise UserError(
            f"quantize.mixed_precision.method is {params.mixed_precision.method}, but the experts of a layer, of which "
            "ONNX Runtime makes one product, must be alike: set it to none"
        )


def check_group_size(group_size: int, base: Path) -> None:
    """Refuse a group size that does not divide the input width of a linear layer."""
    for name, shape in checkpoints.weight_shapes(base).items():
        is_linear = ".layers." in name and len(shape) == 2
        if is_linear and shape[1] % group_size:
            fitting = [size for size in (16, 32, 64, 128, 256) if shape[1] % size == 0]
            raise UserError(
                f"quantize.group_size is {group_size}, but {name.removesuffix('.weight')} is {shape[1]} wide: "
                f"choose one that divides it, {' or '.join(map(str, fitting)) or 'none does'}"
            )
