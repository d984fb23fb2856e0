"""lm-eval's view of a captured model, and what its tasks give for it."""

import contextlib
import math
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import datasets
import evaluate as hf_evaluate
import numpy as np
from jinja2.exceptions import TemplateError
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import Task
from lm_eval.defaults import DEFAULT_MAX_GEN_TOKS, DEFAULT_MAX_LENGTH, DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.evaluator import evaluate
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.tasks.manager import TaskDict
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from press.core import paths
from press.core.errors import UserError
from press.data import strict_json, tokens
from press.model.runtime import CONTEXT_MARGIN, PLAIN, Runtime
from press.quality import contamination, filling, scoring

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DIGITS = 6
# Beside lm-eval's own metrics: documents that an adapter was nearly trained on.
TRAINED_ON = "trained_on"
# Builders of `datasets` that read files; any other dataset_path is a folder or a repository on the hub.
READERS = ("arrow", "csv", "json", "parquet", "text")


Tokens = tuple[tuple[str, str] | None, list[int], list[int]]


class CapturedModel(TemplateLM):
    """A captured model, bare or with one of its adapters, as lm-eval asks models.

    How texts are joined, split and cut is TemplateLM's, so that results compare with those of other models.
    """

    def __init__(self, runtime: Runtime, adapter: str | None, start: Sequence[int] = ()) -> None:
        """Take a model.

        :param start: the token that its tokenizer puts before every text, as press.data.tokens says
        """
        super().__init__()
        self._runtime = runtime
        self._adapter = adapter
        self._start = list(start)
        # The logits of all positions are in memory at once: at 2048 tokens and 49152 words, 400 MB.
        self.max_length = min(runtime.context - CONTEXT_MARGIN, DEFAULT_MAX_LENGTH)

    @property
    def eot_token_id(self) -> int:
        """The token that stands before a text that has no context."""
        return self._runtime.start

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs) -> list[int]:
        """Return the token ids of a text, behind the one that the model's tokenizer puts before every text."""
        ids = self._runtime.encode(string)
        return ids if add_special_tokens is False else [*self._before(ids), *ids]

    def _before(self, ids: list[int]) -> list[int]:
        """Return what a text's tokens lack at their start: a task's template may have written it."""
        return [] if ids[: len(self._start)] == self._start else self._start

    def _loglikelihood_tokens(self, requests: list[Tokens], **kwargs) -> list[tuple[float, bool]]:
        """Return log p of each continuation in nats, and whether it is what greedy decoding would write.

        Of what is longer than the model's context, what follows the token that starts a text is left out.
        """
        inputs: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, (_, context, continuation) in enumerate(requests):
            if not 0 < len(continuation) <= self.max_length:
                raise UserError(
                    f"evaluate.tasks: a text to score has {len(continuation)} tokens, but must have 1 to "
                    f"{self.max_length}"
                )
            inputs[self._end((context + continuation)[:-1])].append(index)
        results: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        longest: tuple[int, ...] = ()
        logits = np.empty((0, 0), np.float32)
        # In this order what begins another input follows it, and shares its logits: so do most choices of a question.
        for ids in sorted(inputs, reverse=True):
            if ids != longest[: len(ids)]:
                longest, logits = ids, self._runtime.logits(list(ids), self._adapter)
            for index in inputs[ids]:
                continuation = requests[index][2]
                results[index] = judge(logits[len(ids) - len(continuation) : len(ids)], continuation)
        return results

    def _end(self, ids: list[int]) -> tuple[int, ...]:
        """Return as many of a text's last tokens as the model takes, behind the token that starts it."""
        if len(ids) <= self.max_length:
            return tuple(ids)
        start = [] if self._before(ids) else self._start
        return (*start, *ids[len(ids) - self.max_length + len(start) :])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return log p of each whole text in nats: the sum over windows, in which each token is predicted once."""
        results = []
        for (text,) in (request.args for request in requests):
            ids = self.tok_encode(text, add_special_tokens=False)
            pairs = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
            windows: list[Tokens] = [
                (None, context, continuation) for context, continuation in map(make_disjoint_window, pairs)
            ]
            results.append(sum(value for value, _ in self._loglikelihood_tokens(windows)))
        return results

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the greedy answer to each context, up to the first of its stop strings."""
        results = []
        for context, options in (request.args for request in requests):
            wanted = normalize_gen_kwargs(options, DEFAULT_MAX_GEN_TOKS)
            if wanted["do_sample"]:
                raise UserError("evaluate.tasks: a task asks for sampled answers, but only greedy ones are repeatable")
            ids = self._runtime.encode(context)
            before = self._before(ids)
            tokens = len(before) + len(ids) + wanted["max_gen_toks"]
            if tokens > self._runtime.context:
                raise UserError(
                    f"evaluate.tasks: a prompt and its answer (max_gen_toks) may have {tokens} tokens, but the model's "
                    f"context is {self._runtime.context}"
                )
            stops = [stop for stop in wanted["until"] if stop]
            given = {**PLAIN, "max_new_tokens": wanted["max_gen_toks"], "stop": stops}
            results.append(self._runtime.answer(context, self._adapter, given, free=True, before=before)[0])
        return results


