"""A package that somebody else made has plain files only, those of its manifest, and sets nothing that loads code."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from press.core import files
from press.core.errors import UserError
from press.model import packaged

DEEP = 100_000
CONFIG = {
    "model": {
        "type": "llama",
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "context_length": 512,
        "decoder": {
            "session_options": {
                "log_id": "onnxruntime-genai",
                "provider_options": [{"cuda": {"enable_cuda_graph": "0"}}],
            },
            "filename": "model.onnx",
            "inputs": {"input_ids": "input_ids", "past_key_names": "past_key_values.%d.key"},
            "outputs": {"logits": "logits"},
            "pipeline": [{"context": {"filename": "context.onnx", "run_on_token_gen": False, "inputs": ["/layers/0"]}}],
        },
    },
    "search": {"do_sample": False, "top_p": 1.0},
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "adapters/travel").mkdir(parents=True)
    for name in ("model.onnx", "adapters/travel/adapter.onnx_adapter"):
        (folder / name).write_text(name, encoding="utf-8")
    files.write_json(folder / "genai_config.json", CONFIG)
    files.write_json(folder / "tokenizer_config.json", {"tokenizer_class": "TokenizersBackend"})
    list_files(folder)
    return folder


def list_files(folder: Path) -> None:
    """Write the manifest of what is there, as who makes a package could."""
    (folder / "manifest.json").unlink(missing_ok=True)
    files.write_json(folder / "manifest.json", {"base_sha256": "0" * 64, "files": files.digests(folder)})


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        packaged.open_package(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_digests_are_those_of_all_files(package):
    manifest, digests = packaged.open_package(package)
    assert digests == files.digests(package)
    assert digests == {**manifest["files"], "manifest.json": files.sha256(package / "manifest.json")}


def test_files_beside_are_those_that_are_named(package):
    (package / "README.md").write_text("# Card", encoding="utf-8")
    assert refused(package) == f"{package}/README.md is not in the manifest: {packaged.AGAIN}"
    assert "README.md" in packaged.open_package(package, ["README.md"])[1]


@pytest.mark.parametrize("name", ["model.onnx", "adapters/travel/adapter.onnx_adapter", "manifest.json"])
def test_a_missing_file_is_named(package, name):
    (package / name).unlink()
    assert refused(package).startswith(f"{package / name} is missing: ")


def test_a_changed_byte_is_named(package):
    (package / "adapters/travel/adapter.onnx_adapter").write_text("other", encoding="utf-8")
    assert refused(package).startswith(f"{package}/adapters/travel/adapter.onnx_adapter is damaged: ")


def link_to_the_same_content(path: Path) -> None:
    path.rename(path.parents[1] / "outside")
    path.symlink_to(path.parents[1] / "outside")


def link_inside(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def link_to_a_folder(path: Path) -> None:
    (path.parents[1] / "folder").mkdir()
    path.with_name("more").symlink_to(path.parents[1] / "folder")


def linked_folder(path: Path) -> None:
    (path.parent / "adapters").rename(path.parents[1] / "adapters")
    (path.parent / "adapters").symlink_to(path.parents[1] / "adapters")


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, pytest.MonkeyPatch.context() as patch:
        # An address has at most 107 letters.
        patch.chdir(path.parent)
        server.bind("socket")


@pytest.mark.parametrize(
    ("change", "name", "what"),
    [
        (link_to_the_same_content, "model.onnx", "is a link, but a package has plain files only"),
        (link_inside, "model.onnx", "is a link"),
        (link_to_a_folder, "more", "is a link"),
        (linked_folder, "adapters", "is a link"),
        (lambda path: path.with_name("dangling").symlink_to("nowhere"), "dangling", "is a link"),
        (lambda path: path.with_name("circle").symlink_to("circle"), "circle", "is a link"),
        (lambda path: os.mkfifo(path.with_name("pipe")), "pipe", "is no plain file"),
        (bind, "socket", "is no plain file"),
        (lambda path: path.with_name("empty").mkdir(), "empty", "is not in the manifest"),
    ],
)
def test_nothing_but_plain_files_may_be_there(package, change: Callable[[Path], None], name, what):
    change(package / "model.onnx")
    assert refused(package).startswith(f"{package / name} {what}")


def test_a_link_of_another_kind_is_one(package, monkeypatch):
    """As Windows has them, of which Python says that they are none."""
    linked_folder(package / "model.onnx")
    monkeypatch.setattr(Path, "is_symlink", lambda _: False)
    assert refused(package).startswith(f"{package}/adapters is a link")


def test_what_cannot_be_read_is_named(package):
    assert refused(package / "nowhere") == f"{package}/nowhere cannot be read (No such file or directory): " + (
        packaged.AGAIN
    )


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        "null",
        "",
        "{",
        '{"base_sha256": "0", "files": []}',
        '{"base_sha256": "0", "files": "model.onnx"}',
        '{"base_sha256": "0", "files": null}',
        '{"base_sha256": 0, "files": {}}',
        '{"files": {}}',
        '{"base_sha256": "0", "files": {}, "files": {}}',
        '{"base_sha256": "\\ud800", "files": {}}',
        "[" * DEEP + "]" * DEEP,
        '{"files": ' + "[" * 2000 + "]" * 2000 + "}",
        "\ufeff{}",
    ],
)
def test_a_manifest_of_another_form_is_damaged(package, content):
    (package / "manifest.json").write_text(content, encoding="utf-8")
    assert refused(package) == f"{package}/manifest.json is damaged: {packaged.AGAIN}"


def test_a_manifest_that_is_not_in_utf_8_or_a_folder(package):
    (package / "manifest.json").write_bytes(b"\xff\xfe{}")
    assert "manifest.json is damaged" in refused(package)
    (package / "manifest.json").unlink()
    (package / "manifest.json").mkdir()
    assert "manifest.json is missing" in refused(package)
    (package / "manifest.json/more").write_text("", encoding="utf-8")
    assert "manifest.json is missing" in refused(package)


def test_a_name_that_would_command_the_terminal_is_quoted(package):
    (package / "more\x1b[2J\nerror: all is well").write_text("", encoding="utf-8")
    assert refused(package).startswith(f"'{package}/more\\x1b[2J\\nerror: all is well' is not in the manifest")


@pytest.mark.parametrize("name", ["genai_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content", ["[]", "null", "{", "[" * DEEP + "]" * DEEP, '{"a": 1, "a": 2}', '{"a": "\\udc80"}']
)
def test_a_config_of_another_form_is_damaged(package, name, content):
    (package / name).write_text(content, encoding="utf-8")
    list_files(package)
    assert refused(package) == f"{package / name} is damaged: {packaged.AGAIN}"


def at(path: str, value: object) -> dict:
    """Return the config with another value at a path of keys, which a slash parts."""
    changed = json.loads(json.dumps(CONFIG))
    *keys, last = path.split("/")
    found = changed
    for key in keys:
        found = found[int(key) if isinstance(found, list) else key]
    found[last] = value
    return changed


SESSION = "model/decoder/session_options"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{SESSION}/custom_ops_library", "evil.so"),
        (f"{SESSION}/enable_profiling", "/tmp/profile"),
        (f"{SESSION}/session.model_external_initializers_file_folder_path", "/tmp"),
        (f"{SESSION}/ep.context_file_path", "/tmp/context.onnx"),
        (f"{SESSION}/provider_options", [{"QNN": {"backend_path": "/tmp/evil.so"}}]),
        (f"{SESSION}/provider_options", [{"evil": {}}]),
        (f"{SESSION}/provider_options", [{"OpenVINO": {"load_config": "/tmp/config.json"}}]),
        (f"{SESSION}/provider_options", [{"cuda": {"enable_cuda_graph": {"a": "b"}}}]),
        ("model/decoder/pipeline/0/context/session_options", {"custom_ops_library": "evil.so"}),
        ("model/decoder/pipeline/0/context/filename", "../context.onnx"),
        ("model/decoder/run_options", {"enable_profiling": "1"}),
        ("model/decoder/filename", "/tmp/model.onnx"),
        ("model/decoder/filename", "../model.onnx"),
        ("model/decoder/filename", "C:model.onnx"),
        ("model/decoder/filename", "folder\\model.onnx"),
        ("model/decoder/filename", ".."),
        ("model/decoder/filename", ["model.onnx", "/tmp/model.onnx"]),
        ("model/decoder/inputs/past_key_names", "past_key_values.%n%d.key"),
        ("model/decoder/inputs/past_key_names", "past_key_values.%d.%d"),
        ("model/tokenizer_dir", "/tmp"),
        ("model/draft", {}),
        ("model/vision", {"adapter_filename": "/tmp/adapter"}),
        ("model/eos_token_id", [[[1]]]),
        ("search/extra", {"a": 1}),
        ("search", "x"),
        (SESSION, "x"),
        (SESSION, [{}, 1]),
        ("engine", {}),
    ],
)
def test_what_could_load_code_or_leave_the_folder_may_not_be_set(package, path, value):
    files.write_json(package / "genai_config.json", at(path, value))
    list_files(package)
    sentence = refused(package)
    assert sentence.startswith(f"{package}/genai_config.json sets ")
    assert path.split("/")[-1] in sentence
    assert "not among what a package may set" in sentence
    # A merged adapter is a model with a config of its own.
    (package / "genai_config.json").rename(package / "adapters/travel/genai_config.json")
    list_files(package)
    assert refused(package).startswith(f"{package}/adapters/travel/genai_config.json sets ")


def test_a_value_that_may_not_be_set_is_shown(package):
    files.write_json(package / "genai_config.json", at("model/decoder/filename", "../model.onnx"))
    list_files(package)
    assert "sets model.decoder.filename to '../model.onnx', which is not among" in refused(package)


def test_a_package_without_a_config_of_the_runtime_has_none(package):
    (package / "genai_config.json").unlink()
    list_files(package)
    packaged.open_package(package)
    with pytest.raises(UserError, match=rf"^{package}/genai_config\.json is missing: "):
        packaged.runtime_config(package / "genai_config.json")


def test_a_second_value_of_a_setting_is_not_overlooked(package):
    """The runtime takes both, Python the last."""
    text = json.dumps(CONFIG)
    assert '"log_id": "onnxruntime-genai"' in text
    once = text.replace(
        '"session_options": {', '"session_options": {"custom_ops_library": "x.so"}, "session_options": {'
    )
    (package / "genai_config.json").write_text(once, encoding="utf-8")
    list_files(package)
    assert "genai_config.json is damaged" in refused(package)


@pytest.mark.parametrize("model", [None, {}, *({"context_length": length} for length in (0, 1.5, True)), []])
def test_a_model_without_a_context_is_refused(package, model):
    files.write_json(package / "genai_config.json", {"model": model} if model is not None else {})
    list_files(package)
    assert refused(package) == f"{package}/genai_config.json has no model.context_length: {packaged.AGAIN}"


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "config.json", "Tokenizer_Config.json", "tokenizer_module.json"]
)
@pytest.mark.parametrize("key", ["auto_map", "tiktoken_file"])
def test_no_config_names_a_class_to_import_or_a_vocabulary_elsewhere(package, name, key):
    files.write_json(package / name, {key: "../../vocab"})
    list_files(package)
    assert refused(package).startswith(f"{package / name} sets {key}, which is not among")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chat_template.jinja", "{{ messages }}\0{{ bos }}"),
        ("tokenizer_config.json", json.dumps({"chat_template": "a\0"})),
        ("tokenizer_config.json", json.dumps({"chat_template": [{"name": "default", "template": "a\0"}]})),
    ],
)
def test_a_chat_template_that_the_runtime_would_cut_off_is_refused(package, name, text):
    (package / name).write_text(text, encoding="utf-8")
    list_files(package)
    assert refused(package).startswith(f"{package / name} has the character U+0000, at which the runtime cuts")


ADAPTER = {"template": "{prompt}{response}"}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return tmp_path / "adapter.json"


def test_an_adapter_of_an_earlier_version_is_greedy_and_held_to_nothing(adapter):
    files.write_json(adapter, ADAPTER)
    found = packaged.read_adapter(adapter)
    assert found["response_schema"] is None
    assert found["generation"] == {
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 50,
        "repetition_penalty": 1.0,
        "max_new_tokens": 512,
        "stop": [],
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"generation": []}, "generation is no object"),
        ({"generation": {"temperature": -1}}, "temperature is -1, but must be a number from 0 to 100"),
        ({"generation": {"temperature": "0"}}, "temperature is '0', but must be a number"),
        ({"generation": {"top_p": 1.1}}, "top_p is 1.1, but must be a number from 0.001 to 1"),
        ({"generation": {"top_k": 1.5}}, "top_k is 1.5, but must be an integer from 0 to 1000000"),
        ({"generation": {"repetition_penalty": 0}}, "repetition_penalty is 0, but must be a number from 0.01 to 100"),
        ({"generation": {"max_new_tokens": True}}, "max_new_tokens is True, but must be an integer from 1"),
        ({"generation": {"stop": ["a", ""]}}, "stop is ['a', ''], but must be a list of texts, none of them empty"),
        ({"generation": {"stop": "a"}}, "stop is 'a', but must be a list of texts"),
        ({"template": "{prompt}\0{response}"}, "template has the character U+0000"),
        ({"response_schema": ["a"]}, "response_schema is no JSON Schema of an object"),
        ({"response_schema": {"enum": ["a" * 100_000]}}, "response_schema has 100014 characters, but may have 100000"),
    ],
)
def test_an_adapter_that_says_what_it_may_not_is_refused(adapter, change, reason):
    files.write_json(adapter, ADAPTER | change)
    with pytest.raises(UserError) as caught:
        packaged.read_adapter(adapter)
    assert str(caught.value).startswith(f"{adapter} is damaged ({reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ['{"generation": {"temperature": NaN}}', '{"response_schema": ' + '{"items": ' * DEEP + "{}" + "}" * DEEP + "}"],
)
def test_an_adapter_in_json_that_not_every_program_reads_is_refused(adapter, text):
    adapter.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        packaged.read_adapter(adapter)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {"do_sample": False, "repetition_penalty": 1.0}),
        ({"repetition_penalty": 1.2, "top_p": 0.5}, {"do_sample": False, "repetition_penalty": 1.2}),
        (
            {"temperature": 0.7, "top_k": 5},
            {"do_sample": True, "repetition_penalty": 1.0, "temperature": 0.7, "top_p": 1.0, "top_k": 5},
        ),
    ],
)
def test_settings_become_search_options(given, options):
    settings = packaged.generation(given)
    assert packaged.search_options(settings) == options
    measured = {"do_sample": False, "repetition_penalty": options["repetition_penalty"]}
    assert packaged.search_options(settings, greedy=True) == measured
