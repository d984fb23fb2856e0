"""A registry without a server: versions and stages are tags of this git repository, as gto writes them.

NAME@v1.2.3 is a version, NAME#prod#4 gives a stage; `dvc artifacts get REPOSITORY NAME --rev v1.2.3` and
`--stage prod` read them from any clone. The message of a version's tag carries the package's digest and figures.
"""

import re
import sys
from pathlib import Path
from typing import cast

from press.core import shell
from press.core.errors import UserError
from press.release.package import Package
from press.release.registry import Registry, Version
from press.release.settings import Git

DIGEST = re.compile(r"^Manifest-SHA256: ([0-9a-f]{64})$", re.MULTILINE)
METRICS = re.compile(r"^Metrics: (.*)$", re.MULTILINE)


class GitRegistry(Registry):
    """Tags of the repository in the working folder, pushed to a git remote if it has the one that is named."""

    def __init__(self, params: Git, seconds: float) -> None:
        self.seconds = seconds
        self.name = params.artifact
        self.tag = f"{self.name}@v{params.version}"
        self.version = params.version
        self.remote = params.remote if params.remote in self._git("remote").splitlines() else None

    def describe(self, package: Package) -> str:
        where = f"pushed to {self.remote}" if self.remote else "in this repository alone: it has no such remote"
        return f"the git tag {self.tag} at {self._git('rev-parse', '--short', 'HEAD')}, {where}"

    def versions(self) -> list[Version]:
        import gto.api
        from gto.exceptions import ArtifactNotFound

        self._fetch_tags()
        try:
            entries = gto.api.show(".", self.name, versions_per_stage=1)
        except ArtifactNotFound:
            return []
        entries.sort(key=lambda entry: (entry["registrations"][0]["created_at"], entry["version"]))
        return [self._version(entry) for entry in entries]

    def _version(self, entry: dict) -> Version:
        (registration, *_) = entry["registrations"]
        digest, metrics = DIGEST.search(registration["message"]), METRICS.search(registration["message"])
        return Version(
            entry["version"].removeprefix("v"),
            digest[1] if digest else "",
            f"{registration['created_at']:%Y-%m-%d %H:%M}",
            metrics[1] if metrics else "",
            sorted(each["stage"] for each in entry["stages"] if self._holder(each["stage"]) == entry["version"]),
        )

    def _holder(self, stage: str) -> str | None:
        """Return the version that has a stage now."""
        import gto.api

        # Its type is that of gto's command line, which can ask for a table.
        history = cast(list[dict], gto.api.history(".", self.name))
        events = [event for event in history if event["stage"] == stage]
        return max(events, key=lambda event: int(event["ref"].rpartition("#")[2]))["version"] if events else None

    def register(self, package: Package) -> None:
        import gto.api
        from gto.exceptions import GTOException

        message = f"{self.name} {self.version}\n\nManifest-SHA256: {package.digest}\nMetrics: {package.figures}"
        try:
            gto.api.register(".", self.name, "HEAD", version=f"v{self.version}", message=message)
        except GTOException as error:
            raise UserError(f"the version could not be tagged: {error}") from error
        try:
            self.settle(package)
        except UserError:
            # Nobody else can see it; somebody else may take the version.
            self._git("tag", "--delete", self.tag)
            raise

    def settle(self, package: Package) -> None:
        self._push(self.tag)

    def promote(self, version: str, stage: str) -> None:
        import gto.api
        from gto.exceptions import GTOException

        self._fetch_tags()
        if self._holder(stage) != f"v{version}":
            try:
                gto.api.assign(".", self.name, stage, version=f"v{version}")
            except GTOException as error:
                raise UserError(f"{stage} could not be given: {error}") from error
        tags = self._git("tag", "--list", f"{self.name}#{stage}#*", "--sort=version:refname").splitlines()
        self._push(tags[-1])

    def fetch(self, version: str, folder: Path) -> None:
        words = ["artifacts", "get", ".", self.name, "--rev", f"v{version}", "--out", str(folder)]
        self._run([sys.executable, "-m", "dvc", *words], f"{self.name} {version} could not be fetched")

    def _fetch_tags(self) -> None:
        """Learn of versions that were registered elsewhere; they count, not a tag of the same name that never left."""
        if self.remote:
            self._git("fetch", "--quiet", self.remote, f"+refs/tags/{self.name}*:refs/tags/{self.name}*")

    def _push(self, tag: str) -> None:
        if self.remote:
            self._git("push", "--quiet", self.remote, f"refs/tags/{tag}")

    def _git(self, *words: str) -> str:
        return self._run(["git", *words], f"`git {words[0]}` failed")

    def _run(self, command: list[str], failed: str) -> str:
        ended = shell.run(*command, seconds=self.seconds)
        if ended.late:
            raise UserError(f"{failed}: {ended.reason}; check the network, then run this again")
        if ended.failed:
            raise UserError(f"{failed}: {ended.reason}; mend that, then run this again: nothing is lost")
        return ended.output.strip()
