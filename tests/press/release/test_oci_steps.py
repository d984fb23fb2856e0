"""What each step asks of a registry of containers that is in memory: kills, races and tampering at every point."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
import yaml
from projects import ROOT

from press.core import files, paths
from press.core.errors import UserError
from press.release import bundle, distribution, modelpack, oci, package, provenance, publishing
from press.release.oci import OciRegistry
from press.release.package import Package
from press.release.settings import Oci, Signing

from .memory_registry import Adapter, Killed, MemoryRegistry, digest_of

MODEL, ADAPTER = "model.onnx", "adapters/travel/adapter.onnx_adapter"
HOST, REPOSITORY = "registry.example.com", "owner/press"
COMMIT, LATER = "1700000000", "1700000001"


@pytest.fixture(autouse=True)
def head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """When the commit at HEAD was made."""
    when = [COMMIT]
    monkeypatch.setattr(provenance, "committed", lambda _: datetime.fromtimestamp(int(when[0]), UTC))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return when


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> MemoryRegistry:
    """A registry that has nothing yet."""
    registry = MemoryRegistry()

    def repository(host: str, name: str, seconds: float) -> distribution.Repository:
        return distribution.Repository(host, name, seconds, Adapter(registry))

    monkeypatch.setattr(oci, "Repository", repository)
    return registry


@cache
def unsigned() -> Signing:
    given = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["signing"]
    return Signing(**given | {"required": False})


def place(version: str = "0.1.0") -> OciRegistry:
    """Return what publishes a version, without a signature."""
    return OciRegistry(Oci(registry=HOST, repository=REPOSITORY, version=version), unsigned(), 60)


def release(folder: Path, weights: str = "weights", loss: float = 1.5, **adapters: str) -> Package:
    """Write a release with adapters, `travel` by default, and return it."""
    folder.mkdir()
    contents = {MODEL: weights} | {
        f"adapters/{name}/adapter.onnx_adapter": content for name, content in (adapters or {"travel": "lora"}).items()
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    files.write_json(folder / paths.MANIFEST, {"base_sha256": "0" * 64, "files": files.digests(folder)})
    files.write_json(folder / paths.METRICS, {"travel": {"onnx": {"adapter": {"loss": loss}}}})
    sources = [{"digest": {"gitCommit": "a" * 40}}, {"uri": "urn:base", "digest": {"sha256": "b" * 64}}]
    predicate = {"buildDefinition": {"resolvedDependencies": sources}}
    files.write_json(folder / paths.PROVENANCE, {"predicateType": provenance.PREDICATE, "predicate": predicate})
    return package.load(folder, bundle.BESIDE)


@pytest.fixture
def ours(tmp_path: Path) -> Package:
    return release(tmp_path / "ours")


@pytest.fixture
def holding(there: MemoryRegistry, ours: Package) -> MemoryRegistry:
    """A registry that has `ours` as version 0.1.0."""
    publish(ours)
    there.asked.clear()
    return there


def publish(released: Package, version: str = "0.1.0") -> None:
    """Register a version, or settle it if it is there, as publishing.publish does."""
    registry = place(version)
    if version in {each.version for each in registry.versions()}:
        registry.settle(released)
    else:
        registry.register(released)


def fetched(folder: Path, version: str = "0.1.0") -> dict[str, str]:
    """Fetch a version; return the digest of each of its files."""
    place(version).fetch(version, folder)
    return files.digests(folder)


def flip(there: MemoryRegistry, digest: str) -> None:
    content = there.blobs[digest]
    there.blobs[digest] = bytes([content[0] ^ 1]) + content[1:]


def referrers(there: MemoryRegistry) -> dict:
    """Return the list of what refers to version 0.1.0."""
    return there.manifest(there.tags["0.1.0"].replace(":", "-"))


def killing(at: int) -> Callable[[object], None]:
    """Return what ends the program at a request, counted from 0."""
    left: Iterator[int] = iter(range(at, -1, -1))

    def count(_: object) -> None:
        if next(left, 0) == 0:
            raise Killed

    return count


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_publication_may_be_killed_at_every_request_and_is_finished_by_the_next(there, ours, tmp_path, when):
    publish(ours)
    requests, whole = len(there.asked), dict(there.blobs)
    for at in range(requests):
        there.blobs.clear()
        there.tags.clear()
        setattr(there, when, killing(at))
        with pytest.raises(Killed):
            publish(ours)
        setattr(there, when, lambda _: None)
        if "0.1.0" in there.tags:
            assert fetched(tmp_path / f"killed{at}") == ours.digests
        publish(ours)
        assert there.blobs == whole
        assert fetched(tmp_path / f"finished{at}") == ours.digests


def test_a_settlement_may_be_killed_at_every_request(holding, ours, tmp_path):
    publish(ours)
    requests = len(holding.asked)
    lost = f"sha256:{ours.digests[MODEL]}"
    for at in range(requests):
        holding.blobs.pop(lost, None)
        holding.after = killing(at)
        with pytest.raises(Killed):
            publish(ours)
        holding.after = lambda _: None
        publish(ours)
        assert fetched(tmp_path / f"{at}") == ours.digests


def test_settling_what_is_whole_writes_nothing(holding, ours, head):
    head[0] = LATER
    publish(ours)
    assert {method for method, *_ in holding.asked} <= {"GET", "HEAD"}


def test_a_file_that_the_registry_has_is_not_sent_for_the_next_version(holding, ours, tmp_path):
    newer = release(tmp_path / "newer", travel="better")
    publish(newer, "0.2.0")
    sent = set(holding.sent())
    assert {f"sha256:{newer.digests[name]}" for name in (ADAPTER, paths.MANIFEST)} <= sent
    assert not {f"sha256:{digest}" for digest in ours.digests.values()} & sent


@pytest.mark.parametrize("name", [MODEL, paths.PROVENANCE, paths.METRICS])
def test_what_is_lost_is_named_by_a_fetch_and_sent_again_by_the_next_publication(holding, ours, tmp_path, name):
    del holding.blobs[f"sha256:{ours.digests[name]}"]
    with pytest.raises(UserError, match=rf"^{name} of .*missing or damaged"):
        fetched(tmp_path / "first")
    holding.asked.clear()
    publish(ours)
    assert holding.sent() == [f"sha256:{ours.digests[name]}"]
    assert fetched(tmp_path / "second") == ours.digests


def test_what_is_damaged_is_sent_again_even_though_the_registry_says_that_it_has_it(holding, ours):
    flip(holding, digest := f"sha256:{ours.digests[MODEL]}")
    holding.asked.clear()
    with pytest.raises(UserError, match=f"{MODEL} .*is damaged in .*although it was sent again"):
        publish(ours)
    assert holding.sent() == [digest]


def test_another_release_of_the_same_package_is_proved_and_not_touched(holding, ours, tmp_path):
    other = release(tmp_path / "other", loss=1.25)
    assert other.digest == ours.digest
    holding.asked.clear()
    publish(other)
    assert not holding.sent()
    assert fetched(tmp_path / "fetched") == ours.digests
    del holding.blobs[f"sha256:{ours.digests[paths.METRICS]}"]
    with pytest.raises(UserError, match=r"another release of the same package, and metrics\.json of it is not whole"):
        publish(other)


@pytest.mark.parametrize("what", ["list", "manifest", "bundle"])
def test_a_referrer_that_is_lost_or_damaged_is_refused_by_a_fetch_and_mended_by_a_publication(
    holding, ours, tmp_path, what
):
    (entry,) = referrers(holding)["manifests"]
    match what:
        case "list":
            del holding.tags[holding.tags["0.1.0"].replace(":", "-")]
        case "manifest":
            del holding.blobs[entry["digest"]]
        case "bundle":
            del holding.blobs[json.loads(holding.blobs[entry["digest"]])["layers"][0]["digest"]]
    with pytest.raises(UserError, match=r"has no provenance of its own .*`make publish` from its own commit attaches"):
        fetched(tmp_path / "first")
    publish(ours)
    assert fetched(tmp_path / "second") == ours.digests


@pytest.mark.parametrize("what", ["manifest", "bundle", "subject", "size"])
def test_a_referrer_of_somebody_else_s_is_passed_over(holding, ours, tmp_path, what):
    """Whoever may write there may add one that is damaged, about something else, or endless."""
    (entry,) = referrers(holding)["manifests"]
    manifest = json.loads(holding.blobs[entry["digest"]])
    match what:
        case "manifest":
            entry = entry | {"digest": digest_of(b"nothing")}
            holding.blobs[entry["digest"]] = b"{}"
        case "bundle":
            manifest["layers"] = [manifest["layers"][0] | {"digest": "sha256:../../x"}, 1, {}]
        case "subject":
            manifest["subject"] = {"digest": digest_of(b"")}
        case "size":
            manifest["layers"][0]["size"] = -1
    if what != "manifest":
        holding.put("other", manifest)
        entry = entry | {"digest": holding.tags.pop("other")}
    listed = referrers(holding)
    holding.put(holding.tags["0.1.0"].replace(":", "-"), listed | {"manifests": [1, {}, entry, *listed["manifests"]]})
    assert fetched(tmp_path / "fetched") == ours.digests
    holding.put(holding.tags["0.1.0"].replace(":", "-"), listed | {"manifests": [entry]})
    with pytest.raises(UserError, match="has no provenance of its own"):
        fetched(tmp_path / "alone")


@pytest.mark.parametrize("what", ["a file", "an annotation"])
def test_nothing_is_said_of_an_artifact_that_somebody_put_in_the_place_of_ours(holding, ours, what):
    """It claims our package's digest and our version; who publishes again must not vouch for it."""
    manifest = holding.manifest("0.1.0")
    if what == "a file":
        layer = next(each for each in manifest["layers"] if each["annotations"][modelpack.FILEPATH] == MODEL)
        holding.blobs[digest_of(b"evil")] = b"evil"
        layer |= {"digest": digest_of(b"evil"), "size": 4}
    else:
        manifest["annotations"][modelpack.REVISION] = "f" * 40
    holding.put("0.1.0", manifest)
    with pytest.raises(UserError, match=r"has no provenance that holds, and is not what this commit publishes as 0\.1"):
        publish(ours)
    assert holding.tags["0.1.0"].replace(":", "-") not in holding.tags