def judge(logits: np.ndarray, tokens: list[int]) -> tuple[float, bool]:
    """Return log p of tokens in nats, and whether each is the likeliest.

    :param logits: fp32 of shape (tokens, vocabulary); row i predicts token i
    """
    rows = scoring.log_softmax(logits)
    chosen = np.take_along_axis(rows, np.array(tokens)[:, None], axis=-1)[:, 0]
    return float(chosen.sum(dtype=np.float64)), bool((rows.argmax(axis=-1) == tokens).all())


def score(
    runtime: Runtime, files: dict[str, Path], limit: int | None, rungs: dict[str, str | None], start: Sequence[int]
) -> dict:
    """Run tasks and return their metrics, {task: {metric: {rung: value}}}.

    :param files: the YAML file of each task
    :param limit: documents of each task; None for all
    :param rungs: the adapter of each rung, None for the bare model
    :param start: the token that the model's tokenizer puts before every text
    :raises UserError: if a task cannot be loaded, or its data is not among the files that DVC watches
    """
    scores: dict = defaultdict(lambda: defaultdict(dict))
    with own_cache(), closed():
        loaded = load(files)
        for rung, adapter in rungs.items():
            print(f"running {', '.join(files)} in ONNX, {rung}", flush=True)
            _seed(loaded)
            model = CapturedModel(runtime, adapter, start)
            try:
                results = evaluate(model, loaded, limit=limit, bootstrap_iters=0, log_samples=False)
            except TemplateError as error:
                raise UserError(f"evaluate.tasks: a template cannot be filled in: {error}") from error
            for task, values in results["results"].items():
                for metric, value in _metrics(values):
                    if not math.isfinite(value):
                        raise UserError(f"evaluate.tasks: the {metric} of {task} is {value}, and so is no metric")
                    scores[task][metric][rung] = value
            if adapter is not None:
                trained = contamination.prompts(adapter)
                for name, task in loaded["tasks"].items():
                    scores[name][TRAINED_ON][rung] = contamination.count(task.dataset[_asked(task)], trained)
    return {task: dict(sorted(metrics.items())) for task, metrics in sorted(scores.items())}


def load(files: dict[str, Path]) -> TaskDict:
    """Load tasks and their data from YAML files, all in one folder.

    :raises UserError: with the task and what is wrong about it
    """
    folder = next(iter(files.values())).parent
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    for name, path in files.items():
        if name not in manager.task_index:
            raise UserError(f"evaluate.tasks.names has {name}, but lm-eval cannot read {path}, or what it includes")
    if any(_members(manager.task_index[name].cfg) - set(manager.task_index) for name in files):
        # The index of all that lm-eval brings takes some seconds.
        manager = TaskManager(include_path=str(folder))
    merged: TaskDict = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in files:
        try:
            check_data(name, manager.task_index[name].cfg, folder)
            with closed():
                loaded = manager.load([name])
        except UserError:
            raise
        # A task is the user's code and templates, and may fail in any way.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"evaluate.tasks.names has {name}, but lm-eval cannot load it: {reason}") from error
        for task in loaded["tasks"].values():
            check_data(name, task.config.to_dict(), folder)
            _check_kind(name, task)
        for part, members in loaded.items():
            merged[part] |= members
    return merged


