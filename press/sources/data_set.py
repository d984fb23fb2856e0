"""A data set of the Hugging Face hub at a pinned revision, or in the hub client's cache, as one file of Parquet.

Its files come by the hub's client, which knows them by their commit, and not by `datasets` itself, whose own cache
answers across revisions. `datasets` then reads them as the data set's README.md says: configurations, splits and
patterns. It runs no code of a data set, and none is brought.
"""

import tempfile
from pathlib import Path

from press.core import azure, paths
from press.core.errors import UserError
from press.data import records, strict_json
from press.params import schema
from press.sources import hub

CARD = "README.md"
# Of what a repository may have, those that `datasets` reads text from, packed or not.
KEPT = tuple(f"*{kind}{packed}" for kind in (*records.KINDS, ".arrow", ".txt") for packed in ("", ".gz", ".zst", ".xz"))
PARQUET = "data.parquet"


def bring(name: str, source: schema.DataSet, folder: Path) -> None:
    """Write a data set's rows into an empty folder.

    :param name: in params.yaml
    :raises UserError: if it does not exist, cannot be read or reached, or has no such rows
    """
    with hub.sentences(source, "data set", f"data_sets.{name}"):
        repository = _files(source)
    check_card(repository / CARD, source.id)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".", suffix=".download") as cache:
        _write(source, repository, folder / PARQUET, Path(cache))


def check_card(card: Path, name: str) -> None:
    """Refuse a README.md that names files which are not the data set's, here or on a server."""
    from huggingface_hub import DatasetCard

    if not card.is_file():
        return
    try:
        configurations = DatasetCard.load(card).data.to_dict().get("configs", [])
    except ValueError as error:
        raise UserError(f"{name} has a damaged {CARD} ({azure.first_line(error)})") from error
    for text in strict_json.texts(configurations):
        if not paths.is_inside(text):
            raise UserError(f"{name} names {text!r} in its {CARD}, which is not a file of its own: it is not read")


def _files(source: schema.DataSet) -> Path:
    """Return the folder in the client's cache that has the files of the data set, and no code."""
    from huggingface_hub import snapshot_download

    patterns = [CARD, *(source.data_files or KEPT)]
    return Path(snapshot_download(source.id, repo_type="dataset", revision=source.revision, allow_patterns=patterns))


def _write(source: schema.DataSet, repository: Path, target: Path, cache: Path) -> None:
    import datasets

    try:
        rows = datasets.load_dataset(
            str(repository),
            source.config,
            data_files=source.data_files or None,
            split=source.split,
            cache_dir=str(cache),
        )
        rows.to_parquet(target)
    except (datasets.exceptions.DatasetsError, ValueError, RuntimeError, FileNotFoundError) as error:
        reason = "; ".join(azure.first_line(each) for each in (error, error.__cause__) if isinstance(each, Exception))
        raise UserError(
            f"{source.id} at revision {source.revision} cannot be read as the rows that data_sets names ({reason})"
        ) from error
