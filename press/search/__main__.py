"""Search for the best parameters, report what was found, put a trial into the workspace.

    python -m press.search                 run the trials that are missing, then report (`make search`)
    python -m press.search run --retry     the same, and once more those that failed
    python -m press.search run --engine=ray    the same, each trial a job of a cluster (`make search ENGINE=ray`)
    python -m press.search report          report again, without running anything
    python -m press.search apply NAME      put a trial's parameters and models in place (`make search APPLY=NAME`)

The block `search` of params.yaml says what is searched for and where; docs/search.md explains it. Ctrl-C stops the
search; the same command goes on with it.
"""

import argparse
import signal

from press.core import cli
from press.search import experiments, report, running, settings
from press.search.study import Study

STUDY = report.FOLDER / "study.db"


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m press.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb")
    verb = verbs.add_parser("run", help="run the trials that are missing, then report (the default)")
    verb.add_argument("--retry", action="store_true", help="run trials that failed once more")
    verb.add_argument("--engine", default="", help="run trials as jobs of a cluster: ray")
    verbs.add_parser("report", help="report what was found so far")
    verbs.add_parser("apply", help="put a trial's parameters and models in place").add_argument("name")
    return parser.parse_args()


def main(words: argparse.Namespace) -> None:
    """Run one of the commands."""
    if words.verb == "apply":
        with experiments.alone():
            experiments.apply(words.name)
        print(f"params.yaml, models, reports and packages are those of {words.name} now; `git diff` shows the change")
        return
    spec = settings.load()
    with experiments.alone() as lock:
        study = Study(STUDY, spec, experiments.state())
        if words.verb != "report":
            experiments.check_committed()
            _run(words, spec, study, lock)
        print("\n" + report.write(spec, report.find(spec, study.trials)))
    print(f"{report.FOLDER}: report.md, trials.csv, {report.plot.NAME}")


def _run(words: argparse.Namespace, spec: settings.Spec, study: Study, lock: int) -> None:
    """Run the trials that are missing, here or on a cluster."""
    is_told = words.verb == "run"
    retry, engine = is_told and words.retry, words.engine if is_told else ""

    def say(line: str) -> None:
        print(line, flush=True)

    if not engine:
        running.search(spec, study, lock, say, retry=retry)
        return
    from press.cluster.__main__ import starter
    from press.search import on_cluster

    on_cluster.search(spec, study, starter(engine), say, retry=retry)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    cli.in_sentences(lambda: main(_words()))
