"""Gather all that an application needs for one target in one folder.

in:  all parameters but those of other targets, prepared, calibration and general text, reports/environment,
     models/base, models/captured/TARGET, models/converted/TARGET
out: packages/TARGET, with manifest.json: the SHA-256 of every file and of every input
"""

from press.core import cli, files, paths
from press.package import contents
from press.params import settings


def main(target: str) -> None:
    output = paths.PACKAGES / target
    with files.replaced(output) as building:
        contents.gather(target, settings.checked(), building)
    print(f"{output}: {files.size(output) / 1e6:.0f} MB")


if __name__ == "__main__":
    cli.run(main)
