"""params.yaml as a whole: read, and checked before anything runs."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from press.core import paths
from press.core.errors import UserError
from press.params import reading, recorded, resolving
from press.params.providers import INPUTS
from press.params.schema import (
    PATTERNS,
    Adapter,
    Base,
    Block,
    DataSet,
    Evaluate,
    Name,
    Package,
    Passes,
    Quantize,
    Target,
)

T = TypeVar("T")

# What has a meaning of its own among the metrics or in the chat.
RESERVED = {"bare", "bytes", "general", "none", "package", "tasks"}


class Settings(Block):
    """params.yaml as a whole, laid over the defaults."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    threads: Annotated[int, Field(ge=1, le=4096)]
    device: Literal["auto", "cpu", "cuda"]
    arithmetic: Literal["portable", "native"]
    base: Base
    data_sets: dict[Name, DataSet]
    quantize: Quantize
    passes: Passes
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
    def data_is_the_project_s(self) -> "Settings":
        named = {
            "quantize.calibration.data": self.quantize.calibration.data,
            "evaluate.general.data": self.evaluate.general.data,
            "evaluate.tasks.folder": self.evaluate.tasks.folder,
        } | {f"adapters.{name}.data": adapter.data for name, adapter in self.adapters.items()}
        for key, path in named.items():
            if place := paths.outside(Path(path)):
                raise ValueError(
                    f"{key} names {path}, which is out of the project, at {place}: copy it in, since nobody else who "
                    "builds this has it there"
                )
        return self

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
    def graphs_are_one(self) -> "Settings":
        parted = [name for name, target in self.targets.items() if target.device == "npu"]
        if self.passes.after_capture and parted:
            raise ValueError(
                f"passes.after_capture names {self.passes.after_capture[0].type}, but the graph of targets.{parted[0]} "
                "is in parts, as an npu needs it: leave after_capture empty, or build this target alone without it"
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

    @model_validator(mode="after")
    def integers_stay_as_they_are(self) -> "Settings":
        if self.quantize.algorithm != "none":
            return self
        why = "quantize.algorithm is none, which keeps the base model's own integers"
        if self.passes.before_quantize:
            raise ValueError(
                f"passes.before_quantize names {self.passes.before_quantize[0].type}, which changes weights in floats, "
                f"but {why}: leave before_quantize empty"
            )
        for name, target in self.targets.items():
            if target.adapters == "merged":
                raise ValueError(
                    f"targets.{name}.adapters is merged, which quantizes the base again with each adapter, but {why}: "
                    "choose lora or dora"
                )
        return self

    def adapter(self, name: str) -> Adapter:
        """Return an adapter's block by its name."""
        return _member(self.adapters, name, "adapters")

    def target(self, name: str) -> Target:
        """Return a target's block by its name."""
        return _member(self.targets, name, "targets")


def load(path: Path = paths.PARAMS) -> Settings:
    """Read and validate params.yaml over the defaults, or raise UserError with one sentence for each mistake."""
    return validated(resolving.Resolved(path))


def validated(resolved: resolving.Resolved) -> Settings:
    """Return the values of params.yaml and the defaults as their types; raise UserError as `load` does."""
    return reading.validated(Settings, resolved.values, PATTERNS, resolved.path, resolved.written)


def checked() -> Settings:
    """Return the parameters as `check` wrote them down, by which DVC takes a stage to run; where none are, as `load`.

    :raises UserError: if params.yaml or the defaults say something else by now
    """
    if not paths.RESOLVED.exists():
        return load()
    if differing := recorded.differing(resolving.Resolved().values):
        raise UserError(
            f"what {paths.PARAMS} says is not what {differing} has: run `dvc repro` without --single-item, or `dvc "
            "repro check` first"
        )
    return reading.validated(Settings, recorded.read(), PATTERNS, paths.RESOLVED)


def _member(members: dict[str, T], name: str, block: str) -> T:
    if name not in members:
        raise UserError(f"{paths.PARAMS}: {block} has no {name!r}, only {', '.join(members)}")
    return members[name]
