"""Stands in for every stage: writes into its outputs a digest of what dvc.yaml says that it reads.

What DVC does with the project's own dvc.yaml can then be asked in seconds. The fixture `hollow` puts this file into a
copy of the project. `check` resolves and validates the parameters as it does anywhere, and copies the lists of code and
libraries, since no test of such a project changes these: test_price_of_change.py asks all of it. A stage that the
variable STAND_IN_FAILS names fails, and with a word more, such as quantize.bits=8, where that parameter has that value;
one that STAND_IN_WAITS names begins its output and goes no further.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import yaml

LISTS = ("reports/code", "reports/environment")  # which `check` writes; what a stage makes does not depend on them
KEPT = "lists"
MACHINES, EVALUATED = "reports/machine", "reports/evaluate"
PARAMS, ADAPTERS = Path("reports/params.json"), Path("reports/adapters")


def work(stage: str) -> None:
    """Do what the instance of a stage with the command line's words would."""
    if stage == "check":
        _check()
        return
    words = sys.argv[1:]
    body, context = _loaded(Path("dvc.yaml"))["stages"][stage], _loaded(PARAMS) | {"adapters": _adapters()}
    failing, _, only = os.environ.get("STAND_IN_FAILS", "").partition(" ")
    name, _, value = only.partition("=")
    if failing == stage and (not only or str(_at(context, name)) == value):
        sys.exit(f"error: {only or 'it'} fails, as it was asked to")
    if "foreach" in body:
        context |= {"key": words[0], "item": _at(context, body["foreach"][2:-1])[words[0]]}
        body = body["do"]
    if "matrix" in body:
        context["item"] = dict(zip(body["matrix"], words, strict=True))
    given = {
        name: _at(_loaded(Path(path)), name)
        for file in body["params"]
        for path, names in ((_filled(path, context), names) for path, names in file.items())
        for name in (_filled(name, context) for name in names)
    }
    read = [_filled(name, context) for name in body["deps"] if not name.startswith(LISTS)]
    content = [repr([(name, _content(Path(name))) for name in sorted(read)])]
    for out in (*body["outs"], *body.get("metrics", ()), *body.get("plots", ())):
        path = out if isinstance(out, str) else next(iter(out))
        if os.environ.get("STAND_IN_WAITS") == stage:
            _wait(Path(_filled(path, context)))
        _write(Path(_filled(path, context)), content, given)


def _check() -> None:
    # Which the other stages do without.
    from press.core import cli, run_cache
    from press.params import recorded, resolving, settings

    def check() -> None:
        # In the tests' process, these are another project's.
        resolving._defaults.cache_clear()
        try:
            with mock.patch.object(resolving, "DEFAULTS", resolving.NAMED):
                resolved = resolving.Resolved()
        finally:
            resolving._defaults.cache_clear()
        settings.validated(resolved)
        run_cache.keep()
        recorded.write(resolved.values)
        for name in LISTS:
            shutil.copytree(Path(KEPT, name), name, dirs_exist_ok=True)

    cli.in_sentences(check)


def _wait(out: Path) -> None:
    # Which the other stages do without.
    from press.core import files

    with files.building(out):
        time.sleep(3600)


def _adapters() -> dict[str, dict]:
    return {path.stem: _loaded(path) for path in ADAPTERS.iterdir()}


def _loaded(path: Path) -> dict:
    return yaml.load(path.read_bytes(), yaml.CSafeLoader)


def _at(values: Mapping, dotted: str) -> object:
    for key in dotted.split("."):
        values = values[key]
    return values


def _filled(text: str, context: Mapping) -> str:
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(_at(context, match[1])), text)


def _content(path: Path) -> list[tuple[str, bytes]]:
    found = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return [(each.as_posix(), each.read_bytes()) for each in found]


def _write(out: Path, content: list[str], given: Mapping) -> None:
    digest = _digest(content, given)
    if out.is_relative_to(MACHINES):
        files = {out: "this"}
    elif out.name == "metrics.json" and out.is_relative_to(EVALUATED):
        # For a search: wider adapters make a larger package.
        adapters, score = _adapters(), {"adapter": {"loss": 1, "perplexity": 2}}
        scores = {name: {"onnx": score, "pytorch": score} for name in adapters}
        size = sum(each["lora"]["rank"] for each in adapters.values())
        files = {out: json.dumps({"package": {"bytes": size}, **scores})}
    elif out.is_relative_to("prepared"):
        # Samples and how answers are given reach no example: tests/press/training/test_preparation_report.py.
        unread = ("samples", "generation")
        examples = _digest(content, {name: value for name, value in given.items() if not name.endswith(unread)})
        files = {out / "train.jsonl": examples, out / "heldout.jsonl": examples, out / "adapter.json": digest}
    else:
        files = {out if out.suffix else out / "content.txt": digest}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _digest(content: list[str], given: Mapping) -> str:
    return hashlib.sha256(repr((content, sorted(given.items()))).encode()).hexdigest()
