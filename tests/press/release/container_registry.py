"""Debian's docker-registry on loopback, by TLS and with a password, started and stopped by the tests."""

import base64
import json
import shutil
import signal
import socket
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import azureml_server
import pytest
import yaml

REPOSITORY = "owner/olive-press"
USERNAME, PASSWORD = "publisher", "a secret of the tests"
# Of that password; the cheapest that bcrypt has.
BCRYPT = "$2b$05$abcdefghijklmnopqrstuuBdd/beQLOhD0XcgJ2wlY1HK2zpY9SJe"
BLOBS = "docker/registry/v2/blobs/sha256"


class ContainerRegistry(AbstractContextManager):
    """A running server; its blobs and tags are files below `root`."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("docker-registry"):
            pytest.skip("a registry of containers needs docker-registry (Debian's package of that name)")
        self.root = folder / "root"
        self.certificate = azureml_server.write_certificate(folder)
        (folder / "htpasswd").write_text(f"{USERNAME}:{BCRYPT}\n")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        config = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.root)}, "delete": {"enabled": True}},
            "http": {
                "addr": self.host,
                "secret": "of uploads",
                "tls": {"certificate": str(self.certificate), "key": str(self.certificate)},
            },
            "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
        }
        (folder / "config.yml").write_text(yaml.safe_dump(config))
        self._command = ["docker-registry", "serve", str(folder / "config.yml")]
        self._log = (folder / "log").open("ab")
        self.docker = folder / "docker"
        self.docker.mkdir()
        auth = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        (self.docker / "config.json").write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))
        self.environment = {"SSL_CERT_FILE": str(self.certificate), "DOCKER_CONFIG": str(self.docker)}
        # No proxy of the developer's is asked for it.
        self.environment |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1") | {"OCI_PASSWORD": ""}
        self.start()

    def start(self) -> None:
        """Let it run, and wait until it answers."""
        self.process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self.process.poll() is None, (self.root.parent / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("docker-registry did not start")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()

    def empty(self) -> None:
        """Hold nothing any more."""
        shutil.rmtree(self.root, ignore_errors=True)

    def blob(self, digest: str) -> Path:
        """Return the file of a blob.

        :param digest: without its algorithm
        """
        return self.root / BLOBS / digest[:2] / digest / "data"

    def tag(self, name: str) -> Path:
        """Return the file that says what a tag names."""
        return self.root / f"docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags/{name}/current/link"

    def manifest(self, tag: str) -> dict:
        """Return the manifest that a tag names."""
        return json.loads(self.blob(self.tag(tag).read_text().removeprefix("sha256:")).read_text())