def test_a_tag_that_names_another_version_is_none(holding, ours, tmp_path):
    publish(release(tmp_path / "newer", weights="other weights"), "0.2.0")
    holding.tags["0.1.0"] = holding.tags["0.2.0"]
    steps = (
        lambda: fetched(tmp_path / "fetched"),
        lambda: came(tmp_path / "ours", "travel", "0.1.0"),
        lambda: place().promote("0.1.0", "prod"),
        lambda: place().settle(ours),
    )
    for step in steps:
        with pytest.raises(UserError, match=r"somebody moved the tag 0\.1\.0 of .*, which is 0\.2\.0; move it back"):
            step()
    assert "prod" not in holding.tags
    first, _ = place().versions()
    assert (first.digest, first.metrics) == ("", "moved to 0.2.0")


def test_what_an_artifact_says_of_itself_does_not_command_the_terminal(holding, monkeypatch, capsys):
    manifest = holding.manifest("0.1.0")
    manifest["annotations"] |= {modelpack.METRICS: "\x1b[2J", modelpack.PACKAGE: "\x1b]0;", modelpack.CREATED: "\r1"}
    holding.put("0.1.0", manifest)
    monkeypatch.setattr(publishing, "_registry", lambda *_: place())
    publishing.versions(None, 60)
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.splitlines())
    assert r"\x1b[2J" in said


