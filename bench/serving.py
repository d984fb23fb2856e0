"""What a server gives to several clients at once: tokens a second, waits for first and next tokens, and memory.

    python -m bench.serving [PACKAGE]           (packages/cpu, with all of its adapters in turn)

The server is `python -m press.serve`, once with rows of one batch (`--at-once 8`) and once with one answer after the
other (`--at-once 1`). A client asks its questions one after the other, each of the next model, and reads streams, by
sockets alone: a client library takes a millisecond a token, as it shares this machine's processors with the server.
Compare within one run.

`--llama GGUF --adapters models/adapters` measures llama.cpp on the same model's GGUF with the same adapters in the same
run, on the same prompts. Its server comes in no npm package; what stands for it is one process with a context for each
model and a sequence for each client (bench/npm/llama_serving.mjs), without HTTP and without schemas, which the server
here has to do.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import jinja2
from tokenizers import Tokenizer

from bench import lora_gguf
from bench.runtime.contestants import NPM, install_llama
from press.core import files

QUESTIONS = ("a week in Rome", "three days of hiking", "how early at the airport", "a weekend by the sea")

ROWS = 8


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


async def ask(url: str, model: str, question: str, tokens: int, into: Measured) -> None:
    """Ask once, and measure the answer's stream."""
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body, address = json.dumps(asked).encode(), urlsplit(url)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
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
        if not chunk["choices"] or not chunk["choices"][0]["delta"].get("content"):
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
    into = Measured()

    async def one(number: int) -> None:
        for place in range(number, number + requests):
            question = f"{QUESTIONS[place % len(QUESTIONS)]}, {number}"
            await ask(url, models[place % len(models)], question, tokens, into)

    began = time.perf_counter()
    await asyncio.gather(*map(one, range(clients)))
    into.seconds = time.perf_counter() - began
    return into


def llama(gguf: Path, package: Path, adapters: Path, clients: int, requests: int, tokens: int) -> tuple[Measured, int]:
    """Let clients ask llama.cpp the same questions; return what they saw, and the MiB that its process holds."""
    config = files.read_json(package / "genai_config.json")["model"]["decoder"]
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
    names = sorted(each.name for each in (package / "adapters").iterdir())
    chat = jinja2.Template((package / "chat_template.jinja").read_text(encoding="utf-8"))
    turn = {"role": "user", "content": "{prompt}"}
    templates = [chat.render(messages=[turn], add_generation_prompt=True)]
    templates += [files.read_json(package / "adapters" / name / "adapter.json")["template"] for name in names]

    def prompt(template: str, question: str) -> list[int]:
        before, _, _ = template.partition("{response}")
        return tokenizer.encode(re.sub(r"{\w+}", lambda _: question, before)).ids

    with tempfile.TemporaryDirectory() as scratch:
        loras = [str(lora_gguf.write(adapters / name, heads, Path(scratch) / f"{name}.gguf")) for name in names]
        options = {
            "model": str(gguf),
            "loras": [None, *loras],
            "prompts": [[prompt(template, each) for each in QUESTIONS] for template in templates],
            "clients": clients,
            "requests": requests,
            "tokens": tokens,
            "threads": len(os.sched_getaffinity(0)),
            "context": 256,
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
            given = words.package, words.adapters, clients, words.requests, words.tokens
            measured, held = llama(words.llama, *given)
            print(f"| {clients} | llama.cpp | {measured.row()} | {held} |", flush=True)


if __name__ == "__main__":
    main()
