"""Run Olive for a stage: the exact config kept as a report, no cache, and a failure that is one."""

import copy
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from press.core import files, paths
from press.core.errors import UserError
from press.model import checkpoints

if TYPE_CHECKING:
    from olive.model import ModelConfig

CONFIG = "run.json"
MODEL_CONFIG = "model_config.json"
# Olive's name for a model of transformers.
HF_MODEL = "HfModel"
WARNING = 2


class _Failures(logging.Handler):
    """Keep the exceptions that Olive's engine logs and swallows, and keep them off the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.exceptions: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.exceptions.append(record.exc_info[1])

    @staticmethod
    def filter_out(record: logging.LogRecord) -> bool:
        return not record.exc_info


def hf_model(folder: Path, trust: bool = False) -> dict:
    """Return Olive's input_model block for a Hugging Face checkpoint.

    :param trust: whether the checkpoint's own Python code may run: base.trust_remote_code
    """
    model = {"type": HF_MODEL, "model_path": str(folder)}
    return {**model, "load_kwargs": {"trust_remote_code": True}} if trust else model


def run(input_model: dict, passes: dict[str, dict], building: Path, target: dict | None = None) -> Path:
    """Run Olive passes on a model and return the folder with the result, below `building`.

    There a Hugging Face model is in `model`, its adapter in `adapter`, and an ONNX model in the folder itself.

    The config is left there too, for keep_config. Olive's own cache would answer across library versions, so
    that every run gets a new one.

    :param input_model: Olive's input_model block
    :param passes: Olive's passes block
    :param building: an existing folder for the run's cache and outputs
    :param target: Olive's accelerator block (device and execution_providers); None leaves it to Olive
    :raises UserError: if a pass refused its input
    """
    config = configure(input_model, passes, building, target)
    failure = _run(config)
    if isinstance(failure, UserError):
        raise failure
    result = building / "olive"
    if failure or not (result / MODEL_CONFIG).exists():
        raise RuntimeError(f"Olive gave no model by {', '.join(passes)}: {_reason(failure)}") from failure
    for leftover in (MODEL_CONFIG, "footprint.json", "output_footprint.json", "run_history.txt"):
        files.remove(result / leftover)
    return result


def configure(input_model: dict, passes: dict[str, dict], building: Path, target: dict | None = None) -> dict[str, Any]:
    """Return the config of a run as `run` takes it, and leave it in `building` for keep_config."""
    config: dict[str, Any] = {"input_model": input_model}
    if target:
        config |= {
            "systems": {"target": {"type": "LocalSystem", "accelerators": [target]}},
            "host": "target",
            "target": "target",
        }
    config |= {
        "passes": passes,
        "cache_dir": str(building / "cache"),
        "output_dir": str(building / "olive"),
        "log_severity_level": WARNING,
    }
    files.write_json(building / CONFIG, config)
    return config


def load() -> None:
    """Import Olive, which takes seconds."""
    import olive.workflows  # noqa: F401


def keep_config(building: Path, name: str) -> None:
    """Keep a run's config as reports/olive/NAME.json.

    It runs by hand: `olive run --package-config passes/olive.json --config reports/olive/NAME.json`, or where it has
    passes of params.yaml, with what `python -m press.model.olive_run` prints as the package config.
    """
    files.write_json(paths.OLIVE_RUNS / f"{name}.json", files.read_json(building / CONFIG))


def registry() -> dict[str, Any]:
    """Return Olive's own registry of passes, with those of passes/olive.json."""
    from olive.package_config import OlivePackageConfig

    own = files.read_json(Path(OlivePackageConfig.get_default_config_path()))
    return own | {"passes": own["passes"] | files.read_json(paths.OLIVE_PACKAGE)["passes"]}


def _undigested(model: dict) -> "ModelConfig":
    """Return an input model by whose bytes Olive does not name its results.

    It would read all of them, for a cache that is empty.
    """
    from olive.common.constants import LOCAL_INPUT_MODEL_ID
    from olive.model import ModelConfig

    class Undigested(ModelConfig):
        def get_model_id(self) -> str:
            return LOCAL_INPUT_MODEL_ID

    return Undigested(**model)


def _reason(failure: BaseException | None) -> str:
    """Return a library's own error in one line."""
    if failure is None:
        return "it gives no reason but those that it printed"
    return f"{type(failure).__name__}: {' '.join(str(failure).split())}"


def _run(config: dict) -> BaseException | None:
    """Run Olive and return the exception that it raised or swallowed, if any."""
    import olive.logging  # noqa: F401 - sets up the handlers that are filtered here
    from olive.common.hf.wrapper import LayerWrapper, ModelWrapper
    from olive.workflows import run as run_workflow

    given = config["input_model"]
    if given["type"] == HF_MODEL:
        checkpoints.set_experts_apart(checkpoints.read_object(Path(given["model_path"]) / paths.CONFIG))
    # What architectures call their modules, which Olive does not know.
    LayerWrapper.MLP.setdefault("granitemoehybrid", "shared_mlp")
    for table in (*vars(LayerWrapper).values(), *vars(ModelWrapper).values()):
        if isinstance(table, dict) and "lfm2" in table:
            table.setdefault("lfm2_moe", table["lfm2"])
    failures = _Failures()
    logger = logging.getLogger("olive")
    shown = list(logger.handlers)
    for handler in shown:
        handler.addFilter(failures.filter_out)
    logger.addHandler(failures)
    # Olive writes into what it is given.
    own = copy.deepcopy(config) | {"input_model": _undigested(given)}
    try:
        run_workflow(own, package_config=registry())
    except Exception as error:  # noqa: BLE001 - some of its failures Olive raises, some it only logs
        return error
    finally:
        logger.removeHandler(failures)
        for handler in shown:
            handler.removeFilter(failures.filter_out)
    return failures.exceptions[0] if failures.exceptions else None


if __name__ == "__main__":
    print(files.json_text(registry()))