def test_what_others_attached_stays_listed(holding, ours):
    listed = referrers(holding)
    theirs = {"digest": digest_of(b"theirs"), "artifactType": "application/spdx+json"}
    holding.put(holding.tags["0.1.0"].replace(":", "-"), listed | {"manifests": [theirs]})
    publish(ours)
    assert referrers(holding)["manifests"] == [theirs, *listed["manifests"]]


def test_who_publishes_later_does_not_vouch_for_what_was_published_before(holding, ours, head):
    del holding.tags[holding.tags["0.1.0"].replace(":", "-")]
    head[0] = LATER
    with pytest.raises(UserError, match=r"publish that version from its own commit, or raise publish\.oci"):
        publish(ours)


def at_once(there: MemoryRegistry, tag: str, *steps: Callable[[], object]) -> list[str]:
    """Let steps read a tag before any of them writes it; return how each ended: empty, or the sentence."""
    all_have_read, reads = threading.Barrier(len(steps)), iter(range(len(steps)))

    def wait(asked: tuple[str, str, str]) -> None:
        if asked == ("GET", "manifests", tag) and next(reads, None) is not None:
            all_have_read.wait(10)
            # As a server whose answers are late.
            time.sleep(0.1)

    ended = [""] * len(steps)

    def run(number: int) -> None:
        try:
            steps[number]()
        except UserError as error:
            ended[number] = str(error)

    there.after = wait
    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    there.after = lambda _: None
    return ended


def test_of_two_publications_of_one_version_at_once_one_is_told_that_it_lost(there, ours, tmp_path):
    theirs = release(tmp_path / "theirs", weights="other weights")
    registries = place(), place()
    steps = [lambda: registries[0].register(ours), lambda: registries[1].register(theirs)]
    ended = at_once(there, "0.1.0", *steps)
    assert sorted(ended)[0] == ""
    assert "somebody else has just published 0.1.0 with another content" in sorted(ended)[1]
    assert fetched(tmp_path / "fetched") == (theirs if ended[0] else ours).digests


