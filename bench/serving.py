"""What a server gives to several clients at once: tokens a second, waits for first and next tokens, and memory.

    python -m bench.serving [PACKAGE]           (packages/cpu, with all of its adapters in turn)

The server is `python -m press.serve`, once with rows of one batch (`--at-once 8`) and once with one answer after the
other (`--at-once 1`). A client asks its questions one after the other, each of the next model, and reads streams, by
sockets alone: a client library takes a millisecond a token, as it shares this machine's processors with the server.
Compare within one run.

`--llama GGUF --adapters models/adapters` measures llama.cpp on the same model's GGUF with the same adapters in the same
run, on the same prompts, in two ways, neither of which holds answers to schemas, as the server here has to. One is its
library (bench/npm/llama_serving.mjs): a process with a context for each model and a sequence for each client, without
HTTP, whose contexts compute side by side. The other, with `--llama-server PYTHON` of an environment that has
bench/llama_server.txt, is its own server, which batches only requests with the same adapters, a batch after the other;
the same clients ask it. That build takes AVX2 at most: its one client beside the library's one says what that costs.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from tokenizers import Tokenizer

from bench import lora_gguf
from bench.runtime.contestants import NPM, install_llama
from press.core import files

QUESTIONS = ("a week in Rome", "three days of hiking", "how early at the airport", "a weekend by the sea")

ROWS = 8
# Of llama.cpp: tokens that a client has room for, and threads.
CONTEXT, THREADS = 256, len(os.sched_getaffinity(0))
LLAMA_SERVER = Path(__file__).with_name("llama_server.py")


@dataclass
class Measured:
    """What the clients saw, in seconds."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    def row(self) -> str:
        """Return it as cells of a table: tokens a second, and p50 and p99 of the waits in milliseconds."""
        cells = [f"{self.tokens / self.seconds:.1f}"]
        for waits in (self.first, self.between):
            cells += [f"{1000 * statistics.quantiles(waits, n=100)[place]:.0f}" for place in (49, 98)]
        return " | ".join(cells)


@contextmanager
def served(package: Path, at_once: int, waiting: int) -> Iterator[tuple[str, int]]:
    """Run a server; yield its address and its process's id."""
    words = ["--port", "0", "--at-once", str(at_once), "--queue", str(waiting), "--time-limit", "600"]
    command = [sys.executable, "-m", "press.serve", str(package), *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            address = next((urls[0] for each in process.stderr if (urls := re.findall(r"http://[\d.:]+", each))), None)
            if address is None:
                sys.exit(f"error: the server of {package} ended before it could be asked: `make serve` says why")
            # A log that nobody reads fills its pipe, and stops the server.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield address, process.pid
        finally:
            process.terminate()
            process.wait()


async def ask(url: str, asked: dict[str, Any], tokens: int, into: Measured) -> None:
    """Ask once, a conversation or a prompt, and measure the answer's stream."""
    asked = {**asked, "max_tokens": tokens, "stream": True, "stream_options": {"include_usage": True}}
    path = "/v1/chat/completions" if "messages" in asked else "/v1/completions"
    body, address = json.dumps(asked).encode(), urlsplit(url)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    last, began = 0.0, time.perf_counter()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head.encode() + body)
    if b" 200 " not in (status := await reader.readline()):
        sys.exit(f"error: the server answers {status.decode().strip()}")
    async for line in reader:
        # Between them are HTTP's own lines.
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line.removeprefix(b"data: "))
        # A chunk may have more than one token, and a token no text.
        into.tokens += chunk["usage"]["completion_tokens"] if chunk.get("usage") else 0
        if not any(each.get("text") or each.get("delta", {}).get("content") for each in chunk["choices"]):
            continue
        now = time.perf_counter()
        if last:
            into.between.append(now - last)
        else:
            into.first.append(now - began)
        last = now
    writer.close()


async def measure(url: str, clients: int, requests: int, tokens: int) -> Measured:
    """Let clients ask side by side, so many requests each."""
    with urllib.request.urlopen(f"{url}/v1/models") as listed:
        models = [each["id"] for each in json.load(listed)["data"]][1:]

    def asked(place: int, question: str) -> dict[str, Any]:
        return {"model": models[place % len(models)], "messages": [{"role": "user", "content": question}]}

    return await side_by_side(url, asked, clients, requests, tokens)


async def side_by_side(
    url: str, asked: Callable[[int, str], dict[str, Any]], clients: int, requests: int, tokens: int
) -> Measured:
    """Let clients ask side by side, each one question after the other.

    :param asked: returns the request of a place in a client's row, and of a question
    """
    into = Measured()

    async def one(number: int) -> None:
        for place in range(number, number + requests):
            await ask(url, asked(place, f"{QUESTIONS[place % len(QUESTIONS)]}, {number}"), tokens, into)

    began = time.perf_counter()
    await asyncio.gather(*map(one, range(clients)))
    into.seconds = time.perf_counter() - began
    return into


