"""Quality gates: what the metrics of a package must satisfy for it to be published.

A gate is one comparison in params.yaml, such as

    packing.onnx.adapter.loss <= 0.9 * packing.onnx.bare.loss

of metrics (by the names that `dvc metrics show` prints), numbers, + - * / and parentheses, with <=, <, >= or >
between its sides. `{adapter}` makes it one gate for each adapter. Metrics are means over inputs, so that a gate that
fails names the inputs whose own figures fail it.
"""

import ast
import operator
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from press.core import nested
from press.core.errors import UserError

# Names with hyphens are adapters', so that a minus needs spaces around it. A number is no metric. Neither begins inside
# of a word, nor gives back what it took, so that thousands of letters are read once.
METRIC = re.compile(
    r"(?<![\w.])(?:\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?(?![\w.-])|(?P<name>[A-Za-z0-9][\w-]*+(?:\.[A-Za-z0-9][\w-]*+)++))"
)
# What is left beside them: anything else would be Python's, such as a comment.
OTHER = re.compile(r"[\w.]*[^-+*/()<>= .\d][^-+*/()<>= ]*")
EVERY = "{adapter}"
# What the metrics are about besides the adapters; and, where tasks are named, those.
SUBJECTS = ("bytes", "general", "package")
TASKS = "tasks"
# Characters of a gate, and its parts: metrics, numbers, operators, signs. What reads them calls itself for each.
LONGEST, MOST_PARTS = 1000, 200
SHOWN = 3  # inputs that a failed gate names
COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.LtE: operator.le,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.Gt: operator.gt,
}
ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Result:
    """What became of a gate, and why."""

    gate: str
    passed: bool
    reason: str


def check(gate: str) -> None:
    """Refuse what is no gate.

    :raises UserError: with what is wrong about it
    """
    _parse(gate.replace(EVERY, "adapter"))


def check_subjects(gate: str, adapters: Iterable[str], besides: Iterable[str] = ()) -> None:
    """Refuse a gate, or an expression, about what is not there.

    :param besides: what it may be about besides what every evaluation has
    :raises UserError: naming the metric, and what there is
    """
    names = list(adapters)
    for name in filter(None, METRIC.findall(gate.replace(EVERY, names[0]))):
        subject, _, rest = name.partition(".")
        of_adapter = rest.removeprefix("adapters.").partition(".")[0] if name.startswith("bytes.adapters.") else subject
        if of_adapter not in (*names, *SUBJECTS, *besides):
            raise UserError(
                f"{gate!r}: {name} is about {of_adapter!r}, but there are only the adapters {', '.join(names)}, and "
                f"{', '.join((*SUBJECTS, *besides))}"
            )


def judge(
    gates: Iterable[str], metrics: Mapping, adapters: Iterable[str], cases: Sequence[Mapping] = ()
) -> list[Result]:
    """Judge metrics (nested, as in metrics.json) by gates, each for every adapter if it says so.

    :param cases: single inputs, each with its name as `input` and its own figures by the names of the metrics
    """
    values = nested.flat(metrics)
    names = list(adapters)
    expanded = [
        each for gate in gates for each in ([gate.replace(EVERY, name) for name in names] if EVERY in gate else [gate])
    ]
    return [_judged(gate, values, cases) for gate in expanded]


def value(expression: str, metrics: Mapping) -> float:
    """Return what an expression amounts to: a side of a gate, with at least one metric.

    :param metrics: nested, as in metrics.json
    :raises UserError: if it is none, names a metric that is not there, or divides by zero
    """
    try:
        comparison, names = _parse(f"{expression} <= 0")
    except UserError as error:
        raise UserError(
            f"{expression!r} must be metrics, such as package.bytes, and numbers, with + - * / and parentheses"
        ) from error
    try:
        return _sides(comparison, names, _present(expression, names, metrics))[0]
    except ZeroDivisionError as error:
        raise UserError(f"{expression!r} divides by zero") from error


def excess(gate: str, metrics: Mapping) -> float:
    """Return by how much metrics miss a gate, as a share of its larger side: 0 or less if they satisfy it (or, if it
    compares by < or >, are equal).

    :raises UserError: if it names a metric that is not there
    :raises ZeroDivisionError: if it divides by zero
    """
    comparison, names = _parse(gate)
    left, right = _sides(comparison, names, _present(gate, names, metrics))
    too_much = left - right if isinstance(comparison.ops[0], ast.LtE | ast.Lt) else right - left
    return too_much / (max(abs(left), abs(right)) or 1.0)


def _present(text: str, names: dict[str, str], metrics: Mapping) -> dict[str, float]:
    values = nested.flat(metrics)
    missing = sorted({name for name in names.values() if name not in values})
    if missing:
        raise UserError(f"{text!r}: there is no metric {' or '.join(missing)}, only {', '.join(values)}")
    return values