def check_data(name: str, config: dict, folder: Path) -> None:
    """Refuse a task whose data is not here, or is not among the files that DVC watches for this stage."""
    source, options = config.get("dataset_path"), config.get("dataset_kwargs") or {}
    if source is None:
        return
    given = [options[key] for key in ("data_files", "data_dir", "cache_dir") if options.get(key)]
    if source not in READERS:
        given.append(source)
    elif not options.get("data_files"):
        raise UserError(f"evaluate.tasks.names has {name}, but its dataset_kwargs name no data_files")
    for path in map(Path, _texts(given)):
        if not path.exists():
            raise UserError(
                f"evaluate.tasks.names has {name}, but its data {path} is not here: put it into {folder}, since a "
                "stage downloads nothing"
            )
        if not any(path.resolve().is_relative_to(place.resolve()) for place in (folder, paths.PREPARED)):
            raise UserError(
                f"evaluate.tasks.names has {name}, but its data {path} is not in {folder} or {paths.PREPARED}, and DVC "
                "would not see it change"
            )


def check_texts(loaded: TaskDict, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Refuse a document that the model would not read as it stands; templates alone may hold control tokens.

    What `prepare` wrote has such templates around fields that it has checked.
    """
    for name, task in loaded["tasks"].items():
        asked = _asked(task)
        shots = task.fewshot_cfg.split if task.config.num_fewshot else None
        for split in dict.fromkeys(each for each in (asked, shots) if each and not _is_prepared(task, each)):
            for number, document in enumerate(task.dataset[split], start=1):
                for text in strict_json.texts(document):
                    if wrong := tokens.complaint(text, tokenizer):
                        raise UserError(f"evaluate.tasks: document {number} of {name}, {split}: {text!r} {wrong}")


def _asked(task: Task) -> str:
    """Return the split whose documents are asked."""
    return task.config.test_split if task.has_test_docs() else task.config.validation_split


def _is_prepared(task: Task, split: str) -> bool:
    files = (task.config.dataset_kwargs or {}).get("data_files") or []
    of_split = _texts(files.get(split, []) if isinstance(files, dict) else files)
    return bool(of_split) and all(Path(each).resolve().is_relative_to(paths.PREPARED.resolve()) for each in of_split)


def _members(config: dict) -> set[str]:
    """Return the tasks that a group names, which may be lm-eval's own."""
    members = config["task"] if "group" in config else []
    return {each if isinstance(each, str) else each.get("task", each.get("group")) for each in members}


def _texts(value: str | list | dict) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for each in (value.values() if isinstance(value, dict) else value) for text in _texts(each)]


def _check_kind(name: str, task: Task) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(f"evaluate.tasks.names has {name}, which runs code that the model writes: leave it out")
    unknown = [metric for metric, function in getattr(task, "_metric_fn_list", {}).items() if function is None]
    if unknown and task.config.process_results is None:
        raise UserError(f"evaluate.tasks.names has {name}, but lm-eval itself has no metric {unknown[0]}")
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"evaluate.tasks.names has {name}, which needs images or sound: leave it out")


def _seed(loaded: TaskDict) -> None:
    """Give every rung the same few-shot examples, those of lm-eval's own seeds."""
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def _metrics(values: dict) -> Iterator[tuple[str, float]]:
    """Yield the metrics of a task's results by names that gates can use: acc,none as acc, f1,strict as f1-strict."""
    for key, value in values.items():
        metric, comma, kind = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            yield (metric if kind == "none" else f"{metric}-{kind}"), round(float(value), DIGITS)


@contextlib.contextmanager
def closed() -> Iterator[None]:
    """Let templates work on text alone, and no metric be looked for besides lm-eval's: DVC would see neither change."""
    before = utils.env, hf_evaluate.load
    utils.env, hf_evaluate.load = filling.Environment(), _not_looked_for
    try:
        yield
    finally:
        utils.env, hf_evaluate.load = before


def _not_looked_for(path: str, *_: object, **__: object) -> NoReturn:
    raise UserError(f"no metric {path} is looked for")


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """Keep what `datasets` writes in a new folder, and remove it afterwards: its cache answers across versions."""
    names = ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH", "HF_MODULES_CACHE")
    before = {name: getattr(datasets.config, name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in names:
                setattr(datasets.config, name, Path(folder) / name.lower())
            yield
        finally:
            for name, path in before.items():
                setattr(datasets.config, name, path)
