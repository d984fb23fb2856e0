"""What goes over the wire: the part of OpenAI's chat completions that a package can do, as pydantic types.

A parameter that would change an answer, and that the runtime does not have, is refused, not left out in silence; null
stands for a parameter that is not given.
"""

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from press.data import strict_json
from press.model import packaged
from press.serve.errors import RefusedError

MESSAGES = 1000
STOPS = 16
# The names of roles and models, and of stop texts.
LONGEST = 200
# Without other words, JSON is written as most of it is; llguidance would take any number of blanks between two tokens.
OPTIONS = "x-guidance"
# What an adapter, or its folder, may be called: no path, and nothing that a path or a log reads otherwise.
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
NULL = {"type": "null"}
WRITTEN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def _of(*kinds: type) -> BeforeValidator:
    """Return what refuses a value of another type, which Python would take for an equal one: 0 for false."""

    def check(value: Any) -> Any:
        if type(value) not in kinds:
            raise ValueError("it is of another type")
        return value

    return BeforeValidator(check)


Off = Annotated[Literal[False], _of(bool)]


class Part(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(core_schema)
        described = handler.resolve_ref_schema(found)
        for name, each in described.get("properties", {}).items():
            if name not in described.get("required", []) and NULL not in each.get("anyOf", []):
                described["properties"][name] = {"anyOf": [each, NULL]}
        return found


class TextPart(Part):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(Part):
    """A turn of a conversation; `developer` is another word for `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: Annotated[str, Field(max_length=LONGEST, description="has no effect")] = ""
    reasoning_content: Annotated[str, Field(description="has no effect: a model is not told what it thought")] = ""

    def text(self) -> str:
        """Return what the turn says."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    def turn(self) -> dict[str, str]:
        """Return the turn as chat templates take it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text()}


class NamedSchema(Part):
    """A JSON Schema."""

    name: Annotated[str, Field(max_length=LONGEST)]
    description: str = ""
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: Annotated[bool, Field(description="has no effect: answers are held to the schema either way")] = True


class FreeText(Part):
    """An answer that no schema holds, the adapter's neither."""

    type: Literal["text"]


class AnyObject(Part):
    """An answer that is a JSON object."""

    type: Literal["json_object"]


class OfSchema(Part):
    """An answer that satisfies a JSON Schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class StreamOptions(Part):
    """What a stream has beside the answer."""

    include_usage: bool = False
    include_obfuscation: Off = False


QUESTION = {"role": "user", "content": "a week in Rome"}
EXAMPLE: dict[str, Any] = {"model": "base", "messages": [QUESTION], "max_tokens": 16}


class ChatRequest(Part):
    """A request for a chat completion."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    model: Annotated[str, Field(min_length=1, max_length=LONGEST, description="an adapter, or the bare model")]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="0 is greedy")] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=0, le=10**6)] = None
    repetition_penalty: Annotated[float | None, Field(ge=0.01, le=100)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: str | Annotated[list[Annotated[str, Field(min_length=1, max_length=LONGEST)]], Field(max_length=STOPS)] = []
    response_format: Annotated[FreeText | AnyObject | OfSchema | None, Field(discriminator="type")] = None
    # What has one value here, so that clients which always send it are answered.
    n: Annotated[Literal[1], _of(int, float)] = 1
    logprobs: Off = False
    presence_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    store: Off = False
    # What changes no answer.
    user: Annotated[str, Field(description="has no effect")] = ""
    safety_identifier: Annotated[str, Field(description="has no effect")] = ""
    metadata: Annotated[dict[str, str], Field(description="has no effect")] = {}

    def most(self) -> int | None:
        """Return how many tokens the answer may have, if that is said."""
        return self.max_completion_tokens or self.max_tokens

    def stops(self) -> list[str]:
        """Return the texts that end the answer."""
        return [each for each in ([self.stop] if isinstance(self.stop, str) else self.stop) if each]

    def own_schema(self) -> dict | None:
        """Return the schema that the request itself brings for the answer."""
        match self.response_format:
            case AnyObject():
                return {OPTIONS: WRITTEN, "type": "object"}
            case OfSchema(json_schema=named):
                return {OPTIONS: WRITTEN, **named.schema_}
        return None


class PromptDetails(BaseModel):
    """Tokens of the prompt that were read for an earlier answer."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Said(BaseModel):
    """The whole answer."""

    role: Literal["assistant"] = "assistant"
    reasoning_content: Annotated[str | None, Field(description="what it thought before, if it did")] = None
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The answer, and how it ended: by itself, or as it had all tokens that it may have."""

    index: Literal[0] = 0
    message: Said
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """An answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Delta(BaseModel):
    """What comes to an answer."""

    role: Literal["assistant"] | None = None
    reasoning_content: str | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """What comes to an answer, and in the end how it ended."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None = None


class Chunk(BaseModel):
    """An event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class ModelCard(BaseModel):
    """What `model` may name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All that `model` may name."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class AdapterRequest(Part):
    """A request for an adapter to be loaded."""

    name: Annotated[str, Field(pattern=f"^{NAME}$", description="what `model` will name")]
    folder: Annotated[
        str, Field(pattern=f"^({NAME})?$", description="its folder among the operator's; that of its name by default")
    ] = ""


class AdapterCard(BaseModel):
    """An adapter that is loaded."""

    id: str
    object: Literal["adapter"] = "adapter"
    folder: Annotated[str | None, Field(description="among the operator's; null for one of the package")]
    file_sha256: str | None
    base_sha256: str


class AdapterList(BaseModel):
    """All adapters that are loaded."""

    object: Literal["list"] = "list"
    data: list[AdapterCard]


class Unloaded(BaseModel):
    """An adapter that is loaded no more."""

    id: str
    object: Literal["adapter.deleted"] = "adapter.deleted"
    deleted: Literal[True] = True


class ErrorDetail(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """Why a request is not answered."""

    error: ErrorDetail


Asked = TypeVar("Asked", bound=Part)


def parse(body: bytes, kind: type[Asked]) -> Asked:
    """Return the request of a kind that a body says.

    :raises RefusedError: if it says none
    """
    try:
        value = strict_json.parse(body.decode())
    except ValueError as error:
        wrong = "not in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise RefusedError(f"the body is {wrong}", code="invalid_json") from error
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> RefusedError:
    """Return the first thing that is wrong with a request, without the value, which may be a secret or long."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(map(str, first["loc"])) or None
    if first["type"] == "extra_forbidden":
        return RefusedError(f"{param} is no parameter of this server", param=param, code="unsupported_parameter")
    return RefusedError(f"{param or 'the body'}: {first['msg']}", param=param, code="invalid_value")


def checked(schema: dict) -> str:
    """Return a client's schema as text.

    :raises RefusedError: if it is too long, or would not hold answers to all of it
    """
    text = json.dumps(schema)
    if len(text) > packaged.LONGEST_SCHEMA:
        raise RefusedError(
            f"the schema has {len(text)} characters, but may have {packaged.LONGEST_SCHEMA}", param="response_format"
        )
    options = schema.get(OPTIONS)
    if not isinstance(options, dict) or options.get("lenient"):
        raise RefusedError(f"{OPTIONS} is not what llguidance takes, or lenient", param="response_format")
    return text
