"""The base model comes from where params.yaml says, or a sentence says why not."""

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints
from press.params import schema, settings
from press.sources import fetching, folder, random_model, tokenizers, wheel

ROOT = Path(__file__).parents[3]
CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
# A small wheel of the registry that pip is configured for.
WHEEL = schema.PackageSource(
    name="idna",
    version="3.10",
    sha256="946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3",
    gguf="a.gguf",
    model=None,
    license=None,
    language=[],
)
TOKENIZER = tokenizers.of_bytes()


def built(folder: Path, seed: int = 1, **config: object) -> Path:
    folder.mkdir()
    random_model.build(schema.RandomSource(config={**CONFIG, **config}), seed, folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("sources") / "model")


@pytest.mark.integration
def test_a_random_model_is_the_same_by_seed_and_another_by_another_seed(model, tmp_path):
    digest = files.folder_digest(model)
    assert files.folder_digest(built(tmp_path / "same")) == digest
    other = files.digests(built(tmp_path / "other", seed=2))
    assert [name for name, sha in files.digests(model).items() if other[name] != sha] == ["model.safetensors"]


@pytest.mark.integration
def test_a_random_model_loads_in_transformers_and_ends_turns(model):
    loaded = AutoModelForCausalLM.from_pretrained(model)
    assert loaded.config.vocab_size == len(AutoTokenizer.from_pretrained(model)) == 256 + 3
    assert checkpoints.eos_ids(model) == [258]
    assert AutoTokenizer.from_pretrained(model).convert_ids_to_tokens(258) == "<|im_end|>"
    fetching.check(model, trust_remote_code=False)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "no-such-model"}, "Unrecognized model identifier: no-such-model."),
        ({"hidden_size": "wide"}, "Field 'hidden_size' expected int, got str (value: 'wide')"),
        ({"hidden_size": 15}, "The hidden size (15) is not a multiple of the number of attention heads (2)."),
        ({"vocab_size": 10}, "Padding_idx must be within num_embeddings"),
        ({"hidden_size": -16}, "negative dimension"),
    ],
)
def test_a_configuration_of_no_language_model_is_a_sentence(tmp_path, config, reason):
    with pytest.raises(UserError) as caught:
        built(tmp_path / "model", **config)
    message = str(caught.value)
    assert message.startswith("base.random.config describes no causal language model: ")
    assert reason in message
    assert len(message.splitlines()) == 1
    assert len(message) < 300


@given(st.text())
def test_thebyte_tokenizer_gives_every_text_back(text):
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    assert len(ids) == len(text.encode())


def test_thebyte_tokenizer_has_one_token_for_each_mark():
    ids = TOKENIZER("<|im_start|>é<|im_end|>", add_special_tokens=False)["input_ids"]
    assert TOKENIZER.convert_ids_to_tokens(ids)[::3] == ["<|im_start|>", "<|im_end|>"]
    assert len(ids) == 4


