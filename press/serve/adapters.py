"""The adapters that a model is served with: those of its package, and those that an operator loads beside them.

Each version of an adapter is an object of its own, which the answers that are given with it hold on to. So another one
takes its place at once, and its memory is given back when the last of these answers has ended.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

from press.core import paths
from press.core.errors import UserError
from press.model import packaged
from press.serve import wire
from press.serve.apart import line
from press.serve.decoders import Asked, Decoder
from press.serve.errors import RefusedError

RESPONSE = "{response}"
FILES = (paths.ADAPTER_MANIFEST, paths.ADAPTER_FILE)
# Any token shows whether the runtime takes an adapter.
ANY_TOKEN = 0


# Each version is itself alone, whatever another one says.
@dataclass(eq=False)
class Named:
    """An adapter, by what its manifest says.

    :param folder: where an operator has it, by its name among the others; none for one of the package
    """

    manifest: dict
    folder: str | None = None
    # The adapter as its model's decoder has it, or a decoder of its own where it is a whole model.
    loaded: Any = None
    merged: Decoder | None = None
    schema: str | None = field(init=False)

    def __post_init__(self) -> None:
        schema = self.manifest["response_schema"]
        self.schema = None if schema is None else json.dumps(schema)

    @property
    def converses(self) -> bool:
        """Whether it is trained on conversations, and not on single questions alone."""
        return bool(self.manifest.get("turn"))

    def prompt(self, *said: str) -> str:
        """Return the adapter's template up to the answer, with a question for whatever field it names.

        :param said: the question, behind earlier ones with their answers
        """
        *earlier, question = said
        template, text = self.manifest["template"], ""
        for asked, answer in zip(earlier[::2], earlier[1::2], strict=True):
            before_answer, after = _parted(template, asked)
            text += before_answer + answer + after
            template = self.manifest["turn"]
        return text + _parted(template, question)[0]


def _parted(template: str, question: str) -> tuple[str, str]:
    """Return a template's text before and behind the answer, with a question for whatever field it names."""
    before_answer, after = template.split(RESPONSE)
    asked = "".join(text + question * (name is not None) for text, name, *_ in Formatter().parse(before_answer))
    return asked, after.format()


def read(folder: Path, base: str) -> Named:
    """Return an adapter that is not loaded yet.

    :param base: digest of the base model that it must have been trained on
    :raises UserError: if it cannot be served
    """
    path = folder / paths.ADAPTER_MANIFEST
    named = Named(packaged.read_adapter(path))
    theirs = str(named.manifest.get("base_sha256"))
    if theirs != base:
        raise UserError(
            f"{packaged.shown(path)} is of another base model ({theirs[:12]}) than this package ({base[:12]})"
        )
    try:
        named.prompt("", "", "") if named.converses else named.prompt("")
    except (AttributeError, LookupError, ValueError) as error:
        raise UserError(f"{packaged.shown(path)} is damaged: {packaged.AGAIN}") from error
    return named


def load(named: Named, folder: Path, decoder: Decoder) -> None:
    """Load an adapter beside its model, and read a token with it.

    :raises UserError: if the runtime does not take it
    """
    try:
        named.loaded = decoder.load(folder / paths.ADAPTER_FILE)
        decoder.generator(named.loaded, 2, Asked(named.manifest["generation"])).append_tokens([ANY_TOKEN])
    except RuntimeError as error:
        raise UserError(
            f"the adapter in {packaged.shown(folder)} cannot be loaded ({line(error)}): {packaged.AGAIN}"
        ) from error


class Shelf:
    """The folder from which an operator lets adapters be loaded: one in each of the folders in it.

    :raises UserError: if it is none
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"--adapters {root} is no folder: name one that has a folder for each adapter")
        self._root = root.resolve()

    def load(self, name: str, base: str, decoder: Decoder, check_schema: Callable[[str], None]) -> Named:
        """Return an adapter of a folder, loaded from a copy of it, which nobody writes to meanwhile or afterwards.

        :param check_schema: raises UserError where answers cannot be held to a schema
        :raises RefusedError: if there is no such folder, or it has no adapter that can be served
        """
        folder = self._root / name
        if not re.fullmatch(wire.NAME, name) or not folder.is_dir() or folder.resolve() != folder:
            raise RefusedError(
                f"there is no folder {name!r} with an adapter", 404, param="folder", code="adapter_not_found"
            )
        # The runtime maps the file: what is written into it would change answers, or end the server. Linux keeps the
        # mapped file when its name goes; Windows keeps the name, too.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            copy = Path(place) / name
            try:
                named = self._loaded(folder, copy, base, decoder, check_schema)
            except UserError as error:
                reason = str(error).replace(str(copy), name)
                raise RefusedError(reason, param="folder", code="invalid_adapter") from error
        named.folder = name
        return named

    @staticmethod
    def _loaded(folder: Path, copy: Path, base: str, decoder: Decoder, check_schema: Callable[[str], None]) -> Named:
        if (folder / paths.RUNTIME_CONFIG).exists():
            raise UserError(f"{folder.name} is a whole model, which a package has: only an adapter can be loaded")
        copy.mkdir()
        for name in FILES:
            try:
                shutil.copyfile(folder / name, copy / name, follow_symlinks=False)
            except OSError as error:
                # Python's own refusal of what is no file, such as a pipe, has no other word for it.
                why = error.strerror or "it is no plain file"
                raise UserError(f"{name} in {folder.name} cannot be read ({why}): {packaged.AGAIN}") from error
        packaged.plain_files(copy)
        digest = packaged.sha256(copy / paths.ADAPTER_FILE)
        named = read(copy, base)
        if named.manifest.get("file_sha256") != digest:
            raise UserError(
                f"{copy / paths.ADAPTER_FILE} is not the file that {paths.ADAPTER_MANIFEST} names: {packaged.AGAIN}"
            )
        if named.schema is not None:
            check_schema(named.schema)
        load(named, copy, decoder)
        return named