def _judged(gate: str, values: dict[str, float], cases: Sequence[Mapping]) -> Result:
    comparison, metrics = _parse(gate)
    missing = [name for name in metrics.values() if name not in values]
    if missing:
        return Result(gate, False, f"there is no metric {' or '.join(sorted(set(missing)))}")
    try:
        left, right = _sides(comparison, metrics, values)
    except ZeroDivisionError:
        return Result(gate, False, "it divides by zero")
    reason = f"{left:.6g} against {right:.6g}"
    if _compare(comparison)(left, right):
        return Result(gate, True, reason)
    reason += f", {abs(left - right):.6g} too {'much' if left >= right else 'little'}"
    return Result(gate, False, reason + _worst(comparison, metrics, values, cases))


def _worst(comparison: ast.Compare, metrics: dict[str, str], values: dict[str, float], cases: Sequence[Mapping]) -> str:
    """Name the inputs that fail a gate by themselves, the worst first; none where no input has all of its figures."""
    varying = {name for name in metrics.values() if any(name in case for case in cases)}
    failed = []
    for case in (case for case in cases if varying and varying <= case.keys()):
        try:
            left, right = _sides(comparison, metrics, {**values, **{name: case[name] for name in varying}})
        except ZeroDivisionError:
            continue
        if not _compare(comparison)(left, right):
            # A yes or no has no figure.
            plain = all(isinstance(case[name], bool) for name in varying)
            figures = "" if plain else f" ({left:.4g} against {right:.4g})"
            failed.append((abs(left - right), f"{case['input']!r}{figures}"))
    failed.sort(key=lambda each: -each[0])
    shown = ", ".join(text for _, text in failed[:SHOWN])
    more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return f"; on {shown}{more}" if shown else ""


def _compare(comparison: ast.Compare) -> Callable[[float, float], bool]:
    return COMPARISONS[type(comparison.ops[0])]


def _sides(comparison: ast.Compare, metrics: dict[str, str], values: Mapping[str, float]) -> tuple[float, float]:
    bound = {symbol: values[name] for symbol, name in metrics.items()}
    return _value(comparison.left, bound), _value(comparison.comparators[0], bound)


def _parse(gate: str) -> tuple[ast.Compare, dict[str, str]]:
    """Return a gate's comparison, in which symbols stand for metrics, and what each symbol stands for."""
    metrics: dict[str, str] = {}
    if len(gate) > LONGEST:
        raise UserError(
            f"{gate[:40]!r}... has {len(gate)} characters, but a gate may have {LONGEST}: make several of it"
        )

    if other := OTHER.search(METRIC.sub(" ", gate)):
        raise UserError(f"{gate!r} may have metrics, numbers, + - * / and parentheses, but no {other[0]!r}")

    def symbol(match: re.Match) -> str:
        if not match["name"]:
            return match[0]
        metrics[f"metric_{len(metrics)}"] = match[0]
        return f"metric_{len(metrics) - 1}"

    try:
        comparison = ast.parse(METRIC.sub(symbol, gate).strip(), mode="eval").body
    # What is nested too deeply ends in one of the last two.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{gate!r} is not a comparison such as `bytes.captured <= 100e6`") from error
    if sum(1 for _ in ast.walk(comparison)) > MOST_PARTS:
        raise UserError(f"{gate!r} has more than {MOST_PARTS} parts: make several gates of it")
    if not isinstance(comparison, ast.Compare) or len(comparison.ops) != 1:
        raise UserError(f"{gate!r} must be one comparison, such as `bytes.captured <= 100e6`")
    if type(comparison.ops[0]) not in COMPARISONS:
        raise UserError(f"{gate!r} must compare by <=, <, >= or >")
    for side in (comparison.left, *comparison.comparators):
        _check_side(gate, side, metrics)
    if not metrics:
        raise UserError(f"{gate!r} names no metric, such as bytes.captured")
    return comparison, metrics


def _check_side(gate: str, node: ast.expr, metrics: dict[str, str]) -> None:
    match node:
        case ast.BinOp(left, op, right) if type(op) in ARITHMETIC:
            _check_side(gate, left, metrics)
            _check_side(gate, right, metrics)
        case ast.UnaryOp(ast.USub(), operand):
            _check_side(gate, operand, metrics)
        case ast.Constant(int() | float()) if not isinstance(node.value, bool):
            if abs(node.value) > sys.float_info.max:
                raise UserError(f"{gate!r} has a number that is too large")
        case ast.Name(name) if name in metrics:
            pass
        case _:
            part = re.sub(r"metric_\d+", lambda match: metrics.get(match[0], match[0]), ast.unparse(node))
            raise UserError(f"{gate!r} may have metrics, numbers, + - * / and parentheses, but no {part!r}")


def _value(node: ast.expr, bound: dict[str, float]) -> float:
    match node:
        case ast.BinOp(left, op, right):
            return ARITHMETIC[type(op)](_value(left, bound), _value(right, bound))
        case ast.UnaryOp(_, operand):
            return -_value(operand, bound)
        case ast.Constant(int() | float() as number):
            return float(number)
        case ast.Name(name):
            return bound[name]
    raise TypeError(f"{ast.unparse(node)} is no part of a gate: _check_side lets none pass")
