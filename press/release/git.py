"""A registry without a server: versions and stages are tags of this git repository, as gto writes them.

NAME@v1.2.3 is a version, NAME#prod#4 gives a stage; `dvc artifacts get REPOSITORY NAME --rev v1.2.3` and
`--stage prod` read them from any clone. The message of a version's tag carries the package's digest and figures.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from press.core import shell
from press.core.errors import UserError
from press.release import bundle, package
from press.release.package import Package
from press.release.registry import Registry, Version
from press.release.settings import Git

DIGEST = re.compile(r"^Manifest-SHA256: ([0-9a-f]{64})$", re.MULTILINE)
METRICS = re.compile(r"^Metrics: (.*)$", re.MULTILINE)
# A stage's tags are numbered, and the highest number holds.
NUMBER = re.compile(r"#(\d+)$")
IDENTITY = re.compile(r"(?P<name>.*) <(?P<email>.*)> \d+ [+-]\d+")


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
            # All versions that were given a stage: of two in the same second gto takes either for the last.
            entries = gto.api.show(".", self.name, versions_per_stage=-1)
        except ArtifactNotFound:
            return []
        # A commit with a stage's tag alone is no version.
        entries = [entry for entry in entries if entry["registrations"]]
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
        numbered = [(NUMBER.search(event["ref"]), event) for event in history if event["stage"] == stage]
        turns = {int(number[1]): event for number, event in numbered if number}
        last = turns[max(turns)] if turns else None
        return last["version"] if last and last["event"] == "assignment" else None

    def check(self, package: Package) -> None:
        self._identity()
        self._check_name()
        kind = self._git("for-each-ref", "--format=%(objecttype)", f"refs/tags/{self.tag}")
        other = "raise publish.git.version in params.yaml and commit it"
        if kind not in ("", "tag"):
            raise UserError(
                f"{self.tag} is a tag without a message, which names no release: remove it here and on the git remote, "
                f"or {other}"
            )
        if kind and not self._pointer(f"refs/tags/{self.tag}", package):
            raise UserError(
                f"the tag {self.tag} is at a commit that has no {package.folder}.dvc, so that nobody can fetch it: "
                f"remove it here and on the git remote, or {other}"
            )

    def _check_name(self) -> None:
        from gto.constants import tag_re

        unfit = shell.run("git", "check-ref-format", f"refs/tags/{self.tag}").failed
        if unfit or not tag_re.match(self.tag):
            raise UserError(
                f"{self.tag} cannot be a tag: publish.git.artifact must end with a letter or a digit, and "
                "publish.git.version must be one that git takes, such as 1.2.3"
            )

    def _pointer(self, revision: str, package: Package) -> str:
        """Return what names, at a revision, the file that tells DVC a release's content; empty if it has none."""
        asked = shell.run("git", "rev-parse", "--verify", "--quiet", f"{revision}:./{package.folder.as_posix()}.dvc")
        return asked.output.strip()

    def _identity(self) -> tuple[str, str]:
        """Return the user's name and e-mail address from wherever git has them; gto does not look everywhere.

        :raises UserError: if git does not know them
        """
        asked = shell.run("git", "var", "GIT_COMMITTER_IDENT")
        match = IDENTITY.fullmatch(asked.output.strip())
        if not match:
            raise UserError(
                f"git does not know who you are, whom a tag names ({asked.reason}): `git config user.name NAME` and "
                "`git config user.email ADDRESS`, then run this again"
            )
        return match["name"], match["email"]

    def register(self, package: Package) -> None:
        import gto.api

        message = f"{self.name} {self.version}\n\nManifest-SHA256: {package.digest}\nMetrics: {package.figures}"
        author, address = self._identity()
        version = f"v{self.version}"
        with _tagging("the version could not be tagged"):
            gto.api.register(
                ".", self.name, "HEAD", version=version, message=message, author=author, author_email=address
            )
        self._push_new(self.tag)

    def settle(self, package: Package) -> None:
        self._push(self.tag)
        # What HEAD names is on the DVC remote already.
        if self._pointer(f"refs/tags/{self.tag}", package) != self._pointer("HEAD", package):
            self._prove(package)

    def _prove(self, here: Package) -> None:
        """Refuse a version that does not give the package that its tag names."""
        try:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "release"
                self.fetch(self.version, folder)
                came = package.load(folder, bundle.BESIDE)
            if came.digest != here.digest:
                raise UserError(f"its commit holds the package {came.digest[:12]}")
        except UserError as error:
            raise UserError(
                f"{self.name} {self.version} is not whole at the commit that its tag names ({error}): publish it again "
                "from there, or raise publish.git.version in params.yaml and commit it"
            ) from error

    def promote(self, version: str, stage: str) -> None:
        import gto.api

        self._fetch_tags()
        given = self._holder(stage) == f"v{version}"
        if not given:
            author, address = self._identity()
            version = f"v{version}"
            # By force: a version may get a stage again that it had before.
            with _tagging(f"{stage} could not be given"):
                gto.api.assign(".", self.name, stage, version=version, force=True, author=author, author_email=address)
        tags = self._git("tag", "--list", f"{self.name}#{stage}#*", "--sort=version:refname").splitlines()
        if given:
            self._push(tags[-1])
        else:
            self._push_new(tags[-1])

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

    def _push_new(self, tag: str) -> None:
        """Push a tag that has just been made, or remove it: nobody else can see it, and somebody else may take it."""
        try:
            self._push(tag)
        except UserError:
            self._git("tag", "--delete", tag)
            raise

    def _git(self, *words: str) -> str:
        return self._run(["git", *words], f"`git {words[0]}` failed")

    def _run(self, command: list[str], failed: str) -> str:
        ended = shell.run(*command, seconds=self.seconds)
        if ended.late:
            raise UserError(f"{failed}: {ended.reason}; check the network, then run this again")
        if ended.failed:
            raise UserError(f"{failed}: {ended.reason}; mend that, then run this again: nothing is lost")
        return ended.output.strip()


@contextmanager
def _tagging(failed: str) -> Iterator[None]:
    """Turn the errors of gto and of what it calls git by into sentences."""
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (GTOException, SCMError) as error:
        raise UserError(f"{failed}: {error}") from error
