"""Bring a data set of the hub.

in:  data_sets.NAME (reports/params.json); the Hugging Face hub, or its client's cache
out: downloads/NAME, its rows in Parquet
"""

from press.core import cli, files, paths
from press.core.errors import UserError
from press.params import settings
from press.sources import data_set


def main(name: str) -> None:
    sources = settings.checked().data_sets
    if name not in sources:
        raise UserError(f"{paths.PARAMS}: data_sets has no {name}; it has {', '.join(sources) or 'nothing'}")
    with files.replaced(paths.DOWNLOADS / name) as building:
        data_set.bring(name, sources[name], building)
    print(f"{paths.DOWNLOADS / name}: {files.size(paths.DOWNLOADS / name) / 1e6:.1f} MB from {sources[name].id}")


if __name__ == "__main__":
    cli.run(main, online=True)
