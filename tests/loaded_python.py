"""A Python whose `python -m stages.NAME` begins with its libraries loaded, and is another one's in nothing else.

To load them takes most of a stage's processor time on a tiny model (tests/stages_alone.py). `Loaded.python` asks this
file, as a program, to fork for such a stage, with the folder, the variables and the streams that it was given itself:

    python tests/loaded_python.py SOCKET
"""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import stages_alone

# At the beginning of such a Python, before it runs anything.
CLIENT = """
import sys

if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("stages."):
    import json, os, socket

    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect({place!r})
        told = {{"words": sys.orig_argv[2:], "folder": os.getcwd(), "variables": dict(os.environ)}}
        socket.send_fds(asked, [json.dumps(told).encode()], [0, 1, 2])
        asked.shutdown(socket.SHUT_WR)
        code = int(asked.recv(8))
    os._exit(code)
"""


class Loaded:
    """The program, which runs until this is left.

    :param python: to run stages with
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder)
        self.python = folder / "bin/python"
        packages = next(folder.glob("lib/python*/site-packages"))
        # The path of a socket may have 107 bytes.
        self._short = tempfile.TemporaryDirectory()
        place = f"{self._short.name}/socket"
        (packages / "client.py").write_text(CLIENT.format(place=place), encoding="utf-8")
        beside = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})"
        (packages / "client.pth").write_text(f"import client\n{beside}\n", encoding="utf-8")
        # Libraries read these when they are loaded.
        from press.core import arithmetic, environment

        variables = arithmetic.variables({**os.environ, **environment.STAGE})[0]
        command = [sys.executable, __file__, place]
        self._process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout.readline() == b"ready\n"

    def __enter__(self) -> "Loaded":
        return self

    def __exit__(self, *details: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._short.cleanup()


def main(place: str) -> None:
    stages_alone.load()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen()
        print("ready", flush=True)
        # Nobody waits for those that answer.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            asked, _ = listening.accept()
            if not os.fork():
                answer(asked)
                return
            asked.close()


def answer(asked: socket.socket) -> None:
    """Run a stage, and say with which exit code it ended."""
    text, streams, *_ = socket.recv_fds(asked, 1 << 20, 3)
    while more := asked.recv(1 << 20):
        text += more
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        asked.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
        os._exit(0)
    told = json.loads(text)
    for stream, descriptor in enumerate(streams):
        os.dup2(descriptor, stream)
    os.chdir(told["folder"])
    sys.path[0] = told["folder"]
    from press.core import arithmetic

    os.environ.clear()
    os.environ.update(arithmetic.variables(told["variables"])[0])
    module, *words = told["words"]
    stages_alone.become(module, words)


if __name__ == "__main__":
    main(sys.argv[1])
