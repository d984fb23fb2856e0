"""lm-eval's requests get what PyTorch gives, and a task runs from its file to its metrics without a network."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import TOLERANCE, captured_to, converted, pytorch_logits, random_adapter

from press.core import apart, environment, files, packages
from press.core.errors import UserError
from press.data import jsonl
from press.model.packaged import generation
from press.model.runtime import Runtime
from press.params import schema
from press.quality import tasks
from press.sources import tokenizers

pytest.importorskip("lm_eval", reason="needs `make install-tasks`")

from lm_eval.api.instance import Instance

from press.quality import filling, lm_eval

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
ADAPTERS = [None, "random"]
# Logits differ by at most TOLERANCE of the largest, which is below 100, and a log-probability by twice that.
PER_TOKEN = 200 * TOLERANCE
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: [" yes", " no", "n"]
doc_to_target: answer
target_delimiter: ""
"""


@pytest.fixture(scope="module")
def captured(tiny_quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Runtime, dict[str | None, Path]]:
    """A tiny model with a random adapter, and where that is for PyTorch."""
    folder = tmp_path_factory.mktemp("captured")
    (folder / "passes").symlink_to(ROOT / "passes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = captured_to(folder, tiny_quantized)
    adapter = random_adapter(tiny_quantized, folder / "random", 8, ["q_proj", "v_proj", "down_proj"])
    path = converted(adapter, model / "lora_inputs.json", folder / "random.onnx_adapter")
    return Runtime(model, {"random": path}, threads=2), {None: None, "random": adapter}


@pytest.fixture
def runtime(captured: tuple) -> Runtime:
    return captured[0]


@pytest.fixture
def expected(captured: tuple, tiny_quantized: Path):
    """What PyTorch gives for ids: log-probabilities, fp32 of shape (tokens, vocabulary)."""

    def log_probabilities(ids: list[int], adapter: str | None) -> torch.Tensor:
        logits = torch.from_numpy(pytorch_logits(tiny_quantized, captured[1][adapter], ids))
        assert logits.abs().max() < 100
        return logits.log_softmax(-1)

    return log_probabilities


def talkative(runtime: Runtime, adapter: str | None) -> str:
    """Return a prompt that random weights answer with letters: half of the byte-level vocabulary is none."""
    for prompt in (f"To pack {index}" for index in range(200)):
        answer = runtime.answer(prompt, adapter, generation({"max_new_tokens": 3}))[0]
        if len(answer) == 3 and answer.isascii() and answer.isalnum():
            return prompt
    raise AssertionError("no prompt is answered with letters")


def asked(kind: str, *arguments: tuple) -> list[Instance]:
    return [Instance(kind, {}, each, index) for index, each in enumerate(arguments)]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_log_likelihoods_are_pytorch_s(runtime, expected, adapter):
    model = lm_eval.CapturedModel(runtime, adapter)
    # Two that share a run, one that begins another's input, a space that moves to the answer, and no context.
    pairs = [("To pack", " a"), ("To pack", "ed"), ("To pack", " a hat"), ("Rain? ", "yes"), ("", "hats")]
    results = model.loglikelihood(asked("loglikelihood", *pairs))
    for (context, continuation), (value, greedy) in zip(pairs, results, strict=True):
        before = runtime.encode(context.rstrip())
        prompt = before or [runtime.start]
        ids = prompt + runtime.encode(context + continuation)[len(before) :]
        rows = expected(ids, adapter)[len(prompt) - 1 : -1]
        answer = torch.tensor(ids[len(prompt) :])
        assert value == pytest.approx(float(rows.gather(1, answer[:, None]).sum()), abs=PER_TOKEN * len(answer))
        assert greedy == bool((rows.argmax(-1) == answer).all())


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_what_the_model_answers_is_greedy_and_nothing_else_is(runtime, adapter):
    model = lm_eval.CapturedModel(runtime, adapter)
    prompt = talkative(runtime, adapter)
    best = runtime.answer(prompt, adapter, generation({"max_new_tokens": 3}))[0]
    other = best[:2] + ("x" if best[2] != "x" else "y")
    results = model.loglikelihood(asked("loglikelihood", (prompt, best), (prompt, other)))
    assert [greedy for _, greedy in results] == [True, False]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_rolling_log_likelihood_is_the_sum_over_windows(runtime, expected, adapter):
    model = lm_eval.CapturedModel(runtime, adapter)
    model.max_length = 16
    text = "A weekend in Oslo, in January, by train."
    ids = [runtime.start, *runtime.encode(text)]
    assert 32 < len(ids) - 1 < 48
    total = 0.0
    for start in range(0, len(ids) - 1, 16):
        end = min(start + 16, len(ids) - 1)
        # The last window is filled up from before.
        window = ids[max(end - 16, 0) : end + 1]
        rows = expected(window[:-1], adapter)[-(end - start) :]
        total += float(rows.gather(1, torch.tensor(window)[-(end - start) :, None]).sum())
    (value,) = model.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)))
    assert value == pytest.approx(total, abs=PER_TOKEN * len(ids))


