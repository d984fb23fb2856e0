"""The types of params.yaml: every knob and its bounds."""

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from jsonschema import Draft202012Validator, SchemaError
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from press import mistakes
from press.errors import UserError
from press.templates import check_template

PARAMS = Path("params.yaml")

NAME = r"^[a-z0-9][a-z0-9_-]*$"
SHA256 = r"^[0-9a-f]{64}$"

Name = Annotated[str, Field(pattern=NAME)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]

# What has a meaning of its own among the metrics or in the chat.
RESERVED = {"bytes", "none", "package"}
# Blocks that say nothing about what is built: those who read them check them.
OUTSIDE = {"publish", "search", "signing"}

PROVIDERS = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "gpu",
    "DmlExecutionProvider": "gpu",
    "WebGpuExecutionProvider": "gpu",
    "NvTensorRTRTXExecutionProvider": "gpu",
}

# The others have no kernel that looks an embedding up in int8.
INT8_PROVIDERS = ("CPUExecutionProvider", "CUDAExecutionProvider", "WebGpuExecutionProvider")

PATTERNS = {
    NAME: "a folder name: lower-case letters, digits, - and _",
    SHA256: "a SHA-256: 64 hexadecimal digits in lower case",
}


class Block(BaseModel):
    """A block of params.yaml; unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class PackageSource(Block):
    name: str
    version: str
    sha256: Annotated[str, Field(pattern=SHA256)]
    gguf: str


class LocalSource(Block):
    path: str
    sha256: str


class HubSource(Block):
    id: str
    revision: str


class AzuremlSource(Block):
    uri: str


class RandomSource(Block):
    config: dict[str, JsonValue]


class Base(Block):
    source: Literal["package", "local", "hub", "azureml", "random"]
    package: PackageSource
    local: LocalSource
    hub: HubSource
    azureml: AzuremlSource
    random: RandomSource
    trust_remote_code: bool

    @model_validator(mode="after")
    def chosen_source_is_complete(self) -> "Base":
        if self.source == "local" and not self.local.path:
            raise ValueError("base.local.path is empty, but base.source is local: name the checkpoint's folder")
        if self.source == "hub":
            if not self.hub.id:
                raise ValueError("base.hub.id is empty, but base.source is hub: name a model, such as owner/model")
            if not re.fullmatch(r"[0-9a-f]{40}", self.hub.revision):
                raise ValueError(
                    f"base.hub.revision is {self.hub.revision!r}, but must be a full commit hash (40 hexadecimal "
                    "digits), since a branch or a tag can move"
                )
        pattern = r"azureml://registries/[^/]+/models/[^/]+/versions/[^/]+"
        if self.source == "azureml" and not re.fullmatch(pattern, self.azureml.uri):
            raise ValueError(
                f"base.azureml.uri is {self.azureml.uri!r}, but must look like "
                "azureml://registries/REGISTRY/models/NAME/versions/VERSION"
            )
        return self


class Calibration(Block):
    data: str
    rows: Positive
    row_tokens: Annotated[int, Field(ge=16)]


class Awq(Block):
    grid_points: Annotated[int, Field(ge=3)]
    search_rows: Positive
    clip: bool
    clip_modules: Annotated[list[str], Field(min_length=1)] | None
    rounding: Literal["compensated", "nearest"]
    damping: Annotated[float, Field(gt=0, lt=1)]


class Quantize(Block):
    algorithm: Literal["awq", "rtn", "gptq", "kquant"]
    bits: Literal[4, 8]
    group_size: Literal[16, 32, 64, 128, 256]
    symmetric: bool
    awq: Awq
    calibration: Calibration


class Lora(Block):
    method: Literal["lora", "rslora", "dora"]
    rank: Positive
    alpha: Annotated[float, Field(gt=0)]
    dropout: Fraction
    target_modules: Annotated[list[str], Field(min_length=1)]


class Training(Block):
    max_steps: Positive
    batch_size: Positive
    gradient_accumulation: Positive
    gradient_checkpointing: bool
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    response_only: bool
    checkpoint_every: Positive


class Adapter(Block):
    data: str
    template: str
    max_seq_len: Annotated[int, Field(ge=8)]
    too_long: Literal["error", "skip", "truncate"]
    heldout: Annotated[float, Field(gt=0, le=0.5)]
    response_schema: dict | None
    samples: list[str]
    lora: Lora
    training: Training

    @field_validator("template")
    @classmethod
    def template_ends_with_the_answer(cls, template: str) -> str:
        check_template(template)
        return template

    @field_validator("response_schema")
    @classmethod
    def schema_is_json_schema(cls, schema: dict | None) -> dict | None:
        try:
            Draft202012Validator.check_schema(schema or {})
        except SchemaError as error:
            raise ValueError(f"not a JSON Schema at {error.json_path}: {error.message}") from error
        return schema


class Target(Block):
    device: Literal["cpu", "gpu"]
    provider: Literal[tuple(PROVIDERS)]
    precision: Literal["int8", "int4", "float"]
    block_size: Literal[16, 32, 64, 128, 256]
    accuracy_level: Annotated[int, Field(ge=0, le=4)]

    @model_validator(mode="after")
    def device_has_provider(self) -> "Target":
        if PROVIDERS[self.provider] != self.device:
            fitting = [provider for provider, device in PROVIDERS.items() if device == self.device]
            raise ValueError(
                f"provider is {self.provider}, but device {self.device} can have only {' or '.join(fitting)}"
            )
        return self

    @model_validator(mode="after")
    def provider_has_kernels(self) -> "Target":
        if self.precision == "int8" and self.provider not in INT8_PROVIDERS:
            raise ValueError(
                f"precision is int8, but {self.provider} has no kernel for an embedding in int8, only "
                f"{', '.join(INT8_PROVIDERS[:-1])} and {INT8_PROVIDERS[-1]} have: choose int4 or float"
            )
        return self


class Evaluate(Block):
    max_new_tokens: Positive


class Package(Block):
    name: Name
    description: str


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

    @field_validator("adapters")
    @classmethod
    def names_are_free(cls, adapters: dict[str, Adapter]) -> dict[str, Adapter]:
        for name in RESERVED & set(adapters):
            raise ValueError(f"{name!r} has a meaning of its own, in the chat or the metrics: choose another name")
        return adapters

    @field_validator("adapters")
    @classmethod
    def graphs_take_them(cls, adapters: dict[str, Adapter]) -> dict[str, Adapter]:
        for name, adapter in adapters.items():
            if adapter.lora.method == "dora":
                raise ValueError(
                    f"adapters.{name}.lora.method is dora, but every target takes adapters as two low-rank matrices a "
                    "projection, and dora also scales the rows of the base's weights: choose lora or rslora"
                )
        return adapters

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
        sentences = [mistakes.sentence(detail, Settings, PATTERNS) for detail in error.errors()]
        raise UserError("\n".join(f"{path}: {each}" for each in sentences)) from error


def _sorted(value: object) -> object:
    """Sort the keys of all blocks: their order means nothing to DVC, so that no output may depend on it."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value


def _member(members: dict, name: str, block: str) -> BaseModel:
    if name not in members:
        raise UserError(f"{PARAMS}: {block} has no {name!r}, only {', '.join(members)}")
    return members[name]
