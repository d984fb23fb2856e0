"""Whatever the base model comes from, it is a checkpoint in safetensors, or a sentence says why it is none."""

import contextlib
from pathlib import Path

import pytest

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints
from press.params import schema, settings
from press.sources import fetching, folder

from .models import built

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pytorch_model.bin", "has only pickled weights, which can run code when they are loaded"),
        ("model.ckpt", "has only pickled weights, which can run code when they are loaded"),
        ("notes.md", "has no weights"),
    ],
)
def test_weights_other_than_safetensors_are_refused(tmp_path, name, reason):
    files.write_json(tmp_path / "config.json", {"model_type": "llama"})
    (tmp_path / name).touch()
    with pytest.raises(UserError) as caught:
        fetching.check(tmp_path, trust=False)
    assert str(caught.value) == f"the base model {reason}; a checkpoint in safetensors format is needed"


@pytest.mark.integration
def test_code_of_the_checkpoint_s_own_is_refused_unless_it_is_trusted(tmp_path):
    folder = built(tmp_path / "model")
    config = files.read_json(folder / "config.json")
    files.write_json(folder / "config.json", {**config, "auto_map": {"AutoModel": "modeling.Model"}})
    with pytest.raises(UserError, match=r"brings Python code of its own .* set base\.trust_remote_code to true"):
        fetching.check(folder, trust=False)
    fetching.check(folder, trust=True)


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json"]
)
@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("auto_map", {"auto_map": {"AutoTokenizer": [None, "tokenizer_x.T"]}}),
        ("auto_map", {"auto_map": {}}),
        ("auto_map", {"text_config": [{"auto_map": {"AutoConfig": "configuration.C"}}]}),
        # Of a hub's kernels, which transformers would fetch and import.
        ("attn_implementation", {"attn_implementation": "somebody/kernel"}),
        ("_attn_implementation", {"text_config": {"_attn_implementation": {"": "somebody/kernel@v1:attention"}}}),
        ("experts_implementation", {"a": 1, "experts_implementation": "somebody/kernel"}),
    ],
)
def test_code_that_any_configuration_names_is_refused(tmp_path, name, key, content):
    files.write_json(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        fetching.check_no_code(tmp_path)
    assert str(caught.value) == (
        f"the base model brings Python code of its own ({key} in its {name}); read that code, then set "
        "base.trust_remote_code to true in params.yaml"
    )


def test_a_way_to_compute_that_transformers_has_itself_is_no_code(tmp_path):
    content = {"attn_implementation": "eager", "cache_implementation": None, "name": "somebody/model", "a": [1, "b/c"]}
    files.write_json(tmp_path / "config.json", content)
    fetching.check_no_code(tmp_path)


def test_a_python_file_is_refused_by_its_name(tmp_path):
    (tmp_path / "tokenizer_x.py").touch()
    with pytest.raises(UserError, match=r"Python code of its own \(tokenizer_x\.py\)"):
        fetching.check_no_code(tmp_path)


@pytest.mark.integration
def test_a_tokenizer_s_own_code_is_neither_kept_nor_run(tmp_path):
    checkpoint, base = built(tmp_path / "model"), fresh(tmp_path / "base")
    (checkpoint / "tokenizer_x.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass T: pass\n", encoding="utf-8"
    )
    config = files.read_json(checkpoint / "tokenizer_config.json")
    names = {"auto_map": {"AutoTokenizer": [None, "tokenizer_x.T"]}}
    files.write_json(checkpoint / "tokenizer_config.json", config | names)
    folder.copy_checkpoint(checkpoint, False, base)
    assert not (base / "tokenizer_x.py").exists()
    with pytest.raises(UserError, match=r"auto_map in its tokenizer_config\.json"):
        fetching.check(base, trust=False)
    # Nor does a file that came there otherwise stand for trust.
    checkpoints.tokenizer(checkpoint)
    assert not (tmp_path / "ran").exists()
    with contextlib.suppress(AttributeError):
        checkpoints.tokenizer(checkpoint, trust=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.integration
def test_a_tokenizer_is_read_from_the_checkpoint_s_own_files(tmp_path):
    checkpoint = built(tmp_path / "model")
    other = files.read_json(checkpoint / "tokenizer.json")
    other["added_tokens"][0]["content"] = "<of somebody else>"
    files.write_json(tmp_path / "tokenizer.4.0.0.json", other)
    config = files.read_json(checkpoint / "tokenizer_config.json")
    names = {"fast_tokenizer_files": ["../tokenizer.4.0.0.json"]}
    files.write_json(checkpoint / "tokenizer_config.json", config | names)
    # So transformers takes it.
    assert "<of somebody else>" in checkpoints.tokenizer(checkpoint).get_vocab()
    with pytest.raises(UserError, match=r"names '\.\./tokenizer\.4\.0\.0\.json' in fast_tokenizer_files"):
        fetching.check(checkpoint, trust=False)


@pytest.mark.parametrize("names", ["tokenizer.json", [1], ["/etc/passwd"], [".."], ["tokenizer.4.0.0.json"], {}])
def test_what_a_tokenizer_s_files_may_not_be_is_refused(tmp_path, names):
    files.write_json(tmp_path / "tokenizer_config.json", {"fast_tokenizer_files": names})
    with pytest.raises(UserError, match="in fast_tokenizer_files, which is no file of the checkpoint"):
        fetching.check_tokenizer_files(tmp_path)


def test_a_tokenizer_s_files_may_be_its_own(tmp_path):
    (tmp_path / "tokenizer.4.0.0.json").touch()
    for content in ({}, {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}):
        files.write_json(tmp_path / "tokenizer_config.json", content)
        fetching.check_tokenizer_files(tmp_path)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("config.json", "[]", "a JSON list, not an object"),
        ("generation_config.json", "null", "a JSON NoneType, not an object"),
        ("generation_config.json", "{", "Expecting property name enclosed in double quotes"),
        ("tokenizer_config.json", "[" * 100_000, "its values are nested too deeply"),
        ("tokenizer_config.json", '{"eos_token": "\\ud800"}', "it has half of a surrogate pair, which is no character"),
        ("tokenizer.json", "\ufeff{}", "it begins with a byte order mark"),
    ],
)
def test_a_damaged_configuration_is_a_sentence(tmp_path, name, text, reason):
    checkpoint = built(tmp_path / "model")
    (checkpoint / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        fetching.check(checkpoint, trust=False)
    assert str(caught.value).startswith(f"the base model has a damaged or half downloaded {name} ({reason}")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("tokenizer.json", {"model": None}, "tokenizer"),
        ("tokenizer_config.json", {"added_tokens_decoder": []}, "tokenizer"),
        ("config.json", {"hidden_act": 7}, "config.json"),
        ("config.json", {"rope_parameters": {"rope_type": "default", "rope_theta": "x"}}, "config.json"),
    ],
)
def test_a_configuration_of_wrong_values_is_a_sentence(tmp_path, name, change, what):
    checkpoint = built(tmp_path / "model")
    files.write_json(checkpoint / name, files.read_json(checkpoint / name) | change)
    with pytest.raises(UserError, match=rf"^the base model's {what} cannot be read \(\w+: .*\)$"):
        fetching.check(checkpoint, trust=False)


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        ([], "the base model names no token that ends a turn: it needs eos_token_id in generation_config.json or"),
        ([2, 10], "the base model's turns end with the token 10, but its tokenizer has those from 0 to 9: mend"),
        (["</s>"], "the base model's turns end with the token '</s>', but its tokenizer has those from 0 to 9: mend"),
    ],
)
def test_turns_that_would_never_end_are_refused(ends, sentence):
    with pytest.raises(UserError) as caught:
        fetching.check_ends(ends, 10)
    assert str(caught.value).startswith(sentence)


