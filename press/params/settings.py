"""params.yaml as a whole: read, and checked before anything runs."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from press.core.errors import UserError
from press.params import sentences
from press.params.providers import INPUTS
from press.params.schema import PATTERNS, Adapter, Base, Block, Evaluate, Name, Package, Positive, Quantize, Target

PARAMS = Path("params.yaml")

# What has a meaning of its own among the metrics or in the chat.
RESERVED = {"bare", "bytes", "general", "none", "package", "tasks"}
# Blocks that say nothing about what is built: those who read them check them.
OUTSIDE = {"publish", "search", "signing"}


class Settings(Block):
    """params.yaml as a whole."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    threads: Positive
    device: Literal["auto", "cpu", "cuda"]
    base: Base
    quantize: Quantize
    adapters: Annotated[dict[Name, Adapter], Field(min_length=1)]
    targets: Annotated[dict[Name, Target], Field(min_length=1)]
    evaluate: Evaluate
    gates: list[str]
    package: Package

    @field_validator("evaluate")
    @classmethod
    def general_text_is_unseen(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        quantize, data = info.data.get("quantize"), evaluate.general.data
        if quantize and Path(data) == Path(quantize.calibration.data):
            raise ValueError(
                f"evaluate.general.data is {data}, which is quantize.calibration.data: choose a text that the "
                "quantizer does not see"
            )
        return evaluate

    @field_validator("adapters")
    @classmethod
    def names_are_free(cls, adapters: dict[str, Adapter]) -> dict[str, Adapter]:
        for name in RESERVED & set(adapters):
            raise ValueError(f"{name!r} has a meaning of its own, in the chat or the metrics: choose another name")
        return adapters

    @model_validator(mode="after")
    def graphs_take_adapters(self) -> "Settings":
        dora = [name for name, adapter in self.adapters.items() if adapter.lora.method == "dora"]
        plain = [name for name, target in self.targets.items() if target.adapters == INPUTS]
        if dora and plain:
            raise ValueError(
                f"adapters.{dora[0]}.lora.method is dora, which also scales the rows of the base's weights, but "
                f"targets.{plain[0]}.adapters is {INPUTS}, whose graph has no input for that: choose dora or merged"
            )
        return self

    @model_validator(mode="after")
    def tensorrt_reads_the_weights(self) -> "Settings":
        for name, target in self.targets.items():
            if target.provider != "NvTensorRTRTXExecutionProvider":
                continue
            method = self.quantize.mixed_precision.method
            for key, value, needed in (
                ("bits", self.quantize.bits, 4),
                ("mixed_precision.method", method, "none"),
                ("symmetric", self.quantize.symmetric, True),
            ):
                if value != needed:
                    raise ValueError(
                        f"quantize.{key} is {str(value).lower()}, but targets.{name}.provider is {target.provider}, "
                        f"which reads symmetric weights of 4 bits only: choose {str(needed).lower()}"
                    )
        return self

    def adapter(self, name: str) -> Adapter:
        """Return an adapter's block by its name."""
        return _member(self.adapters, name, "adapters")

    def target(self, name: str) -> Target:
        """Return a target's block by its name."""
        return _member(self.targets, name, "targets")


def load(path: Path = PARAMS) -> Settings:
    """Read and validate params.yaml, or raise UserError with one sentence for each mistake."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run this in the project's folder") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}"
        raise UserError(f"{path} is not valid YAML at {where}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must be a block of keys: {', '.join(Settings.model_fields)}")
    try:
        return Settings.model_validate(_sorted({key: value for key, value in values.items() if key not in OUTSIDE}))
    except ValidationError as error:
        found = [sentences.sentence(detail, Settings, PATTERNS) for detail in error.errors()]
        raise UserError("\n".join(f"{path}: {each}" for each in found)) from error


def _sorted(value: object) -> object:
    """Sort the keys of all blocks: their order means nothing to DVC, so that no output may depend on it."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value


def _member(members: dict, name: str, block: str) -> BaseModel:
    if name not in members:
        raise UserError(f"{PARAMS}: {block} has no {name!r}, only {', '.join(members)}")
    return members[name]
