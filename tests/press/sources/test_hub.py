"""A model of the Hugging Face hub, fetched through the real client from a server on loopback (hub_server.py)."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import split_torch_state_dict_into_shards
from projects import ROOT, assert_sentence
from safetensors.torch import load_file, save_file

from press.core import files
from press.model import checkpoints
from press.params import schema
from press.sources import fetching, random_model

from .hub_server import REVISION, TOKEN, Hub, Repository

pytestmark = pytest.mark.integration
MODEL = "press/tiny"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
# 25 MB: the client writes 10 MB at a time.
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 32768,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
WRITTEN, CUT = 10 << 20, 12_000_000


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in two files, as the hub has it."""
    folder = tmp_path_factory.mktemp("stored")
    random_model.build(schema.RandomSource(config=CONFIG), 0, folder)
    weights = load_file(folder / checkpoints.SINGLE)
    split = split_torch_state_dict_into_shards(weights, max_shard_size="17MB")
    for name, tensors in split.filename_to_tensors.items():
        save_file({tensor: weights[tensor] for tensor in tensors}, folder / name, {"format": "pt"})
    files.write_json(folder / checkpoints.INDEX, {"weight_map": split.tensor_to_filename})
    (folder / checkpoints.SINGLE).unlink()
    return folder


@pytest.fixture
def hub(stored: Path, tmp_path: Path) -> Iterator[Hub]:
    """A hub with the checkpoint, of which a test may change a copy."""
    folder = shutil.copytree(stored, tmp_path / "stored")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with Hub({MODEL: Repository(folder)}) as running:
        yield running


