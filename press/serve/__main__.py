"""Serve a package by the API of OpenAI's chat completions, until Ctrl-C or SIGTERM.

    python -m press.serve PACKAGE                   (`make serve`, `make serve PACKAGE=folder`)

`model` names an adapter of the package, or the package itself (or `base`) for the model without one. A signal lets the
answers that have begun or wait be finished, within the time limit of a request.
"""

import argparse
import ipaddress
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from press.core import cli, memory
from press.core.errors import UserError

INSTALL = "make install-serve"
KEY, ADMIN_KEY = "OLIVE_PRESS_API_KEY", "OLIVE_PRESS_ADMIN_KEY"
# For a container, whose words are fixed.
PACKAGE, GATEWAY = "OLIVE_PRESS_PACKAGE", "OLIVE_PRESS_BEHIND_GATEWAY"
SHORTEST_KEY = 16
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


def keys(file: Path | None, variable: str, option: str) -> list[str]:
    """Return the keys of clients or admins: the lines of a file, or else that of a variable of the environment.

    :raises UserError: if there is a key that a client could guess, or cannot send
    """
    if file is None:
        listed, where = [key] if (key := os.environ.get(variable, "")) else [], variable
    else:
        try:
            listed, where = file.read_text(encoding="utf-8").split("\n"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{option} {file} cannot be read ({error}): give it a key on each line") from error
        listed = [line.strip() for line in listed if line.strip()]
        if not listed:
            raise UserError(f"{option} {file} has no key: give it one on each line")
    for key in listed:
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise UserError(
                f"{where} has a key that cannot be one: it must have {SHORTEST_KEY} characters or more, of ASCII and "
                "without blanks, such as `openssl rand -hex 32` gives"
            )
    return listed


def admin_keys(words: argparse.Namespace, clients: Sequence[str]) -> list[str]:
    """Return the keys of those who may load adapters.

    :param clients: keys that are none of theirs
    :raises UserError: if there are keys without a folder to load from, or the other way round
    """
    admins = keys(words.admin_key_file, ADMIN_KEY, "--admin-key-file")
    if words.adapters and not admins:
        raise UserError(
            f"adapters from {words.adapters} are loaded with an admin's key, and there is none: set {ADMIN_KEY} or "
            "--admin-key-file"
        )
    if admins and not words.adapters:
        raise UserError("there is an admin's key, and no folder to load adapters from: name one with --adapters")
    if set(admins) & set(clients):
        raise UserError("an admin's key is a client's, too: give admins keys of their own")
    return admins


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m press.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = _positive
    whole.__name__ = "positive integer"
    parser.add_argument("package", type=Path, nargs="?", help=f"folder of a package or a release (default: ${PACKAGE})")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="(default: 8000; 0 for any that is free)")
    parser.add_argument("--api-key-file", type=Path, help=f"file with an API key on each line (default: ${KEY})")
    gateway = f"who reaches the server may ask: a gateway before it checks who does (or ${GATEWAY}=1)"
    parser.add_argument("--behind-gateway", action="store_true", help=gateway)
    parser.add_argument("--adapters", type=Path, help="folder of folders from which an admin may load adapters")
    parser.add_argument("--admin-key-file", type=Path, help=f"file with an admin's key on each line (${ADMIN_KEY})")
    parser.add_argument("--at-once", type=whole, default=8, help="answers that are given at once (default: 8)")
    parser.add_argument("--queue", type=int, default=16, help="answers that may wait beside them (default: 16)")
    parser.add_argument("--time-limit", type=whole, default=120, help="seconds for a request (default: 120)")
    parser.add_argument("--max-body", type=whole, default=512 * 1024, help="bytes of a request (default: 524288)")
    parser.add_argument("--context", type=whole, help="tokens of prompt and answer (default: the model's context)")
    parser.add_argument("--keep", type=int, default=8192, help="tokens kept between answers (default: 8192)")
    parser.add_argument("--threads", type=whole, help="threads of the runtime (default: what it chooses)")
    return parser


def serve() -> None:
    """Load the package, and serve it."""
    words = _parser().parse_args()
    if words.queue < 0 or words.keep < 0 or not 0 <= words.port <= 65535:
        raise UserError(
            f"--queue is {words.queue}, --keep {words.keep} and --port {words.port}: give 0 or more, 0 or more, and 0 "
            "to 65535"
        )
    folder = words.package or Path(os.environ.get(PACKAGE, ""))
    if folder == Path():
        raise UserError(f"there is no package to serve: name its folder, or set {PACKAGE}")
    clients = keys(words.api_key_file, KEY, "--api-key-file")
    admin = admin_keys(words, clients)
    local = is_loopback(words.host)
    guarded = words.behind_gateway or os.environ.get(GATEWAY) == "1"
    if not local and not clients and not guarded:
        raise UserError(
            f"--host {words.host} can be reached from elsewhere, and there is no API key: set {KEY} or --api-key-file, "
            "leave --host out, or say --behind-gateway if a gateway checks who asks"
        )
    try:
        import uvicorn

        from press.serve import observing
        from press.serve.answering import Package
        from press.serve.api import Api, Limits
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: run `{INSTALL}`") from error
    observing.to_stderr()
    package = Package(folder, words.threads, words.context, words.keep, words.adapters)
    limits = Limits(
        words.at_once,
        words.queue,
        words.time_limit,
        words.max_body,
        clients,
        admin,
        # A page in a browser may give this machine a name of its own, and so reach what asks for no key.
        LOOPBACK_HOSTS if local and not clients else (),
    )
    uvicorn.run(
        Api(package, limits).application(),
        host=words.host,
        port=words.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=words.time_limit,
    )


def main() -> None:
    """Serve, and exit with 0 after SIGTERM, which is how a server ends."""
    memory.in_huge_pages()
    # uvicorn finishes what runs, and raises the signal again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    cli.in_sentences(serve, interrupted="the server has stopped")


if __name__ == "__main__":
    main()
