"""What goes over the wire: the part of OpenAI's chat completions that a package can do, as pydantic types.

A parameter that would change an answer, and that the runtime does not have, is refused, not left out in silence; null
stands for a parameter that is not given.
"""

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from press.data import strict_json
from press.model import packaged
from press.serve import tools
from press.serve.conversation import LONGEST, TOOLS, ChosenTool, Function, Message, Part, Tool
from press.serve.errors import RefusedError

MESSAGES = 1000
STOPS = 16
TOPS = 20
# Without other words, JSON is written as most of it is; llguidance would take any number of blanks between two tokens.
OPTIONS = "x-guidance"
# What an adapter, or its folder, may be called: no path, and nothing that a path or a log reads otherwise.
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
WRITTEN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def _of(*kinds: type) -> BeforeValidator:
    """Return what refuses a value of another type, which Python would take for an equal one: 0 for false."""

    def check(value: Any) -> Any:
        if type(value) not in kinds:
            raise ValueError("it is of another type")
        return value

    return BeforeValidator(check)


Off = Annotated[Literal[False], _of(bool)]


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


Choice = Literal["none", "auto", "required"] | ChosenTool
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
    tools: Annotated[list[Tool], Field(min_length=1, max_length=TOOLS)] | None = None
    tool_choice: Annotated[Choice, Field(validate_default=True)] = "auto"
    parallel_tool_calls: Annotated[bool, Field(description="a call that must be made is one")] = True
    logprobs: bool = False
    top_logprobs: Annotated[int | None, Field(ge=0, le=TOPS)] = None
    # What has one value here, so that clients which always send it are answered.
    n: Annotated[Literal[1], _of(int, float)] = 1
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

    @field_validator("tools")
    @classmethod
    def _names_are_different(cls, tools: list[Tool] | None) -> list[Tool] | None:
        names = [tool.function.name for tool in tools or []]
        if len(set(names)) < len(names):
            raise ValueError("two functions have the same name")
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _goes_with_tools(cls, choice: Choice, info: ValidationInfo) -> Choice:
        functions = [tool.function for tool in info.data.get("tools") or []]
        if isinstance(choice, ChosenTool) and choice.function.name not in [each.name for each in functions]:
            raise ValueError("it names none of the tools")
        if choice == "required" and not functions:
            raise ValueError("there are no tools")
        if not functions or choice == "none":
            return choice
        if isinstance(info.data.get("response_format"), AnyObject | OfSchema):
            raise ValueError("tools and a response_format other than text do not go together")
        if choice == "auto" and any(each.strict for each in functions):
            raise ValueError("strict holds where a call is a must: required or a function here, or strict is false")
        return choice

    @field_validator("logprobs")
    @classmethod
    def _is_of_a_text(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and info.data.get("tools") and info.data.get("tool_choice") != "none":
            raise ValueError("there are none of calls of tools")
        return wanted

    @field_validator("top_logprobs")
    @classmethod
    def _has_logprobs(cls, number: int | None, info: ValidationInfo) -> int | None:
        if number is not None and not info.data.get("logprobs"):
            raise ValueError("it needs logprobs")
        return number

    def tops(self) -> int | None:
        """Return how many of the likeliest tokens are told beside each one, or None if nothing is told of them."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def offered(self) -> list[Tool]:
        """Return the tools that the model is told of."""
        return [] if self.tool_choice == "none" else self.tools or []

    def functions(self) -> list[Function]:
        """Return the functions that the model may call, or has to call one of."""
        functions = [tool.function for tool in self.offered()]
        if isinstance(self.tool_choice, ChosenTool):
            return [each for each in functions if each.name == self.tool_choice.function.name]
        return functions

    def must_call(self) -> bool:
        """Whether the answer has to be a call."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, ChosenTool)

    def own_schema(self) -> dict | None:
        """Return the schema that the request itself brings for the answer."""
        if self.must_call():
            return {OPTIONS: WRITTEN, **tools.calls_schema({each.name: each.parameters for each in self.functions()})}
        match self.response_format:
            case AnyObject():
                return {OPTIONS: WRITTEN, "type": "object"}
            case OfSchema(json_schema=named):
                return {OPTIONS: WRITTEN, **named.schema_}
        return None

    def checked_schema(self) -> str | None:
        """Return the request's own schema as text.

        :raises RefusedError: if it is too long, or would not hold answers to all of it
        """
        schema = self.own_schema()
        return None if schema is None else checked(schema, self.schema_param)

    @property
    def schema_param(self) -> str:
        """Where the request's own schema is."""
        return "tools" if self.must_call() else "response_format"


class AdapterRequest(Part):
    """A request for an adapter to be loaded."""

    name: Annotated[str, Field(pattern=f"^{NAME}$", description="what `model` will name")]
    folder: Annotated[
        str, Field(pattern=f"^({NAME})?$", description="its folder among the operator's; that of its name by default")
    ] = ""


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


def checked(schema: dict, param: str = "response_format") -> str:
    """Return a client's schema as text.

    :param param: where the request has it
    :raises RefusedError: if it is too long, or would not hold answers to all of it
    """
    text = json.dumps(schema)
    if len(text) > packaged.LONGEST_SCHEMA:
        raise RefusedError(
            f"the schema has {len(text)} characters, but may have {packaged.LONGEST_SCHEMA}", param=param
        )
    options = schema.get(OPTIONS)
    if not isinstance(options, dict) or options.get("lenient"):
        raise RefusedError(f"{OPTIONS} is not what llguidance takes, or lenient", param=param)
    return text
