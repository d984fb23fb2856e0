"""An answer on its way to its client, who may read slowly, or go."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from press.serve import replies, tools, wire
from press.serve.answering import Answer
from press.serve.errors import GONE, FailedError, LateError, RefusedError
from press.serve.observing import Metrics, Record
from press.serve.reasoning import Thought
from press.serve.scheduling import Heard, Ticket
from press.serve.tools import Call

DONE = "data: [DONE]\n\n"
STREAM = "text/event-stream"
# Seconds that a stream may take beyond the time of its answer, where its client reads slowly.
GRACE = 5.0


class Outbox:
    """What the scheduler's thread has for the loop: all that a step of the model gave at once, while the next one runs.

    Told of each token by itself, the loop would write it to its client while the others' tokens are chosen, and Python
    lets one thread run at a time.
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[asyncio.Queue[Heard], Heard]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, loop: asyncio.AbstractEventLoop, heard: asyncio.Queue[Heard], what: Heard) -> None:
        """Add a piece of an answer, in the scheduler's thread."""
        self._loop = loop
        self._pieces.append((heard, what))

    def send(self) -> None:
        """Let the loop have what is there, in the scheduler's thread."""
        if not self._loop or not self._pieces:
            return
        pieces, self._pieces = self._pieces, []
        # A loop that was closed has no client any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_deliver, pieces)


def _deliver(pieces: Sequence[tuple[asyncio.Queue[Heard], Heard]]) -> None:
    for heard, what in pieces:
        heard.put_nowait(what)


class Writing:
    """An answer on its way to its client, as one response or as a stream of events.

    :param outbox: by which what is written comes to the loop
    :param seconds: how long it may take, for the sentence
    """

    def __init__(
        self,
        asked: wire.ChatRequest,
        answer: Answer,
        turns: Iterator[str],
        ticket: Ticket,
        outbox: Outbox,
        record: Record,
        metrics: Metrics,
        seconds: float,
    ) -> None:
        self._asked = asked
        self._answer = answer
        self._ticket = ticket
        self._outbox = outbox
        self._record = record
        self._turns = turns
        self._metrics = metrics
        self._seconds = seconds
        names = [each.name for each in asked.functions()]
        self._reader = tools.Reader(names, begun=asked.must_call())
        # Characters of the answer that were sent, and tokens that were told of.
        self._sent = self._told = 0
        self._counted = 0
        self._about: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": asked.model,
        }

    async def whole(self, deadline: float) -> Response:
        """Return the whole answer as one response."""
        text, thoughts, calls = [], [], []
        try:
            async for part in self._parts(deadline):
                (calls if isinstance(part, Call) else thoughts if isinstance(part, Thought) else text).append(part)
        finally:
            self.stop()
        content = "".join(text)
        said = replies.Said(
            reasoning_content="".join(thoughts) or None,
            content=None if calls and not text else content,
            tool_calls=[_called(call) for call in calls] or None,
        )
        choice = replies.Choice(message=said, logprobs=self._logprobs(content), finish_reason=self._finish_reason())
        completion = replies.Completion(**self._about, choices=[choice], usage=self._usage()).model_dump()
        if not thoughts:
            del completion["choices"][0]["message"]["reasoning_content"]
        return JSONResponse(completion)

    async def events(self, deadline: float) -> AsyncIterator[str]:
        """Yield the events of the answer's stream; the last one says what broke it, if anything did."""
        yield self._event(replies.Delta(role="assistant", content=""))
        try:
            calls = 0
            async for part in self._parts(deadline):
                if isinstance(part, Thought):
                    yield self._event(replies.Delta(reasoning_content=part))
                elif isinstance(part, str):
                    yield self._text(part)
                else:
                    coming = replies.ComingToolCall(index=calls, **_called(part).model_dump())
                    yield self._event(replies.Delta(tool_calls=[coming]))
                    calls += 1
        except RefusedError as error:
            yield f"data: {json.dumps(error.body())}\n\n"
            return
        finally:
            self.stop()
        yield self._event(replies.Delta(), self._finish_reason())
        if self._asked.stream_options.include_usage:
            yield _data(replies.Chunk(**self._about, choices=[], usage=self._usage()))
        yield DONE

    def stop(self, why: str = "") -> None:
        """Take no further turn.

        :param why: the answer is not complete
        """
        self._ticket.cancel()
        self._record.broken = self._record.broken or why
        self._record.completion_tokens = self._answer.written
        self._record.cached_tokens = self._answer.reused

    def _count(self) -> None:
        if self._answer.written > self._counted:
            self._counted = self._answer.written
            self._metrics.token(self._record)

    def _finish_reason(self) -> replies.Finish:
        how = self._answer.finish_reason
        return "tool_calls" if self._reader.called and how == "stop" else how

    async def _parts(self, deadline: float) -> AsyncIterator[str | Call]:
        """Yield the text of the answer, and its calls of tools."""
        if not self._asked.functions():
            async for piece in self._pieces(deadline):
                if piece:
                    yield piece
            return
        async for piece in self._pieces(deadline):
            # Thoughts call nothing.
            for part in [piece] if isinstance(piece, Thought) and piece else self._reader.feed(piece):
                yield part
        for part in self._reader.end():
            yield part

    async def _pieces(self, deadline: float) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Heard] = asyncio.Queue()
        timer = loop.call_at(deadline, heard.put_nowait, LateError(self._seconds))

        def hear(what: Heard) -> None:
            # Here, since the loop hears of a token when it comes to it.
            self._count()
            self._outbox.put(loop, heard, what)

        self._ticket.begin(self._turns, hear)
        try:
            while (what := await heard.get()) is not None:
                if isinstance(what, LateError):
                    self.stop("timeout")
                    raise what
                if isinstance(what, Exception):
                    self.stop("failure")
                    raise FailedError from what
                yield what
        finally:
            timer.cancel()
        self._record.finish_reason = self._answer.finish_reason

    def _logprobs(self, text: str) -> replies.Logprobs | None:
        """Return what is told of the tokens that begin in the answer's next text, and not before it."""
        if self._asked.tops() is None:
            return None
        self._sent += len(text)
        chances = self._answer.chances
        last = next((place for place, each in enumerate(chances) if each.start >= self._sent), len(chances))
        first, self._told = self._told, last
        return replies.Logprobs(content=[each.told for each in chances[first:last]])

    def _event(self, delta: replies.Delta, finish_reason: Any = None, logprobs: replies.Logprobs | None = None) -> str:
        choice = replies.ChunkChoice(delta=delta, logprobs=logprobs, finish_reason=finish_reason)
        return _data(replies.Chunk(**self._about, choices=[choice]))

    def _text(self, part: str) -> str:
        """Return the event of a piece of text."""
        if (logprobs := self._logprobs(part)) is not None:
            return self._event(replies.Delta(content=part), logprobs=logprobs)
        before, behind = self._around
        return f"{before}{json.dumps(part, ensure_ascii=False)}{behind}"

    @cached_property
    def _around(self) -> tuple[str, str]:
        """What such events have before and behind their texts, as there is one for each token."""
        empty = replies.Delta(content="")
        before, _, behind = self._event(empty).rpartition(json.dumps(empty.content))
        return before, behind

    def _usage(self) -> replies.Usage:
        read, written = len(self._answer.prompt), self._answer.written
        return replies.Usage(
            prompt_tokens=read,
            completion_tokens=written,
            total_tokens=read + written,
            prompt_tokens_details=replies.PromptDetails(cached_tokens=self._answer.reused),
        )


