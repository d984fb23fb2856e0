"""A server in this process, a stand-in for its package, and the official client."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from press.core import files

if TYPE_CHECKING:
    import openai

SECONDS = 60


def list_files(package: Path) -> None:
    """Write the manifest of what is there, as who makes a package could."""
    (package / "manifest.json").unlink(missing_ok=True)
    digests = files.digests(package)
    files.write_json(package / "manifest.json", {"name": "trips", "base_sha256": "0" * 64, "files": digests})


class StandIn:
    """In place of a package: answers whose tokens come when `pace` lets them, one for each time it is released; what
    begins with "say " is answered by the rest of it.
    """

    models = ("base", "travel")

    def __init__(self) -> None:
        self.reading = self.compiling = ThreadPoolExecutor(1)
        self.pace = threading.Semaphore(0)
        self.written: list[str] = []

    def check_schema(self, _: object) -> None:
        """Take any schema."""

    def read(self, asked):
        from press.serve.answering import Answer

        settings = {"question": asked.messages[0].text()}
        return Answer([1, 2, 3], None, settings, None, asked.most() or 10**6, None)

    def turns(self, answer) -> Iterator[str]:
        question = answer.settings["question"]
        if question.startswith("say "):
            yield from (question[start : start + 3] for start in range(4, len(question), 3))
            return
        while answer.written < answer.most:
            # The turn of a question that needs no pace lets the others have theirs.
            if answer.settings["question"] == "fail":
                raise RuntimeError("the runtime fails")
            if answer.settings["question"] != "at once" and not self.pace.acquire(timeout=0.01):
                yield ""
                continue
            answer.written += 1
            self.written.append(answer.settings["question"])
            yield "word "
        answer.finish_reason = "length"

    def close(self) -> None:
        """Have nothing to close."""


class Served:
    """A running server."""

    def __init__(self, package: object, limits: object) -> None:
        import uvicorn

        from press.serve.api import Api

        self.package = package
        self.api = Api(package, limits)
        config = uvicorn.Config(
            self.api.application(), port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        eventually(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def scheduler(self):
        return self.api._scheduler

    def client(self, key: str = "none") -> "openai.OpenAI":
        """Return the official client, which tries each request once."""
        import openai

        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=SECONDS)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(SECONDS)


def eventually(happens: Callable[[], bool]) -> None:
    """Wait for something to be true."""
    until = time.monotonic() + SECONDS
    while not happens():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.01)
