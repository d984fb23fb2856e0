"""A data set of the Hugging Face hub at a pinned revision, or in the hub client's cache, as one file of Parquet.

Its files come by the hub's client, which knows them by their commit, and not by `datasets` itself, whose own cache
answers across revisions. `datasets` then reads them as the data set's README.md says: configurations, splits and
patterns. It runs no code of a data set, and none is brought.
"""

import errno
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import cast

import yaml

from press.core import azure, cli, paths
from press.core.errors import UserError
from press.data import records, strict_json
from press.params import schema
from press.sources import hub

CARD = "README.md"
KEPT = tuple(f"*{end}" for end in records.HUB_FILES)
PARQUET = "data.parquet"
# Besides the errors of `datasets` and Arrow: what these let pass of a file that is damaged, empty, or needs a library
# which is not here, and of an option in README.md of another type.
UNREADABLE = (
    *(ValueError, RuntimeError, OSError, EOFError, ImportError, StopIteration, TypeError),
    *(lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error),
)


def bring(name: str, source: schema.DataSet, folder: Path) -> None:
    """Write a data set's rows into an empty folder.

    :param name: in params.yaml
    :raises UserError: if it does not exist, cannot be read or reached, or has no such rows
    """
    with hub.sentences(source, "data set", f"data_sets.{name}"):
        repository = _files(source)
    check_card(repository / CARD, source.id)
    if not any(path.is_file() and path.name != CARD for path in repository.rglob("*")):
        raise UserError(
            f"{source.id} at revision {source.revision} has none of the files that data_sets.{name} may name: they end "
            f"with {', '.join(records.HUB_KINDS)}, or one of these and .gz or .xz"
        )
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".", suffix=".download") as cache:
        _write(source, repository, folder / PARQUET, Path(cache))


def check_card(card: Path, name: str) -> None:
    """Refuse a README.md that is damaged, or names files which are not the data set's, here or on a server."""
    if not card.is_file():
        return
    try:
        configurations = _configurations(card)
    # Nothing but the README.md is read here, and its values are of any kind.
    except Exception as error:
        raise UserError(f"{name} has a damaged {CARD} ({azure.first_line(error)}): nothing is read by it") from error
    for text in configurations:
        if not paths.is_inside(text):
            raise UserError(f"{name} names {text!r} in its {CARD}, which is not a file of its own: it is not read")


def _configurations(card: Path) -> list[str]:
    """Return all texts of the configurations in a README.md, and read it as `datasets` does."""
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard, DatasetCardData
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    header = REGEX_YAML_BLOCK.search(card.read_text(encoding="utf-8-sig"))
    if header and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(header[2])):
        raise ValueError("it repeats blocks, of which a few make millions")
    data = cast(DatasetCardData, DatasetCard.load(card).data)
    MetadataConfigs.from_dataset_card_data(data)
    DatasetInfosDict.from_dataset_card_data(data)
    return [text for text in strict_json.texts(data.to_dict().get("configs", [])) if isinstance(text, str)]


def _files(source: schema.DataSet) -> Path:
    """Return the folder in the client's cache that has the files of the data set, and no code."""
    from huggingface_hub import snapshot_download

    patterns = [CARD, *(source.data_files or KEPT)]
    return Path(snapshot_download(source.id, repo_type="dataset", revision=source.revision, allow_patterns=patterns))


def _write(source: schema.DataSet, repository: Path, target: Path, cache: Path) -> None:
    import datasets
    import pyarrow

    try:
        rows = datasets.load_dataset(
            str(repository),
            source.config,
            data_files=source.data_files or None,
            split=source.split,
            cache_dir=str(cache),
        )
        rows.to_parquet(target)
    except (datasets.exceptions.DatasetsError, pyarrow.ArrowException, *UNREADABLE) as error:
        if cli.is_full_disk(error) or (isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)):
            raise
        causes = [each for each in (error, error.__cause__) if isinstance(each, Exception)]
        reason = "a file is empty" if isinstance(error, StopIteration) else "; ".join(map(azure.first_line, causes))
        raise UserError(
            f"{source.id} at revision {source.revision} cannot be read as the rows that data_sets names ({reason})"
        ) from error