@pytest.mark.integration
def test_a_folder_of_another_digest_is_refused_with_its_digest_and_taken_with_it(model, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    digest = files.folder_digest(model)
    with pytest.raises(UserError) as caught:
        folder.bring(schema.LocalSource(path=str(model), sha256=""), fetching.KEPT, first)
    assert str(caught.value) == (
        f"the checkpoint in {model} has the digest {digest}, but base.local.sha256 in params.yaml is '': "
        "if this is the model you mean, write its digest there"
    )
    folder.bring(schema.LocalSource(path=str(model), sha256=digest), fetching.KEPT, second)
    assert files.digests(second) == files.digests(model)


def test_a_folder_that_is_none_is_a_sentence(tmp_path):
    source = schema.LocalSource(path=str(tmp_path / "no"), sha256="")
    with pytest.raises(UserError, match=r"^base\.local\.path names .*/no, which is not a folder"):
        folder.bring(source, fetching.KEPT, tmp_path)


def test_only_a_checkpoint_s_files_are_copied(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub.safetensors").mkdir(parents=True)
    target.mkdir()
    taken = {"config.json", "model-00001-of-2.safetensors", "tokenizer.json", "LICENSE.txt", "NOTICE"}
    for name in (*taken, "model.bin", "modeling.py", "optimizer.pt", "notes.md"):
        (source / name).touch()
    save_file({"weight": torch.zeros(1)}, source / "model-00001-of-2.safetensors")
    files.write_json(source / "config.json", {"model_type": "llama"})
    folder.copy_checkpoint(source, fetching.KEPT, target)
    assert {path.name for path in target.iterdir()} == taken


@pytest.mark.integration
def test_a_folder_that_does_not_fit_on_the_disk_is_refused(model, tmp_path, small_disk):
    source = shutil.copytree(model, tmp_path / "model")
    with (source / "tokenizer.model").open("wb") as sparse:
        sparse.truncate(10**10)
    with pytest.raises(UserError, match=rf"^{source} needs 10\.0 GB of disk in {small_disk}, which has 4\.2 MB left"):
        folder.copy_checkpoint(source, fetching.KEPT, small_disk)
    assert not any(small_disk.iterdir())


def test_half_a_download_is_refused_by_name(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged or half downloaded"):
        folder.copy_checkpoint(tmp_path, fetching.KEPT, tmp_path)


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
        fetching.check(tmp_path, trust_remote_code=False)
    assert str(caught.value) == f"the base model {reason}; a checkpoint in safetensors format is needed"


@pytest.mark.integration
def test_code_of_the_checkpoint_s_own_is_refused_unless_it_is_trusted(tmp_path):
    folder = built(tmp_path / "model")
    config = files.read_json(folder / "config.json")
    files.write_json(folder / "config.json", {**config, "auto_map": {"AutoModel": "modeling.Model"}})
    with pytest.raises(UserError, match=r"brings Python code of its own .* set base\.trust_remote_code to true"):
        fetching.check(folder, trust_remote_code=False)
    fetching.check(folder, trust_remote_code=True)


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
        folder.bring(source, fetching.KEPT, fresh(tmp_path / "first"))
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
        fetching.check(folder, trust_remote_code=False)
    assert str(caught.value) == reason


@pytest.mark.integration
def test_a_missing_licence_is_noted(tmp_path, capsys):
    folder = built(tmp_path / "model")
    fetching.check(folder, trust_remote_code=False)
    assert capsys.readouterr().out == ""
    (folder / "LICENSE").unlink()
    fetching.check(folder, trust_remote_code=False)
    assert capsys.readouterr().out == "note: the base model comes without a licence file\n"


@pytest.mark.integration
def test_a_wheel_with_the_pinned_digest_is_taken(tmp_path):
    assert wheel._download_wheel(WHEEL, tmp_path).name == "idna-3.10-py3-none-any.whl"


@pytest.mark.integration
def test_a_wheel_with_another_digest_is_refused_with_both(tmp_path):
    with pytest.raises(UserError) as caught:
        wheel._download_wheel(WHEEL.model_copy(update={"sha256": "0" * 64}), tmp_path)
    assert str(caught.value) == (
        f"idna-3.10-py3-none-any.whl has the SHA-256 {WHEEL.sha256}, but base.package.sha256 in params.yaml is "
        f"{'0' * 64}: the registry served another file than the pinned one"
    )


@pytest.mark.integration
def test_a_wheel_is_downloaded_once_and_a_damaged_copy_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    downloaded = wheel.pinned(WHEEL, tmp_path)
    assert downloaded.parent == tmp_path
    kept = wheel.pinned(WHEEL, tmp_path)
    assert kept.is_relative_to(tmp_path / "cache")
    assert [path.name for path in kept.parent.iterdir()] == [downloaded.name]
    kept.write_bytes(kept.read_bytes()[:-1])
    assert wheel.pinned(WHEEL, tmp_path) == downloaded
    assert wheel.pinned(WHEEL, tmp_path) == kept


@pytest.mark.integration
def test_a_cache_that_cannot_be_written_only_costs_a_download(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert wheel.pinned(WHEEL, tmp_path).parent == tmp_path


@pytest.mark.integration
def test_a_wheel_without_the_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError) as caught:
        wheel.bring(WHEEL, tmp_path / "model")
    assert str(caught.value) == "idna-3.10-py3-none-any.whl holds no a.gguf: mend base.package.gguf in params.yaml"
    assert not any((tmp_path / "model").iterdir())


@pytest.mark.integration
@pytest.mark.parametrize("update", [{"name": "no-such-package-of-olive-press"}, {"version": "0.0.0.dev9"}])
def test_a_package_that_does_not_exist_is_a_sentence(tmp_path, update):
    source = WHEEL.model_copy(update=update)
    with pytest.raises(UserError) as caught:
        wheel._download_wheel(source, tmp_path)
    requirement = f"{source.name}=={source.version}"
    assert (
        str(caught.value) == f"pip could not download {requirement}: No matching distribution found for {requirement}"
    )
