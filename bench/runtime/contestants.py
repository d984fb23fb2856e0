"""The contestants, each a process that answers requests, so that each has its own memory and libraries."""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from press.core.errors import UserError

NPM = Path("bench/npm")
PROCESSES = Path("/proc")
LLAMA = "llama.cpp"
TRANSFORMERS = "transformers, fp32"
BARE, READY, ADAPTER, SWITCHED = "bare graph", "no adapter", "one adapter", "adapter switched"


@dataclass
class Contestant(AbstractContextManager):
    """A started process and what it said of its start.

    :param adapters: names of the loaded adapters, which take turns; [None] for none
    """

    command: list[str]
    options: dict
    adapters: list[str | None] = field(default_factory=lambda: [None])

    def __post_init__(self) -> None:
        command = [*self.command, json.dumps(self.options)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C ends the rounds, not the contestants, which are asked further questions.
            start_new_session=True,
        )
        self._questions, self._answers = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        self._turns: Iterator[str | None] = itertools.cycle(self.adapters)
        self.load_s: float = self._answer()["load_s"]

    def ask(self, do: str, **request) -> dict:
        """Send a request and return the answer.

        :raises UserError: if the process ended instead of answering
        """
        self._questions.write(json.dumps({"do": do, **request}) + "\n")
        self._questions.flush()
        return self._answer()

    def generate(self, ids: list[int], tokens: int) -> dict:
        """Let it decode behind a prompt, with the adapter whose turn it is; return its times."""
        return self.ask("generate", ids=ids, tokens=tokens, adapter=next(self._turns))

    def loss(self, ids: list[int]) -> float:
        """Return the summed negative log-likelihood of a row after its first token, in nats."""
        return self.ask("score", ids=ids, adapter=self.adapters[0])["loss"]

    def peak_bytes(self) -> int | None:
        """Return the largest resident memory of the process so far, mapped files included; only Linux tells it."""
        status = PROCESSES / str(self._process.pid) / "status"
        if not status.exists():
            return None
        (kilobytes,) = re.findall(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
        return int(kilobytes) * 1024

    def __exit__(self, *_: object) -> None:
        self._questions.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> dict:
        line = self._answers.readline()
        if not line:
            raise UserError(f"{' '.join(self.command)} ended with code {self._process.wait()}: its reason stands above")
        return json.loads(line)


def onnx(model: Path, threads: int, adapters: dict[str, Path]) -> Contestant:
    """Start onnxruntime-genai on a model, with its adapters loaded."""
    command = [sys.executable, "-m", "bench.runtime.onnx_contestant"]
    contestant = Contestant(command, {"model": str(model), "threads": threads}, list(adapters) or [None])
    for name, path in adapters.items():
        contestant.ask("load_adapter", adapter=name, path=str(path))
    return contestant


def transformers(model: Path, threads: int) -> Contestant:
    """Start Hugging Face transformers on a checkpoint."""
    command = [sys.executable, "-m", "bench.runtime.torch_contestant"]
    return Contestant(command, {"model": str(model), "threads": threads})


def llama(model: Path, threads: int, context: int, batch: int, flash_attention: bool) -> Contestant:
    """Start llama.cpp on a GGUF file for so many tokens of context."""
    options = {"model": str(model), "threads": threads, "context": context, "batch": batch}
    return Contestant(["node", str(NPM / "llama.mjs")], options | {"flash_attention": flash_attention})


def install_llama() -> None:
    """Install the prebuilt llama.cpp that bench/npm/package-lock.json pins, unless it is there.

    :raises UserError: if npm cannot
    """
    if (NPM / "node_modules/node-llama-cpp/package.json").exists():
        return
    # The builds for graphics cards are optional, and large; the scripts would look for a newer build.
    command = ["npm", "ci", "--omit=optional", "--ignore-scripts", "--silent", "--no-audit", "--no-fund"]
    try:
        completed = subprocess.run(command, cwd=NPM, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError("llama.cpp comes with npm and needs node: install Node.js 20 or later") from error
    if completed.returncode:
        raise UserError(f"npm could not install llama.cpp from {NPM}/package-lock.json: {completed.stderr.strip()}")