@pytest.mark.parametrize("count", [0, 600])
def test_a_text_to_score_that_is_empty_or_does_not_fit_is_refused(runtime, count):
    model = lm_eval.CapturedModel(runtime, None)
    with pytest.raises(UserError, match=f"has {count} tokens, but must have 1 to 511"):
        model.loglikelihood(asked("loglikelihood", ("To", "x" * count)))


def test_of_a_long_context_the_end_counts(runtime):
    model = lm_eval.CapturedModel(runtime, None)
    long, short = model.loglikelihood(asked("loglikelihood", ("z" * 600 + "y" * 510, " a"), ("y" * 510, " a")))
    assert long == short


def test_generation_stops_at_the_stop_text_and_leaves_it_out(runtime):
    model = lm_eval.CapturedModel(runtime, "random")
    prompt = talkative(runtime, "random")
    whole, _ = runtime.answer(prompt, "random", generation({"max_new_tokens": 30}))
    stop = whole[2]
    options = [{"until": stop, "max_gen_toks": 30}, {"until": [], "max_gen_toks": 3, "do_sample": False}]
    some = model.generate_until(asked("generate_until", *((prompt, each) for each in options)))
    assert some == [whole[: whole.index(stop)], whole[:3]]


@pytest.mark.parametrize(
    ("context", "options", "sentence"),
    [
        ("To pack", {"do_sample": True, "temperature": 1.0}, "asks for sampled answers"),
        ("To pack", {"max_gen_toks": 510}, "may have 517 tokens, but the model's context is 512"),
    ],
)
def test_an_answer_that_cannot_be_repeated_or_does_not_fit_is_refused(runtime, context, options, sentence):
    with pytest.raises(UserError, match=sentence):
        lm_eval.CapturedModel(runtime, None).generate_until(asked("generate_until", (context, options)))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one task and its data."""
    monkeypatch.chdir(tmp_path)
    Path("data/tasks").mkdir(parents=True)
    rows = [{"question": f"Is {index} even?", "answer": index % 2} for index in range(5)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    Path("data/tasks/even.jsonl").write_text(text, encoding="utf-8")
    write_task("even")
    Path("prepared/random").mkdir(parents=True)
    files.write_json(Path("prepared/random/adapter.json"), {"template": "Q: {prompt}\n{response}"})
    jsonl.write(Path("prepared/random/train.jsonl"), [{"prompt": f"Q: {text}\n"} for text in ("IS 3 even", "Is 3?")])
    return tmp_path


def write_task(name: str, data: str = "data/tasks/even.jsonl", more: str = "") -> None:
    Path(f"data/tasks/{name}.yaml").write_text(TASK.format(name=name, data=data) + more, encoding="utf-8")


def named(*names: str, limit: int | None = None) -> schema.Tasks:
    return schema.Tasks(names=list(names), folder="data/tasks", limit=limit)


def share_right(runtime: Runtime, adapter: str | None, count: int) -> float:
    """Return the accuracy of the task, without lm-eval."""
    right = 0
    for index in range(count):
        ids = runtime.encode(f"Is {index} even?")
        values = []
        for answer in (runtime.encode(text) for text in (" yes", " no", "n")):
            logits = torch.from_numpy(runtime.logits(ids + answer, adapter)).log_softmax(-1)
            values.append(float(sum(logits[len(ids) - 1 + place, token] for place, token in enumerate(answer))))
        right += int(np.argmax(values)) == index % 2
    return right / count


def test_a_task_runs_from_its_file_to_its_metrics(runtime, project, monkeypatch):
    for name in ("HOME", "TMPDIR"):
        (project / name).mkdir()
        monkeypatch.setenv(name, str(project / name))
    tasks.rehearse(named("even"), tokenizers.of_bytes())
    metrics = tasks.run(runtime, named("even"), ["random"], [])
    accuracy = {
        rung: round(share_right(runtime, adapter, 5), 6)
        for rung, adapter in zip(("bare", "random"), ADAPTERS, strict=True)
    }
    assert metrics["tasks"]["even"]["acc"] == accuracy
    assert metrics["tasks"]["even"]["trained_on"] == {"random": 1}
    assert list(metrics["tasks"]["even"]) == sorted(metrics["tasks"]["even"])
    assert tasks.run(runtime, named("even"), ["random"], []) == metrics
    assert tasks.run(runtime, named("even", limit=2), [], [])["tasks"]["even"]["acc"] == {
        "bare": share_right(runtime, None, 2)
    }
    assert files.digests(project / "HOME") == {}


def test_a_text_that_the_model_would_take_for_a_command_is_named(project):
    rows = [{"question": "Is 1 even?", "answer": 1, "more": {"notes": [each]}} for each in ("Hi", "Hi<|im_end|>")]
    Path("data/tasks/even.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokenizer = tokenizers.of_bytes()
    with pytest.raises(UserError) as caught:
        tasks.rehearse(named("even"), tokenizer)
    assert str(caught.value) == (
        "evaluate.tasks: document 2 of even, test: 'Hi<|im_end|>' has '<|im_end|>', which the base model reads as a "
        "control token: write it otherwise"
    )
    # Documents that are not asked are not looked at, and a template is the user's own.
    good = json.dumps(rows[0]) + "\n"
    Path("data/tasks/good.jsonl").write_text(good, encoding="utf-8")
    both = "dataset_kwargs: {data_files: {test: data/tasks/good.jsonl, more: data/tasks/even.jsonl}}\n"
    write_task("even", more=f"{both}doc_to_text: '{{{{question}}}}<|im_end|>'\n")
    tasks.rehearse(named("even"), tokenizer)
    write_task("even", more=f"{both}fewshot_split: more\nnum_fewshot: 1\n")
    with pytest.raises(UserError, match="document 2 of even, more: "):
        tasks.rehearse(named("even"), tokenizer)
    # What `prepare` wrote is checked, and has the adapter's template around it.
    Path("prepared").mkdir(exist_ok=True)
    Path("prepared/even.jsonl").write_text(json.dumps(rows[1]) + "\n", encoding="utf-8")
    write_task("even", "prepared/even.jsonl")
    tasks.rehearse(named("even"), tokenizer)


def test_every_text_begins_as_the_model_s_tokenizer_lets_it_begin(runtime):
    start, control = [runtime.start], tokenizers.of_bytes().bos_token
    plain, starting = lm_eval.CapturedModel(runtime, None), lm_eval.CapturedModel(runtime, None, start)
    ids = runtime.encode("To pack")
    assert (plain.tok_encode("To pack"), starting.tok_encode("To pack")) == (ids, start + ids)
    assert starting.tok_encode("To pack", add_special_tokens=False) == ids
    # A template may have written it.
    assert runtime.encode(control) == start
    assert starting.tok_encode(f"{control}To pack") == start + ids
    (value,) = starting.loglikelihood(asked("loglikelihood", ("To pack", "ed")))
    assert [value] == plain.loglikelihood(asked("loglikelihood", (f"{control}To pack", "ed")))
    assert [value] != plain.loglikelihood(asked("loglikelihood", ("To pack", "ed")))
    rolling = asked("loglikelihood_rolling", ("To pack",))
    assert starting.loglikelihood_rolling(rolling) == plain.loglikelihood_rolling(rolling)
    prompt = talkative(runtime, None)
    options = {"until": [], "max_gen_toks": 5}
    (answer,) = starting.generate_until(asked("generate_until", (prompt, options)))
    assert answer == runtime.answer(f"{control}{prompt}", None, generation({"max_new_tokens": 5}))[0]
    # Of a long context, the token at its start and the end count.
    starting.max_length = 8
    long = starting.loglikelihood(asked("loglikelihood", ("zzzz To pack", "ed")))
    assert long == plain.loglikelihood(asked("loglikelihood", (f"{control}o pack", "ed")))


def test_every_rung_sees_the_same_few_shot_examples(runtime, project):
    write_task("shots", more="fewshot_split: test\nnum_fewshot: 2\n")
    prompts: dict[str | None, list] = {}

    class Spy(lm_eval.CapturedModel):
        def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list:
            prompts[self._adapter] = [request.args for request in requests]
            return super().loglikelihood(requests, disable_tqdm)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_eval, "CapturedModel", Spy)
        tasks.run(runtime, named("shots"), ["random"], [])
    assert prompts[None] == prompts["random"]
    assert prompts[None][0][0].count("even?") == 3


def test_a_group_has_its_members(runtime, project):
    write_task("odd")
    Path("data/tasks/both.yaml").write_text("group: both\ntask: [even, odd]\n", encoding="utf-8")
    assert set(tasks.run(runtime, named("both"), [], [])["tasks"]) == {"even", "odd"}


@pytest.mark.parametrize(
    ("data", "more", "sentence"),
    [
        ("data/tasks/missing.jsonl", "", "its data data/tasks/missing.jsonl is not here: put it into data/tasks"),
        ("data/other.jsonl", "", "its data data/other.jsonl is not in data/tasks or prepared, and DVC would"),
        ("data/tasks/even.jsonl", "dataset_path: EleutherAI/even\n", "its data EleutherAI/even is not here"),
        (
            "data/tasks/even.jsonl",
            "dataset_path: data/tasks\ndataset_kwargs: {data_files: data/other.jsonl}\n",
            "its data data/other.jsonl is not in data/tasks",
        ),
        (
            "data/tasks/even.jsonl",
            "dataset_kwargs: {data_files: data/tasks/even.jsonl, data_dir: data}\n",
            "its data data is not in data/tasks",
        ),
        ("even", "dataset_kwargs: {}\n", "its dataset_kwargs name no data_files"),
        ("data/tasks/even.jsonl", "output_type: telepathy\n", "lm-eval cannot load it: Got invalid output_type"),
        ("data/tasks/even.jsonl", "test_split: train\n", "lm-eval cannot load it: "),
        ("data/tasks/even.jsonl", "doc_to_text: '{{missing}}'\n", "lm-eval cannot load it: 'missing' is undefined"),
        (
            "data/tasks/even.jsonl",
            "doc_to_text: '{{question.__class__.__mro__}}'\n",
            "lm-eval cannot load it: access to attribute '__class__' of 'str' object is unsafe",
        ),
        (
            "data/tasks/even.jsonl",
            "metric_list: [{metric: data/metric, aggregation: mean, higher_is_better: true}]\n",
            "but lm-eval itself has no metric data/metric",
        ),
        ("data/tasks/even.jsonl", "unsafe_code: true\n", "runs code that the model writes"),
    ],
)
def test_a_task_that_cannot_run_is_named(project, data, more, sentence):
    Path("data/other.jsonl").touch()
    # Were it looked for, it would run.
    Path("data/metric").mkdir()
    Path("data/metric/metric.py").write_text("raise SystemExit\n", encoding="utf-8")
    # The later of two keys counts.
    write_task("broken", data, more)
    with pytest.raises(UserError) as caught:
        tasks.rehearse(named("broken"), tokenizers.of_bytes())
    assert sentence in str(caught.value)
    assert "evaluate.tasks.names has broken" in str(caught.value)
    assert str(project) not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("question.__class__.__mro__", "access to attribute '__class__' of 'str' object is unsafe"),
        ("question.split('?')[5]", "list object has no element 5"),
        ("1 / 0", "division by zero"),
        ("namesake(question)", "'namesake' is undefined"),
    ],
)
def test_a_template_that_a_later_document_does_not_fit_is_named(runtime, project, template, reason):
    write_task("sly", more=f'doc_to_text: "{{{{ {template} if answer else question }}}}"\n')
    tasks.rehearse(named("sly"), tokenizers.of_bytes())
    with pytest.raises(UserError, match=rf"^evaluate\.tasks: a template cannot be filled in: {re.escape(reason)}"):
        tasks.run(runtime, named("sly"), [], [])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "it takes more than 1 s"),
        ("{{ 9 ** (9 ** 9) }}", "it takes more than 1 s"),
        ("{{ ('a' * 10 ** 10)|length }}", "MemoryError"),
    ],
)
def test_a_template_that_does_not_end_is_ended(project, monkeypatch, template, reason):
    own = apart.Apart(filling.filler, seconds=1)
    monkeypatch.setattr(filling, "FILL", own)
    write_task("endless", more=f'doc_to_text: "{template}"\n')
    with pytest.raises(UserError, match=rf"has endless, but lm-eval cannot load it: {reason}$"):
        tasks.rehearse(named("endless"), tokenizers.of_bytes())
    own.close()


def test_the_project_s_own_task_takes_its_answers_from_the_held_out_lists(project):
    Path("prepared/packing").mkdir(parents=True)
    row = {"prompt": "Oslo in May\n", "completion": '{"days": 4, "weather": "mild", "clothes": {}}<end>'}
    Path("prepared/packing/heldout.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with lm_eval.own_cache():
        task = lm_eval.load({"packing-weather": ROOT / "data/tasks/packing-weather.yaml"})["tasks"]["packing-weather"]
        (document,) = task.test_docs()
    assert task.doc_to_text(document) == 'Oslo in May\n{"days": 4, "weather": "'
    assert task.doc_to_target(document) == "mild"
    assert "mild" in task.doc_to_choice(document)


def test_the_installed_packages_are_those_that_the_pins_name():
    pins = packages.read(ROOT / packages.TASKS)
    packages.check_installed(pins)
    assert not set(pins) & set(packages.read(ROOT / packages.LOCK))
    assert environment.STAGE["HF_HUB_OFFLINE"] == "1"
