"""Gather all that an application needs for one target in one folder.

in:  all of params.yaml but other targets, prepared, calibration and general text, reports/environment, reports/machine,
     models/base, models/captured/TARGET, models/converted/TARGET, reports/evaluate/TARGET
out: packages/TARGET, with manifest.json: the SHA-256 of every file and of every input, and what became of the gates
"""

from press.core import cli, files, paths
from press.package import contents
from press.params import settings


def main(target: str) -> None:
    output = paths.PACKAGES / target
    with files.replaced(output) as building:
        contents.gather(target, settings.load(), building)
    print(f"{output}: {files.size(output) / 1e6:.0f} MB")
    for result in files.read_json(output / paths.MANIFEST)["gates"]:
        if not result["passed"]:
            print(f"gate not passed, so that `make publish` refuses it: {result['gate']} ({result['reason']})")


if __name__ == "__main__":
    cli.run(main)
