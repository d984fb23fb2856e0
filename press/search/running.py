"""The search itself: workers build what the study suggests, until there are enough trials."""

import json
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from press.core import cli, files, paths
from press.core.errors import UserError
from press.params import gates
from press.release import outputs
from press.search import experiments, space
from press.search.experiments import FailedError, Worker
from press.search.settings import Spec
from press.search.study import Study, Ticket, Trial


def search(spec: Spec, study: Study, lock: int, say: Callable[[str], None], *, retry: bool = False) -> None:
    """Run trials until there are as many as params.yaml says, or no other values are left.

    :param lock: file descriptor of the lock that the trials' processes share
    :param say: takes a line for each trial that begins or ends
    :param retry: whether trials that failed are run again
    :raises UserError: if an objective cannot be told from the metrics, or the disk is full
    """
    begin(spec, study, say, retry=retry)
    workers = [Worker(number, lock) for number in range(1, spec.search.workers + 1)]
    with ThreadPoolExecutor(len(workers)) as pool:
        try:
            for worker in workers:
                worker.prepare()
            _run(spec, study, workers, pool, say)
        except BaseException:
            for worker in workers:
                worker.stop()
            raise
    for worker in workers:
        worker.remove()


def begin(spec: Spec, study: Study, say: Callable[[str], None], *, retry: bool) -> None:
    """Look at what is there, and say what the next trials are."""
    if wrong := outputs.names(outputs.verify(outputs.CACHE)):
        # Or else each trial would bring it back, and its stages refuse it.
        say(f"{wrong} missing or damaged in DVC's cache, and gone from there: trials build anew what they need of it")
    resumed = study.resume()
    if resumed:
        say(f"{resumed} trials were stopped before they ended, and begin again")
    elif not study.begin(spec.params.model_dump()):
        say("params.yaml's own values lie outside the space, so that they are no trial")
    if retry:
        say(f"{study.retry()} trials that failed begin again")


def _run(spec: Spec, study: Study, workers: list[Worker], pool: ThreadPoolExecutor, say: Callable[[str], None]) -> None:
    running: dict[Future[dict | FailedError], tuple[Worker, Ticket]] = {}
    free = list(workers)
    while True:
        tickets = [ticket for _, ticket in running.values()]
        while free and len(study.trials) + len(tickets) < spec.search.trials:
            ticket = study.ask(set(experiments.known()), tickets)
            if ticket is None:
                break
            tickets.append(ticket)
            say(began(spec, ticket, len(study.trials) + len(tickets)))
            worker = free.pop(0)
            running[pool.submit(_build, spec, worker, ticket)] = (worker, ticket)
        if not running:
            say_if_fewer(spec, study, say)
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            worker, ticket = running.pop(future)
            free.append(worker)
            built = future.result()
            if isinstance(built, FailedError):
                if cli.tells_of_full_disk(str(built)):
                    # The stage's own sentence asks for `dvc repro`.
                    raise UserError(cli.FULL_DISK)
                trial = study.fail(ticket, str(built))
            else:
                trial = study.finish(ticket, built)
            say(ended(spec, trial))


def _build(spec: Spec, worker: Worker, ticket: Ticket) -> dict | FailedError:
    """Return the metrics of a trial, or why it failed."""
    try:
        built = worker.build(ticket.name, space.changes(spec.dimensions, ticket.values), spec.target)
        metrics = files.read_json(built / paths.EVALUATED / spec.target / paths.METRICS)
        if spec.measures_speed:
            metrics["speed"] = json.loads(worker.measure(built / paths.PACKAGES / spec.target, spec.params.threads))
    except FailedError as error:
        return error
    return metrics


def say_if_fewer(spec: Spec, study: Study, say: Callable[[str], None]) -> None:
    """Say so where there are fewer trials than params.yaml asks for."""
    if len(study.trials) < spec.search.trials:
        say(f"{len(study.trials)} of {spec.search.trials} trials: no other values were found in the space")


def began(spec: Spec, ticket: Ticket, count: int) -> str:
    """Say in one line what is tried.

    :param count: of the trials that have ended or begun
    """
    return f"{ticket.name} ({count} of {spec.search.trials}) begins: {shown(ticket.values)}"


def ended(spec: Spec, trial: Trial) -> str:
    """Say in one line how a trial ended."""
    return f"{trial.name} {outcome(spec, trial)}; {trial.seconds:.0f} s"


def shown(values: dict[str, object]) -> str:
    """Return parameters in one line."""
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in values.items())


def outcome(spec: Spec, trial: Trial) -> str:
    """Say in one line what became of a trial."""
    if trial.metrics is None:
        return f"failed: {trial.reason}"
    expressions = dict.fromkeys(each.expression for each in (*spec.objectives, *spec.front))
    figures = ", ".join(f"{text} {gates.value(text, trial.metrics):,.6g}" for text in expressions)
    missed = [constraint for constraint, violation in trial.violations.items() if violation > 0]
    return f"{figures}" + (f"; misses {'; '.join(missed)}" if missed else "; satisfies all constraints")