class Fetch:
    """The stage, in a folder where it has run before."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.folder = folder
        self.hub = hub
        self.base = folder / "models/base"
        self.home = folder / "home"
        self.base.mkdir(parents=True)
        (self.base / "config.json").write_text("the last one", encoding="utf-8")

    def start(self, model: str = MODEL, revision: str = REVISION, **variables: str) -> subprocess.Popen:
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["base"] |= {"source": "hub", "hub": {"id": model, "revision": revision}}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        own = {"PYTHONPATH": str(ROOT), "HF_HOME": str(self.home), **self.hub.environment, **variables}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [sys.executable, "-m", "stages.fetch"], cwd=self.folder, env=inherited | own, process_group=0, **pipes
        )

    def run(self, **words: str) -> subprocess.CompletedProcess:
        process = self.start(**words)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def refused(self, *parts: str, **words: str) -> None:
        """Run the stage; it refuses in one sentence, and the last output stays."""
        assert_sentence(self.run(**words), *parts)
        assert (self.base / "config.json").read_text(encoding="utf-8") == "the last one"


@pytest.fixture
def stage(tmp_path: Path, hub: Hub) -> Fetch:
    return Fetch(tmp_path / "project", hub)


def test_a_model_arrives_byte_for_byte_with_progress_and_nothing_else(hub: Hub, stage: Fetch, stored: Path) -> None:
    (hub.repositories[MODEL].folder / "consolidated.safetensors").write_bytes(b"the same weights once more")
    (hub.repositories[MODEL].folder / "tokenizer_x.py").write_text("raise SystemExit", encoding="utf-8")
    hub.repositories[MODEL].gated = True
    result = stage.run(HF_TOKEN=TOKEN)
    assert result.returncode == 0, result.stderr
    assert files.digests(stage.base) == files.digests(stored)
    assert f"{MODEL}: 100%" in result.stderr
    assert [path.name for path in stage.base.parent.iterdir()] == ["base"]
    assert not stage.home.exists()


def test_what_the_last_output_has_is_not_downloaded_again(hub: Hub, stage: Fetch, stored: Path) -> None:
    shutil.copytree(stored, stage.base, dirs_exist_ok=True)
    changed = bytearray((stage.base / SECOND).read_bytes())
    changed[-1] ^= 1
    (stage.base / SECOND).write_bytes(changed)
    assert stage.run().returncode == 0
    assert files.digests(stage.base) == files.digests(stored)
    assert hub.weights() == [(SECOND, None)]


def test_what_hf_download_has_brought_needs_no_hub(hub: Hub, stage: Fetch, stored: Path) -> None:
    (hub.repositories[MODEL].folder / "tokenizer_x.py").write_text("raise SystemExit", encoding="utf-8")
    command = f"huggingface_hub.snapshot_download('{MODEL}', revision='{REVISION}')"
    environment = {**os.environ, **hub.environment, "HF_HOME": str(stage.home)}
    subprocess.run([sys.executable, "-c", f"import huggingface_hub; {command}"], env=environment, check=True)
    hub.requests.clear()
    assert stage.run(HF_HUB_OFFLINE="1").returncode == 0
    assert files.digests(stage.base) == files.digests(stored)
    assert not hub.requests


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ({"model": "press/none"}, ("the hub has no model press/none that you can read: mend base.hub.id or log in",)),
        ({"model": "a/b/c"}, ("base.hub.id is 'a/b/c', but must be a name on the hub, such as owner/model",)),
        ({"revision": "6" * 40}, (f"the hub has no {MODEL} at revision {'6' * 40}", "mend base.hub.revision")),
        ({"HF_TOKEN": "hf_of_somebody_else"}, (f"the hub does not take your token for {MODEL}: run `hf auth login`",)),
        ({"HF_HUB_OFFLINE": "1"}, ("the hub could not be reached", "please unset the `HF_HUB_OFFLINE`")),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, (f"the hub could not be reached for {MODEL}", "Connection refused")),
    ],
)
def test_a_hub_that_does_not_give_is_a_sentence(stage: Fetch, words: dict[str, str], parts: tuple[str, ...]) -> None:
    stage.refused(*parts, **words)


def test_a_gated_model_is_a_sentence(hub: Hub, stage: Fetch) -> None:
    hub.repositories[MODEL].gated = True
    stage.refused(f"{MODEL} is gated: accept its terms on the hub and log in with `hf auth login`")


def lack(folder: Path, *patterns: str) -> None:
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        path.unlink()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            lambda folder: lack(folder, "*.safetensors*"),
            (MODEL, "only pickled weights", "safetensors format is needed"),
        ),
        (lambda folder: lack(folder, SECOND), (MODEL, f"lacks 1 of the 2 files that its {checkpoints.INDEX}", SECOND)),
        (lambda folder: lack(folder, "tokenizer*"), (MODEL, "has no tokenizer")),
        (lambda folder: lack(folder, "config.json"), (MODEL, "has no config.json")),
        (
            lambda folder: files.write_json(folder / "config.json", {"model_type": "bert"}),
            ("architecture is bert", "those that this pipeline supports are "),
        ),
        (
            lambda folder: (folder / checkpoints.INDEX).write_text("{"),
            (MODEL, f"a damaged or half downloaded {checkpoints.INDEX}"),
        ),
    ],
    ids=["pickle", "shard", "tokenizer", "config", "architecture", "index"],
)
def test_what_is_no_checkpoint_is_refused_before_its_weights_are_asked_for(hub, stage, change, parts) -> None:
    change(hub.repositories[MODEL].folder)
    stage.refused(*parts)
    assert not hub.weights()


def test_a_disk_that_is_too_small_is_known_before_the_download(hub: Hub, small_disk: Path) -> None:
    stage = Fetch(small_disk, hub)
    place = f"{small_disk}/models/.base.download/press--tiny@{REVISION}"
    stage.refused(
        f"{MODEL} needs 25.", f" MB of disk in {place}, which has ", " MB left: free 2", ", then run this again"
    )
    assert not hub.weights()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_download_goes_on_where_it_was(hub: Hub, stage: Fetch, stored: Path, number: int) -> None:
    hub.cut, hub.stalls = CUT, True
    process = stage.start()
    part = files.partial(stage.folder / fetching.PARTS / f"press--tiny@{REVISION}" / FIRST)
    while not part.exists() or part.stat().st_size < WRITTEN:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    assert (stage.base / "config.json").read_text(encoding="utf-8") == "the last one"
    hub.cut, hub.stalls = None, False
    hub.sent.clear()
    assert stage.run().returncode == 0
    assert files.digests(stage.base) == files.digests(stored)
    assert hub.weights() == [(FIRST, f"bytes={WRITTEN}-"), (SECOND, None)]
    assert "config.json" not in dict(hub.sent)


def test_a_connection_that_keeps_breaking_is_a_sentence_and_loses_nothing(hub: Hub, stage: Fetch) -> None:
    hub.cut = CUT
    stage.refused(f"the hub could not be reached for {MODEL}", "what was downloaded is kept, run this again to go on")
    assert files.partial(stage.folder / fetching.PARTS / f"press--tiny@{REVISION}" / FIRST).stat().st_size == WRITTEN


def test_a_part_that_is_damaged_is_thrown_away(hub: Hub, stage: Fetch, stored: Path) -> None:
    folder = stage.folder / fetching.PARTS / f"press--tiny@{REVISION}"
    folder.mkdir(parents=True)
    files.partial(folder / FIRST).write_bytes(b"x" * WRITTEN)
    stage.refused(f"{FIRST} arrived damaged and was thrown away: run this again to download it anew")
    assert hub.weights() == [(FIRST, f"bytes={WRITTEN}-")]
    assert stage.run().returncode == 0
    assert files.digests(stage.base) == files.digests(stored)
