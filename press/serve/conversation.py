"""The parts of a conversation, as a request has them: its turns, the tools, and calls of tools."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from press.data import strict_json

# The names of roles, models and calls, and of stop texts.
LONGEST = 200
# What a function may be called, and how many there may be.
FUNCTION = r"^[A-Za-z0-9_-]{1,64}$"
TOOLS = 128
# The parameters of a function without any.
NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
NULL = {"type": "null"}


def _object(text: str) -> str:
    if not isinstance(strict_json.parse(text), dict):
        raise ValueError("it is no JSON object")
    return text


def _of_objects(schema: dict[str, Any]) -> dict[str, Any]:
    if schema and schema.get("type") != "object":
        raise ValueError("it is no JSON Schema of an object: its type must be object")
    return schema or NOTHING


class Part(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        described = handler.resolve_ref_schema(schema)
        for name, each in described.get("properties", {}).items():
            if name not in described.get("required", []) and NULL not in each.get("anyOf", []):
                described["properties"][name] = {"anyOf": [each, NULL]}
        return schema


class TextPart(Part):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Called(Part):
    """What a call calls, and with what."""

    name: Annotated[str, Field(pattern=FUNCTION)]
    arguments: Annotated[str, AfterValidator(_object), Field(description="a JSON object")]


class ToolCall(Part):
    """A call of a tool, as an answer had it."""

    id: Annotated[str, Field(max_length=LONGEST, description="has no effect")]
    type: Literal["function"]
    function: Called

    def turn(self) -> dict[str, Any]:
        """Return the call as chat templates take it."""
        called = {"name": self.function.name, "arguments": strict_json.parse(self.function.arguments)}
        return {"id": self.id, "type": "function", "function": called}


class Message(Part):
    """A turn of a conversation; `developer` is another word for `system`, and `tool` is what a tool returned."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: Annotated[list[ToolCall], Field(max_length=TOOLS, description="of an assistant")] = []
    tool_call_id: Annotated[
        str | None, Field(max_length=LONGEST, description="of a tool; has no effect", validate_default=True)
    ] = None
    content: Annotated[
        str | list[TextPart] | None,
        Field(description="an assistant who calls may have none", validate_default=True),
    ] = None
    name: Annotated[str, Field(max_length=LONGEST, description="has no effect")] = ""
    reasoning_content: Annotated[str, Field(description="has no effect: a model is not told what it thought")] = ""

    @field_validator("tool_calls")
    @classmethod
    def _of_an_assistant(cls, calls: list[ToolCall], info: ValidationInfo) -> list[ToolCall]:
        if calls and info.data.get("role") != "assistant":
            raise ValueError("only an assistant calls tools")
        return calls

    @field_validator("tool_call_id")
    @classmethod
    def _of_a_tool(cls, identifier: str | None, info: ValidationInfo) -> str | None:
        if "role" in info.data and (info.data["role"] == "tool") != (identifier is not None):
            raise ValueError("a message of the role tool has one, and no other message")
        return identifier

    @field_validator("content")
    @classmethod
    def _said(cls, content: str | list[TextPart] | None, info: ValidationInfo) -> str | list[TextPart] | None:
        if content is None and not info.data.get("tool_calls"):
            raise ValueError("Field required")
        return content

    def text(self) -> str:
        """Return what the turn says."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    def turn(self) -> dict[str, Any]:
        """Return the turn as chat templates take it."""
        said = {"role": "system" if self.role == "developer" else self.role, "content": self.text()}
        return said | ({"tool_calls": [call.turn() for call in self.tool_calls]} if self.tool_calls else {})

    @property
    def is_of_tools(self) -> bool:
        """Whether only a template that has tools can say it."""
        return self.role == "tool" or bool(self.tool_calls)


class Function(Part):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=FUNCTION)]
    description: str = ""
    parameters: Annotated[dict[str, Any], AfterValidator(_of_objects), Field(description="a JSON Schema")] = NOTHING
    strict: Annotated[bool, Field(description="needs a tool_choice that makes the call a must")] = False


class Tool(Part):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function

    def turn(self) -> dict[str, Any]:
        """Return the tool as chat templates take it."""
        described = {"description": self.function.description} if self.function.description else {}
        parameters = {"parameters": self.function.parameters}
        return {"type": "function", "function": {"name": self.function.name, **described, **parameters}}


class Chosen(Part):
    """The name of a function."""

    name: Annotated[str, Field(pattern=FUNCTION)]


class ChosenTool(Part):
    """A tool that the model has to call."""

    type: Literal["function"]
    function: Chosen
