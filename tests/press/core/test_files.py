"""Outputs are whole or not there, and digests name content."""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.core import files
from press.core.errors import UserError

contents = st.dictionaries(st.text("abcxyz", min_size=1, max_size=4), st.binary(max_size=8), min_size=1, max_size=4)


def write(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def test_an_error_leaves_the_old_folder_and_the_next_call_cleans_the_partial_one(tmp_path):
    target = write(tmp_path / "out", {"old": b"1"})
    with suppress(RuntimeError), files.replaced(target) as building:
        (building / "new").write_bytes(b"2")
        raise RuntimeError
    assert files.digests(target).keys() == {"old"}
    assert (files.partial(target) / "new").exists()
    with files.replaced(target) as building:
        assert not any(building.iterdir())
        (building / "newer").write_bytes(b"3")
    assert files.digests(target).keys() == {"newer"}
    assert list(tmp_path.iterdir()) == [target]


def test_the_old_folder_is_in_place_until_the_block_ends(tmp_path):
    target = write(tmp_path / "out", {"old": b"1"})
    with files.replaced(target) as building:
        (building / "new").write_bytes(b"2")
        assert files.digests(target).keys() == {"old"}
    assert files.digests(target).keys() == {"new"}


def test_publish_replaces_a_folder_a_file_and_the_leftover_of_a_kill(tmp_path):
    write(tmp_path / ".out.outgoing", {"older": b"0"})
    target = tmp_path / "out"
    target.write_bytes(b"a file")
    files.publish(write(tmp_path / "first", {"a": b"1"}), target)
    files.publish(write(tmp_path / "second", {"b": b"2"}), target)
    assert files.digests(target).keys() == {"b"}
    assert list(tmp_path.iterdir()) == [target]


def test_publish_makes_the_folders_above_the_target(tmp_path):
    files.publish(write(tmp_path / "source", {"a": b"1"}), tmp_path / "deep" / "down" / "out")
    assert (tmp_path / "deep" / "down" / "out" / "a").read_bytes() == b"1"


def test_published_permissions_do_not_depend_on_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        with files.replaced(tmp_path / "out") as building:
            write(building / "sub", {"a": b"1"})
            (building / "tool").touch(mode=0o777)
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out", *(tmp_path / "out").rglob("*"))}
    assert modes == {"out": 0o755, "sub": 0o755, "a": 0o644, "tool": 0o644}


def in_the_way(kind: str, place: Path, other: Path) -> None:
    """Put something where a file or a folder is built."""
    if kind == "folder":
        write(place, {"a": b"1"})
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "file":
        place.write_bytes(b"1")
    else:
        place.symlink_to(other)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "file"])
@pytest.mark.parametrize("exists", [True, False])
def test_what_lies_where_a_file_is_built_is_removed_and_not_written_through(tmp_path, kind, exists):
    path, other = tmp_path / "value.json", tmp_path / "other"
    if exists:
        other.write_bytes(b"theirs")
    in_the_way(kind, files.partial(path), other)
    files.write_json(path, {})
    assert (path.read_bytes(), path.is_symlink()) == (b"{}\n", False)
    assert (other.read_bytes() if exists else other.exists()) == (b"theirs" if exists else False)
    assert {each.name for each in tmp_path.iterdir()} == {"value.json"} | ({"other"} if exists else set())


@pytest.mark.parametrize("kind", ["link", "pipe", "file"])
@pytest.mark.parametrize("exists", [True, False])
def test_what_lies_where_a_folder_is_built_is_removed_and_not_written_through(tmp_path, kind, exists):
    target, other = tmp_path / "out", tmp_path / "other"
    if exists:
        write(other, {"theirs": b"1"})
    for place in (files.partial(target), target):
        in_the_way(kind, place, other)
    with files.replaced(target) as building:
        (building / "a").write_bytes(b"2")
    assert (files.digests(target).keys(), target.is_symlink()) == ({"a"}, False)
    assert (files.digests(other).keys() == {"theirs"}) is exists


def test_a_folder_in_the_place_of_a_file_is_named_and_stays(tmp_path):
    path = write(tmp_path / "value.json", {"a": b"1"})
    with pytest.raises(UserError) as caught:
        files.write_json(path, {})
    assert str(caught.value) == f"{path} is a folder, but a file is to be written there: remove it"
    assert files.digests(path).keys() == {"a"}
    assert list(tmp_path.iterdir()) == [path]


def test_json_ends_with_a_newline_and_keeps_letters_as_they_are(tmp_path):
    path = tmp_path / "deep" / "value.json"
    files.write_json(path, {"city": "Flåm"})
    assert path.read_bytes() == '{\n  "city": "Flåm"\n}\n'.encode()
    assert files.read_json(path) == {"city": "Flåm"}
    assert list(path.parent.iterdir()) == [path]


def test_what_is_no_json_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "value.json"
    files.write_json(path, 1)
    with pytest.raises(TypeError):
        files.write_json(path, {"a set": {1}})
    assert path.read_text() == "1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_json_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    files.write_json(path, 1)
    monkeypatch.setattr(files, "fresh", lambda _: Path("/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, 2)
    assert files.read_json(path) == 1


def test_remove_takes_a_file_a_folder_a_link_or_nothing(tmp_path):
    kept = write(tmp_path / "kept", {"a": b"1"})
    link = tmp_path / "link"
    link.symlink_to(kept)
    folder = write(tmp_path / "folder", {"a": b"1"})
    for path in (link, folder, folder, kept / "a"):
        files.remove(path)
    assert list(tmp_path.rglob("*")) == [kept]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 20])
def test_a_digest_is_that_of_all_bytes_whatever_is_read_at_a_time(tmp_path, monkeypatch, size):
    monkeypatch.setattr(files, "BLOCK", 8)
    (tmp_path / "file").write_bytes(bytes(range(size)))
    assert files.sha256(tmp_path / "file") == hashlib.sha256(bytes(range(size))).hexdigest()
    with files.digesting(tmp_path) as digest:
        pass
    assert digest.result() == files.folder_digest(tmp_path)


def test_digests_are_the_sha256_of_files_in_all_depths_sorted_by_path(tmp_path):
    write(tmp_path / "b", {"c": b"abc"})
    (tmp_path / "a").write_bytes(b"")
    assert list(files.digests(tmp_path).items()) == [
        ("a", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("b/c", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ]
    assert files.size(tmp_path) == 3


@given(contents, contents)
def test_folders_have_the_same_digest_only_with_the_same_names_and_contents(tmp_path_factory, first, second):
    root = tmp_path_factory.mktemp("digest")
    one, other = (write(root / name, content) for name, content in (("one", first), ("other", second)))
    assert (files.folder_digest(one) == files.folder_digest(other)) == (first == second)
    shutil.rmtree(root)


@given(contents, st.randoms())
def test_the_digest_does_not_depend_on_time_or_order(tmp_path_factory, content, random):
    root = tmp_path_factory.mktemp("order")
    shuffled = list(content.items())
    random.shuffle(shuffled)
    one, other = write(root / "one", content), write(root / "other", dict(shuffled))
    for path in other.iterdir():
        os.utime(path, (0, random.randrange(2**31)))
    assert files.folder_digest(one) == files.folder_digest(other)
    shutil.rmtree(root)