@pytest.mark.integration
def test_a_chat_template_that_a_device_would_cut_off_is_refused(tmp_path):
    checkpoint = built(tmp_path / "model")
    (checkpoint / "chat_template.jinja").write_text("{{ messages }}\0{{ bos_token }}", encoding="utf-8")
    with pytest.raises(UserError, match=r"^the base model's chat template has the character U\+0000"):
        fetching.check(checkpoint, trust=False)


def with_code(folder: Path, **changes: str) -> dict:
    """Give a checkpoint Python code of its own; return its config as it was."""
    config = files.read_json(folder / "config.json") | changes
    files.write_json(folder / "config.json", {**config, "auto_map": {"AutoModel": "modeling.Model"}})
    (folder / "modeling.py").write_text("", encoding="utf-8")
    return config


@pytest.mark.integration
def test_code_for_what_transformers_has_itself_is_left_out(tmp_path):
    checkpoint = built(tmp_path / "model")
    params = settings.load(ROOT / "params.yaml").base
    source = schema.LocalSource(path=str(checkpoint), sha256="")
    config = with_code(checkpoint)
    # The digest is of what is kept, as the sentence says.
    with pytest.raises(UserError, match="has the digest") as caught:
        folder.bring(source, False, fresh(tmp_path / "first"))
    source = source.model_copy(update={"sha256": str(caught.value).partition("has the digest ")[2][:64]})
    base = fresh(tmp_path / "base")
    fetching.fetch(params.model_copy(update={"source": "local", "local": source}), 0, base)
    assert files.read_json(base / "config.json") == config
    assert not (base / "modeling.py").exists()


def fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.integration
def test_code_for_what_transformers_does_not_have_is_still_named(tmp_path):
    folder = built(tmp_path / "model")
    with_code(folder, model_type="other")
    fetching.forget_known_code(folder)
    assert "auto_map" in files.read_json(folder / "config.json")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("removed", "reason"),
    [
        ("config.json", "the base model has no config.json: it is not a Hugging Face checkpoint"),
        ("tokenizer*", "the base model has no tokenizer: tokenizer.json or tokenizer.model is needed"),
    ],
)
def test_a_checkpoint_without_config_or_tokenizer_is_refused(tmp_path, removed, reason):
    folder = built(tmp_path / "model")
    for path in folder.glob(removed):
        path.unlink()
    with pytest.raises(UserError) as caught:
        fetching.check(folder, trust=False)
    assert str(caught.value) == reason


@pytest.mark.integration
def test_a_missing_licence_is_noted(tmp_path, capsys):
    folder = built(tmp_path / "model")
    fetching.check(folder, trust=False)
    assert capsys.readouterr().out == ""
    (folder / "LICENSE").unlink()
    fetching.check(folder, trust=False)
    assert capsys.readouterr().out == "note: the base model comes without a licence file\n"


SWITCH = "{% if enable_thinking %}a{% endif %}"
OFF = "{% set enable_thinking = false %}" + SWITCH


@pytest.mark.parametrize(
    ("key", "settled"),
    [
        (SWITCH, OFF),
        (
            [{"name": "default", "template": SWITCH}, {"name": "rag", "template": "b"}],
            [{"name": "default", "template": OFF}, {"name": "rag", "template": "b"}],
        ),
    ],
)
def test_thinking_is_settled_in_the_chat_template_of_a_tokenizer_s_configuration(tmp_path, key, settled):
    files.write_json(tmp_path / "tokenizer_config.json", {"a": 1, "chat_template": key})
    fetching.settle_thinking(tmp_path, False)
    assert files.read_json(tmp_path / "tokenizer_config.json") == {"a": 1, "chat_template": settled}


def test_thinking_is_settled_in_the_chat_template_s_own_file(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(SWITCH.encode() + b"\r\n")
    fetching.settle_thinking(tmp_path, False)
    assert (tmp_path / "chat_template.jinja").read_bytes() == OFF.encode() + b"\r\n"


@pytest.mark.parametrize("config", [{}, {"chat_template": "a"}, {"chat_template": [{"name": "a", "template": "b"}]}])
def test_thinking_is_not_chosen_where_the_chat_template_has_no_choice(tmp_path, config):
    files.write_json(tmp_path / "tokenizer_config.json", config)
    with pytest.raises(UserError) as caught:
        fetching.settle_thinking(tmp_path, True)
    assert str(caught.value) == (
        "base.thinking is true, but the base model's chat template has no choice of it (enable_thinking): leave it null"
    )
