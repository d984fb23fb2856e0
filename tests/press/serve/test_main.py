"""Who may reach a server, with which keys, and what a user is told who starts it otherwise."""

import sys
from pathlib import Path

import pytest

from press.core.errors import UserError
from press.serve import __main__ as command

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in (command.KEY, command.ADMIN_KEY, command.PACKAGE, command.GATEWAY):
        monkeypatch.delenv(name, raising=False)


def refused(monkeypatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["press.serve", "package", *words])
    with pytest.raises(UserError) as error:
        command.serve()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_keys_are_the_lines_of_a_file_or_that_of_the_environment(monkeypatch, tmp_path):
    assert command.keys(None, command.KEY, "--api-key-file") == []
    monkeypatch.setenv(command.KEY, KEY)
    assert command.keys(None, command.KEY, "--api-key-file") == [KEY]
    path = tmp_path / "keys"
    path.write_text(f"{KEY}1\r\n\n {KEY}2\n", encoding="utf-8")
    assert command.keys(path, command.KEY, "--api-key-file") == [f"{KEY}1", f"{KEY}2"]


@pytest.mark.parametrize("text", ["", "\n", "short\n", "with blanks in between\n", "clé-de-seize-lettres\n", None])
def test_a_key_that_is_none_is_refused_and_not_shown(tmp_path, text):
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        command.keys(path, command.KEY, "--api-key-file")
    assert str(path) in str(error.value)
    assert not text or not text.strip() or text.strip() not in str(error.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *[(host, True) for host in ("localhost", "127.0.0.1", "127.1.2.3", "::1")],
        *[(host, False) for host in ("0.0.0.0", "::", "", "10.0.0.1", "example.com", "localhost.example.com")],
    ],
)
def test_only_this_machine_reaches_a_loopback_address(host, local):
    assert command.is_loopback(host) == local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.com"])
def test_without_a_key_no_other_machine_is_served(monkeypatch, host):
    assert refused(monkeypatch, "--host", host).startswith(f"--host {host} can be reached from elsewhere")


@pytest.mark.integration
@pytest.mark.parametrize(("word", "value"), [("--behind-gateway", ""), ("--port=0", "1")])
def test_behind_a_gateway_the_package_that_the_environment_names_is_served_without_a_key(
    monkeypatch, tmp_path, word, value
):
    pytest.importorskip("fastapi_offline", reason="needs `make install-serve`")
    monkeypatch.setenv(command.PACKAGE, str(tmp_path))
    monkeypatch.setenv(command.GATEWAY, value)
    monkeypatch.setattr(sys, "argv", ["press.serve", "--host", "0.0.0.0", word])
    with pytest.raises(UserError, match=f"{tmp_path} is neither a package"):
        command.serve()


def test_a_package_must_be_named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["press.serve"])
    with pytest.raises(UserError, match=f"name its folder, or set {command.PACKAGE}"):
        command.serve()


@pytest.mark.parametrize("words", [("--queue", "-1"), ("--keep", "-1"), ("--port", "65536")])
def test_numbers_that_cannot_be_are_refused(monkeypatch, words):
    assert words[1] in refused(monkeypatch, *words)


@pytest.mark.parametrize("words", [("--at-once", "0"), ("--time-limit", "x"), ("--context", "-3")])
def test_numbers_that_are_not_positive_are_refused_by_their_option(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["press.serve", "package", *words])
    with pytest.raises(SystemExit):
        command.serve()
    assert f"argument {words[0]}: invalid positive integer" in capsys.readouterr().err


def test_a_library_that_is_not_there_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert refused(monkeypatch).endswith(f"uvicorn is not installed: run `{command.INSTALL}`")


def test_what_installs_it_is_there():
    makefile = Path(__file__).parents[3] / "Makefile"
    assert f"\n{command.INSTALL.removeprefix('make ')}:" in makefile.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "key", "why"),
    [
        (("--adapters", "shelf"), "", f"set {command.ADMIN_KEY} or --admin-key-file"),
        ((), OTHER, "name one with --adapters"),
        (("--adapters", "shelf"), KEY, "is a client's, too"),
        (("--adapters", "shelf"), "short", f"{command.ADMIN_KEY} has a key that cannot be one"),
    ],
)
def test_adapters_are_loaded_with_keys_of_their_own_from_a_folder_or_not_at_all(monkeypatch, words, key, why):
    monkeypatch.setenv(command.KEY, KEY)
    monkeypatch.setenv(command.ADMIN_KEY, key)
    assert why in refused(monkeypatch, *words)