def prompts(package: Path) -> Callable[[int, str], list[int]]:
    """Return what gives the prompt of a model's number, 0 for the bare one, and of a question."""
    tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
    chat = jinja2.Template((package / "chat_template.jinja").read_text(encoding="utf-8"))
    turn = {"role": "user", "content": "{prompt}"}
    templates = [chat.render(messages=[turn], add_generation_prompt=True)]
    templates += [files.read_json(package / "adapters" / name / "adapter.json")["template"] for name in names(package)]

    def prompt(model: int, question: str) -> list[int]:
        before, _, _ = templates[model].partition("{response}")
        return tokenizer.encode(re.sub(r"{\w+}", lambda _: question, before)).ids

    return prompt


def names(package: Path) -> list[str]:
    """Return the names of a package's adapters."""
    return sorted(each.name for each in (package / "adapters").iterdir())


def loras(package: Path, adapters: Path, into: Path) -> list[str]:
    """Write a package's adapters for llama.cpp, and return their paths."""
    config = files.read_json(package / "genai_config.json")["model"]["decoder"]
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    return [str(lora_gguf.write(adapters / name, heads, into / f"{name}.gguf")) for name in names(package)]


def llama_server(
    python: Path, gguf: Path, package: Path, adapters: Path, clients: int, requests: int, tokens: int
) -> tuple[Measured, int]:
    """Let the same clients ask llama.cpp's own server; return what they saw, and the MiB that it holds."""
    prompt = prompts(package)

    def asked(place: int, question: str) -> dict[str, Any]:
        model = place % (1 + len(paths))
        scales = [{"id": each, "scale": float(each == model - 1)} for each in range(len(paths))]
        return {"prompt": prompt(model, question), "temperature": 0, "lora": scales}

    with tempfile.TemporaryDirectory() as scratch:
        paths = loras(package, adapters, Path(scratch))
        command = [str(python), str(LLAMA_SERVER), str(gguf), "--lora", *paths, "--clients", str(clients)]
        command += ["--context", str(CONTEXT), "--threads", str(THREADS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout
            try:
                url = process.stdout.readline().strip()
                if not url.startswith("http"):
                    sys.exit(
                        f"error: llama.cpp's server did not start: has {python} what bench/llama_server.txt lists?"
                    )
                asyncio.run(side_by_side(url, asked, 1, 1, 4))
                return asyncio.run(side_by_side(url, asked, clients, requests, tokens)), memory(process.pid)
            finally:
                process.terminate()
                process.wait()


def llama(gguf: Path, package: Path, adapters: Path, clients: int, requests: int, tokens: int) -> tuple[Measured, int]:
    """Let clients ask llama.cpp's library the same; return what they saw, and the MiB that its process holds."""
    prompt = prompts(package)
    with tempfile.TemporaryDirectory() as scratch:
        paths = loras(package, adapters, Path(scratch))
        options = {
            "model": str(gguf),
            "loras": [None, *paths],
            "prompts": [[prompt(model, each) for each in QUESTIONS] for model in range(1 + len(paths))],
            "clients": clients,
            "requests": requests,
            "tokens": tokens,
            "threads": THREADS,
            "context": CONTEXT,
        }
        command = ["node", str(NPM / "llama_serving.mjs"), json.dumps(options)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"error: llama.cpp did not answer: {ended.stderr.strip()[-300:]}")
    said = json.loads(ended.stdout)
    return Measured(said["first"], said["between"], said["tokens"], said["seconds"]), said["memory"]


def memory(process: int) -> int:
    """Return the MiB that a process holds in memory."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) // 1024


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?", default=Path("packages/cpu"))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=4, help="of each client (default: 4)")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer at most (default: 32)")
    parser.add_argument("--llama", type=Path, help="the model's GGUF, for llama.cpp beside it")
    parser.add_argument("--llama-server", type=Path, help="python with bench/llama_server.txt, for its own server, too")
    parser.add_argument("--adapters", type=Path, default=Path("models/adapters"), help="PEFT's, for llama.cpp")
    words = parser.parse_args()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if words.llama:
        install_llama()
    print("| clients | at once | tokens a second | first p50 | p99 | next p50 | p99, ms | memory, MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for clients in words.clients:
        for at_once in (1, ROWS) if clients > 1 else (1,):
            with served(words.package, at_once, clients) as (url, process):
                asyncio.run(measure(url, 1, 1, 4))
                measured = asyncio.run(measure(url, clients, words.requests, words.tokens))
                print(f"| {clients} | {at_once} | {measured.row()} | {memory(process)} |", flush=True)
        if words.llama:
            given = words.llama, words.package, words.adapters, clients, words.requests, words.tokens
            measured, held = llama(*given)
            print(f"| {clients} | llama.cpp | {measured.row()} | {held} |", flush=True)
            if words.llama_server:
                measured, held = llama_server(words.llama_server, *given)
                print(f"| {clients} | its server | {measured.row()} | {held} |", flush=True)


if __name__ == "__main__":
    main()
