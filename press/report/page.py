"""The two forms of a report: templates, and what they need of text that may hold anything."""

import html
import re
from collections.abc import Mapping
from importlib import resources

from jinja2 import Environment
from pydantic import ValidationError

from press.core.errors import UserError
from press.package import card, markup, origin
from press.params import schema
from press.report import changes, charts, dag, figures, looks, vega
from press.report.changes import Change, Source, State
from press.report.inputs import Inputs

# How the states of a stage are drawn: by a sign as well as by a colour.
SIGNS = {
    State.UNCHANGED: ("unchanged", ""),
    State.SAME: ("same", "↻"),
    State.CHANGED: ("changed", "●"),
    State.NEW: ("changed", "＋"),
    State.MISSING: ("missing", "?"),
    State.REMOVED: ("missing", "−"),
}
# What Markdown would take for more than text.
MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~$&])")
# Libraries that make the bytes; the rest is in reports/environment.
LIBRARIES = ("torch", "transformers", "peft", "olive-ai", "onnxruntime", "onnxruntime-genai", "onnx", "safetensors")
BLOCKS = 24


def context(inputs: Inputs, source: Source, needs: Mapping[str, set[str]], changed: list[Change]) -> dict:
    """Return what both templates tell, from the verdict to the provenance."""
    evaluate, package = (f"{stage}@{inputs.target}" for stage in ("evaluate", "package"))
    return {
        "inputs": inputs,
        "figures": figures,
        "source": source,
        "changes": changed,
        "counts": {state: [one for one in changed if one.state is state] for state in State},
        "State": State,
        "SIGNS": SIGNS,
        "METHODS": card.METHODS,
        "needs": dag.reduced(needs),
        "drawing": dag.draw(needs),
        "box": dag,
        "gates": inputs.gates,
        "failed": [gate for gate in inputs.gates if not gate["passed"]],
        "base_model": _base_model(inputs),
        "libraries": {name: inputs.libraries[name] for name in LIBRARIES if name in inputs.libraries},
        "locked": changes.output(package, f"packages/{inputs.target}"),
        "looks": {name: looks.of(inputs, name) for name in inputs.adapters},
        "rejects": {name: looks.rejects(name) for name in inputs.adapters},
        "current": changes.agree(evaluate, package),
    }


def _base_model(inputs: Inputs) -> str:
    try:
        return origin.source(schema.Base.model_validate(inputs.params["base"]))
    except ValidationError as error:
        raise UserError(
            f"packages/{inputs.target} was built by another version of the project: build it again with `dvc repro`"
        ) from error


def render_html(told: dict) -> str:
    """Return the report as one HTML page that refers to nothing outside of itself and runs no script."""
    environment = _environment(autoescape=True)
    style = resources.files("press.report").joinpath("style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(**told, charts=charts, style=vega.palette() + style)


def render_markdown(told: dict) -> str:
    """Return the report as GitHub's Markdown."""
    environment = _environment(autoescape=False)
    environment.filters |= {"plain": plain, "cell": cell, "code": code, "bar": bar}
    text = environment.get_template("page.md.j2").render(**told)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def plain(text: object) -> str:
    """Return text so that Markdown shows it as it is, on one line."""
    return MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def cell(text: object) -> str:
    """Return text as code in a cell of an HTML table within Markdown: nothing in it has a meaning, lines stay lines."""
    lines = "<br>".join(html.escape(line) for line in str(text).splitlines())
    return f"<code>{lines}</code>" if lines else "<em>no text</em>"


def code(text: object) -> str:
    """Return a line as code, also in a cell of a table."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", r"\|") + "`"


def bar(count: float, most: float) -> str:
    """Return a bar of blocks, `BLOCKS` long for the most."""
    return "█" * max(round(BLOCKS * count / most), 1 if count else 0)


def _environment(*, autoescape: bool) -> Environment:
    environment = markup.environment("press.report", autoescape=autoescape)
    environment.filters |= {
        "size": figures.size,
        "share": figures.share,
        "scaled": lambda number, factor: markup.MISSING if number is None else f"{number * factor:.1f}",
    }
    return environment
