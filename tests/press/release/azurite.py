"""Azurite, the real blob API of Azure on loopback, started and stopped by the tests."""

import fcntl
import os
import shutil
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import ContainerClient

HERE = Path(__file__).parent / "npm"
CONTAINER = "models"
ACCOUNT = "devstoreaccount1"
# Not a secret: the development account's key, the same in every Azurite.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def installed() -> Path:
    """Return Azurite's script, installed by npm from npm/package-lock.json; skip the test without npm."""
    script = HERE / "node_modules/azurite/dist/src/blob/main.js"
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("Azurite needs npm and node")
    descriptor = os.open(HERE, os.O_RDONLY)
    # The test processes beside this one want it as well.
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if not script.exists():
        command = ["npm", "ci", "--silent", "--no-audit", "--no-fund"]
        result = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False, timeout=300)
        assert result.returncode == 0, result.stderr
    os.close(descriptor)
    return script


class Azurite(AbstractContextManager):
    """A running server with one container, over TLS if it has a certificate (and its key, in the same file)."""

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        command = ["node", str(installed()), "--blobHost", "127.0.0.1", "--blobPort", "0", "--location", str(folder)]
        # The SDK's version of the API is newer than Azurite knows.
        command += ["--skipApiVersionCheck", "--disableTelemetry"]
        if certificate:
            command += ["--cert", str(certificate), "--key", str(certificate)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.port = self._port()
        scheme = "https" if certificate else "http"
        self.connection_string = (
            f"DefaultEndpointsProtocol={scheme};AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={scheme}://127.0.0.1:{self.port}/{ACCOUNT};"
        )
        self.container = ContainerClient.from_connection_string(
            self.connection_string, CONTAINER, connection_verify=str(certificate) if certificate else True
        )
        self.container.create_container()

    def _port(self) -> int:
        for line in self.process.stdout:
            if "successfully listens on" in line:
                return int(line.rsplit(":", 1)[1])
        raise AssertionError("Azurite did not start")

    def __exit__(self, *_: object) -> None:
        # It would wait for connections that clients left open, and keeps nothing that anybody wants.
        self.process.kill()
        self.process.wait(10)

    def pause(self) -> None:
        """Let it take connections and answer nothing, like a machine that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self.process.send_signal(signal.SIGCONT)

    def blobs(self) -> set[str]:
        """Return the names of all blobs."""
        for _ in range(50):
            try:
                return set(self.container.list_blob_names())
            except AzureError:
                time.sleep(0.1)
        raise AssertionError("Azurite does not answer")

    def read(self, name: str) -> bytes:
        """Return a blob's content."""
        return self.container.download_blob(name).readall()

    def delete(self, name: str) -> None:
        """Delete a blob behind everybody's back."""
        self.container.delete_blob(name)
