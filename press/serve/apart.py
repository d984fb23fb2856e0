"""What may crash or never end, in a process of its own: a package's chat template, and compiling a schema.

As app.py's `Apart`, but here a schema may be a client's, so that each kind has a process and a time of its own: one
client's schema must not keep the others' conversations waiting.
"""

import atexit
import json
import multiprocessing
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

TEMPLATE, SCHEMA = "chat template", "response schema"
NO_TEMPLATE = "Empty chat template"
# How long the process may take to begin; it imports the runtime and reads the tokenizer.
STARTING = 60


class ApartError(Exception):
    """What was asked for cannot be done; the message says why, in words that go behind a colon."""


class Apart:
    """A process that applies a package's chat template, or compiles schemas for its tokenizer.

    :param seconds: how long one answer may take
    """

    def __init__(self, package: Path, seconds: float) -> None:
        self._package = package
        self._seconds = seconds
        self._lock = threading.Lock()
        self._start()
        # Before multiprocessing's own end, which would wait for a process that ignores its signal.
        atexit.register(self.close)

    def apply(self, messages: list[dict[str, str]]) -> str | None:
        """Return the text that the model is given for a conversation, or None if there is no template.

        :raises ApartError: if the template refuses the conversation, crashes or takes too long
        """
        prompt, reason = self._ask(TEMPLATE, json.dumps(messages))
        if reason and not reason.startswith(NO_TEMPLATE):
            raise ApartError(reason)
        return prompt

    def compile(self, schema: str, seconds: float | None = None) -> None:
        """Try to compile a schema.

        :param seconds: how long it may take, where that is another time than the usual one
        :raises ApartError: if answers cannot be held to it, or that cannot be told in time
        """
        _, reason = self._ask(SCHEMA, schema, seconds)
        if reason:
            raise ApartError(reason)

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, str(self._package)), daemon=True)
        self._process.start()
        theirs.close()
        _, reason = self._answer(STARTING)
        if reason:
            raise ApartError(reason)

    def _ask(self, what: str, data: str, seconds: float | None = None) -> tuple[str | None, str]:
        with self._lock:
            if not self._process.is_alive():
                self._pipe.close()
                self._start()
            self._pipe.send((what, data))
            return self._answer(self._seconds if seconds is None else seconds)

    def _answer(self, seconds: float) -> tuple[str | None, str]:
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
            how = f"it takes more than {seconds} s"
        except (EOFError, ConnectionError):
            how = "it crashes"
        self._process.kill()
        self._process.join()
        raise ApartError(how)


def _work(asked: Connection, package: str) -> None:
    """Answer each question with what comes of it and what went wrong, until the server ends."""
    import onnxruntime_genai as og

    from press.model import packaged

    # Ctrl-C and a service manager's signal reach all processes, but what runs is to be finished.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    try:
        tokenizer = og.Tokenizer(og.Config(package))
    except RuntimeError as error:
        asked.send((None, line(error)))
        return
    asked.send((None, ""))
    while True:
        try:
            what, data = asked.recv()
            if what == SCHEMA:
                asked.send((None, packaged.schema_complaint(Path(package), json.loads(data)) or ""))
            else:
                asked.send((tokenizer.apply_chat_template(data, add_generation_prompt=True), ""))
        except RuntimeError as error:
            asked.send((None, line(error)))
        except (EOFError, OSError):
            return


def line(error: Exception | str) -> str:
    """Return an error's message on one line, without the state that llguidance appends."""
    return " ".join(str(error).partition("<state>")[0].split())
