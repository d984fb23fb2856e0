"""What the server answers over the wire: the part of OpenAI's objects that a package can fill, as pydantic types."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Finish = Literal["stop", "length", "tool_calls"]


class PromptDetails(BaseModel):
    """Tokens of the prompt that were read for an earlier answer."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Called(BaseModel):
    """What a call calls, and with what: a JSON object."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: Called


class ComingToolCall(ToolCall):
    """A call of a tool in a stream, where it comes at once."""

    index: int


class Said(BaseModel):
    """The whole answer."""

    role: Literal["assistant"] = "assistant"
    reasoning_content: Annotated[str | None, Field(description="what it thought before, if it did")] = None
    content: str | None
    tool_calls: list[ToolCall] | None = None
    refusal: None = None


class TopLogprob(BaseModel):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token that was written, beside the likeliest ones."""

    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    """The tokens of a text."""

    content: list[TokenLogprob]
    refusal: None = None


class Choice(BaseModel):
    """The answer, and how it ended: by itself, with calls, or as it had all tokens that it may have."""

    index: Literal[0] = 0
    message: Said
    logprobs: Logprobs | None = None
    finish_reason: Finish


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
    tool_calls: list[ComingToolCall] | None = None


class ChunkChoice(BaseModel):
    """What comes to an answer, and in the end how it ended."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: Logprobs | None = None
    finish_reason: Finish | None = None


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
