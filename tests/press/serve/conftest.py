"""A tiny package with two adapters, and servers."""

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from parameters import SCHEMA
from projects import ROOT, once
from serving import Served, list_files

from press.core import files

# A chat template with tools, shorter than Qwen's and Hermes', as a token of the tiny model is a letter.
HERMES = """{% if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<tool_call>{}<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}<|im_start|>assistant
"""
TEMPLATE = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{response}<|im_end|>"


@pytest.fixture(scope="session")
def package(tiny_quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with the adapters `travel` and, held to a schema, `packing`. Copy it to change it."""
    from parity import captured_to, converted, random_adapter

    def build(folder: Path) -> None:
        (folder / "passes").symlink_to(ROOT / "passes")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            captured_to(folder, tiny_quantized).rename(folder / "package")
        made = folder / "package"
        for rank, (name, schema) in enumerate({"travel": None, "packing": SCHEMA}.items(), 4):
            adapter = random_adapter(tiny_quantized, folder / name, rank, ["q_proj", "down_proj"])
            (made / "adapters" / name).mkdir(parents=True)
            file = made / "adapters" / name / "adapter.onnx_adapter"
            converted(adapter, made / "lora_inputs.json", file)
            about = {"base_sha256": "0" * 64, "template": TEMPLATE, "response_schema": schema}
            about |= {
                "file_sha256": files.sha256(file),
                "generation": {"max_new_tokens": 60, "repetition_penalty": 1.0},
            }
            files.write_json(file.with_name("adapter.json"), about)
        list_files(made)

    return once(tmp_path_factory, "served_package", build) / "package"


def with_template(package: Path, copy: Path, template: str) -> Path:
    """Return a copy of a package whose base model has another chat template."""
    shutil.copytree(package, copy)
    (copy / "chat_template.jinja").write_text(template, encoding="utf-8")
    list_files(copy)
    return copy


@pytest.fixture(scope="session")
def calling_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with a chat template that has tools."""
    return with_template(package, tmp_path_factory.mktemp("calling") / "package", HERMES)


@pytest.fixture
def start() -> Iterator[Callable[..., Served]]:
    """What starts a server of a package with limits, and ends it after the test."""
    from press.serve.api import Limits

    with contextlib.ExitStack() as stack:

        def started(package: object, **limits: object) -> Served:
            served = Served(package, Limits(**limits))
            stack.callback(served.close)
            return served

        yield started


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict]]:
    """What the server's log has of requests."""
    from press.serve.observing import Lines

    caplog.set_level(logging.INFO)
    return lambda: [json.loads(Lines().format(each)) for each in caplog.records if each.name.startswith("press.serve")]