def test_two_publications_of_the_same_content_at_once_both_hold(there, ours, tmp_path):
    registries = place(), place()
    assert at_once(there, "0.1.0", *(lambda each=each: each.register(ours) for each in registries)) == ["", ""]
    assert fetched(tmp_path / "fetched") == ours.digests


def test_two_promotions_of_a_version_at_once_both_hold(holding):
    registries = place(), place()
    steps = [lambda: registries[0].promote("0.1.0", "staging"), lambda: registries[1].promote("0.1.0", "prod")]
    assert at_once(holding, "0.1.0", *steps) == ["", ""]
    assert place().versions()[0].stages == ["prod", "staging"]


def test_of_two_promotions_to_one_stage_at_once_one_is_told_that_it_lost(holding, tmp_path, monkeypatch, capsys):
    publish(release(tmp_path / "theirs", weights="other weights"), "0.2.0")
    monkeypatch.setattr(publishing, "_registry", lambda *_: place())

    def promote(version: str) -> Callable[[], object]:
        return lambda: publishing.promote(None, 60, version, "prod")

    ended = at_once(holding, "prod", promote("0.1.0"), promote("0.2.0"))
    (holder,) = (each.version for each in place().versions() if "prod" in each.stages)
    assert sorted(ended)[0] == ""
    assert f"prod is version {holder} now: somebody else promoted at the same time" in sorted(ended)[1]
    assert f"version {holder} is prod now" in capsys.readouterr().out


def came(folder: Path, adapter: str, version: str = "0.2.0") -> dict[str, str]:
    place(version).fetch_adapter(version, adapter, folder)
    return files.digests(folder)


@pytest.mark.parametrize("adapters", [{"travel": "better"}, {"travel": "lora", "packing": "new"}])
def test_an_adapter_comes_alone(holding, tmp_path, adapters):
    fetched(tmp_path / "fetched")
    newer = release(tmp_path / "newer", **adapters)
    publish(newer, "0.2.0")
    holding.asked.clear()
    assert came(tmp_path / "fetched", [*adapters][-1]) == newer.digests
    assert ("GET", "blobs", f"sha256:{newer.digests[MODEL]}") not in holding.asked


def test_a_file_that_a_version_has_no_more_goes_with_its_adapter(holding, tmp_path):
    fetched(tmp_path / "fetched")
    (tmp_path / "fetched" / paths.SIGNATURE).write_text("of the version before")
    newer = release(tmp_path / "newer", travel="better")
    publish(newer, "0.2.0")
    assert came(tmp_path / "fetched", "travel") == newer.digests


@pytest.mark.parametrize(
    ("adapters", "asked", "sentence"),
    [
        ({"travel": "better"}, "packing", "version 0.2.0 has no adapter 'packing', only travel"),
        ({"travel": "better"}, "..", "version 0.2.0 has no adapter '..', only travel"),
        ({"travel": "better", "packing": "new"}, "packing", f"{ADAPTER} there is not that of version 0.2.0"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(holding, ours, tmp_path, adapters, asked, sentence):
    fetched(tmp_path / "fetched")
    publish(release(tmp_path / "newer", **adapters), "0.2.0")
    with pytest.raises(UserError, match=sentence):
        came(tmp_path / "fetched", asked)
    assert files.digests(tmp_path / "fetched") == ours.digests


def test_an_adapter_of_an_artifact_that_nobody_vouches_for_is_refused(holding, ours, tmp_path):
    fetched(tmp_path / "fetched")
    publish(release(tmp_path / "newer", travel="better"), "0.2.0")
    del holding.tags[holding.tags["0.2.0"].replace(":", "-")]
    with pytest.raises(UserError, match="has no provenance of its own"):
        came(tmp_path / "fetched", "travel")
    assert files.digests(tmp_path / "fetched") == ours.digests


def test_a_blob_that_never_ends_is_given_up_at_its_size(holding, ours, tmp_path):
    digest = f"sha256:{ours.digests[MODEL]}"
    holding.blobs[digest] += b"more" * 1000
    with pytest.raises(UserError, match=rf"^{MODEL} of version 0\.1\.0 is missing or damaged"):
        fetched(tmp_path / "fetched")
    assert (tmp_path / "fetched" / MODEL).stat().st_size == 0


@pytest.mark.parametrize("tag", ["0.1.0\n", "9" * 200 + ".0.0", "1.0", "latest"])
def test_a_tag_that_is_no_version_is_passed_over(holding, tag):
    holding.tags[tag] = holding.tags["0.1.0"]
    assert [each.version for each in place().versions()] == ["0.1.0"]