class Events(StreamingResponse):
    """A stream of events, which ends when its client goes, or does not read it in time.

    :param stop: called in the end, with a word about it in these cases
    :param deadline: of the answer, by the loop's clock
    """

    def __init__(self, events: AsyncIterator[str], stop: Callable[[str], None], deadline: float) -> None:
        super().__init__(events, media_type=STREAM, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._stop = stop
        self._deadline = deadline + GRACE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            async with asyncio.timeout_at(self._deadline):
                await unless_gone(receive, self.stream_response(send), self._stop)
        except TimeoutError:
            self._stop("slow client")


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Any], stop: Callable[[str], None]) -> Any:
    """Return what comes of work, or end it as soon as the client has gone.

    :param stop: called in any case, in this one with a word about it
    """

    async def wait_for_end() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, gone = asyncio.create_task(work), asyncio.create_task(wait_for_end())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        stop("client gone")
        # Nobody reads it.
        return Response(status_code=GONE)
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)
        # Work that has not begun gives back nothing of itself.
        stop("")


def _called(call: Call) -> replies.ToolCall:
    return replies.ToolCall(id=call.id, function=replies.Called(name=call.name, arguments=call.arguments))


def _data(chunk: replies.Chunk) -> str:
    # A chunk without usage has none; a choice that goes on has `null` for how it ended.
    payload = chunk.model_dump(exclude=None if chunk.usage else {"usage"})
    for choice in payload["choices"]:
        choice["delta"] = {name: value for name, value in choice["delta"].items() if value is not None}
    return f"data: {json.dumps(payload, ensure_ascii=False)}\n\n"
