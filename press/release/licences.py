"""The licences of what a release is made of, and whether params.yaml allows them."""

from fnmatch import fnmatch
from functools import cache
from typing import Any

from press.core import paths
from press.core.errors import UserError
from press.package import origin
from press.params import schema
from press.release.settings import Licences


def of_base(inputs: dict) -> str | None:
    """Return the licence of the base model as the hub spells it, or None if nobody names one.

    Of several, all hold; one that is none of the hub's has the name that its card gives it.

    :param inputs: of a package's manifest
    """
    known = origin.known(schema.Base.model_validate(inputs["params"]["base"]), paths.BASE)
    named, own = known.get("license"), known.get("license_name")
    names = named if isinstance(named, list) else [named] if named else []
    names = [own if each == origin.OTHER and isinstance(own, str) else each for each in names]
    return " AND ".join(f"({each})" if len(names) > 1 and " " in each else each for each in names) or None


def of_data(path: str, licences: Licences) -> str | None:
    """Return the licence of a data set by the first pattern of `licences.data` that its path matches, or None."""
    return next((licence for pattern, licence in licences.data.items() if fnmatch(path, pattern)), None)


def check(inputs: dict, licences: Licences) -> None:
    """Refuse a package whose base model or data have a licence that is not allowed, or none.

    :param inputs: of the package's manifest
    :raises UserError: naming each of them, with what would be right
    """
    where = "base.package.license in params.yaml, or `license` in the front matter of the checkpoint's README.md"
    entries = [("the base model", of_base(inputs), where)]
    entries += [(path, of_data(path, licences), "licences.data in params.yaml") for path in inputs["data_sha256"]]
    wrong = [
        f"{what} has no licence (name it: {where})"
        if not licence
        else f"the licence of {what}, {licence}, is not in licences.allow of params.yaml"
        for what, licence, where in entries
        if not licence or not is_allowed(licence, licences)
    ]
    if wrong:
        raise UserError(f"{'; '.join(wrong)}: nothing is released or published until that is settled")


def is_allowed(licence: str, licences: Licences) -> bool:
    """Return whether a licence is among those that are allowed, however its letters are cased.

    Of an SPDX expression, one side of each OR and both of each AND must be; an exception (WITH) of SPDX's only permits
    more, while any other may be a restriction.

    :param licence: an SPDX expression, or other words, which are allowed as they stand
    """
    allowed, expression = {each.casefold() for each in licences.allow}, _parsed(licence)
    return licence.casefold() in allowed or (expression is not None and _holds(expression, allowed))


def spdx_expression(licence: str) -> str | None:
    """Return a licence as SPDX spells it, or None if it is no expression of SPDX's identifiers."""
    expression = _parsed(licence)
    known = expression is not None and not _licensing().unknown_license_keys(expression)
    return str(expression) if known else None


def _parsed(licence: str) -> Any:
    """Return an expression of licences, whose names may be none of SPDX's, or None if it is none."""
    from license_expression import ExpressionError

    try:
        return _licensing().parse(licence)
    except (ExpressionError, IndexError):
        # "()" is an IndexError of the library's.
        return None


@cache
def _licensing() -> Any:
    """Return SPDX's list of licences, which takes 0.1 s to build."""
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


def _holds(expression: Any, allowed: set[str]) -> bool:
    from license_expression import AND, OR, LicenseWithExceptionSymbol

    match expression:
        case AND():
            return all(_holds(each, allowed) for each in expression.args)
        case OR():
            return any(_holds(each, allowed) for each in expression.args)
        case LicenseWithExceptionSymbol():
            known = expression.exception_symbol.is_exception
            return str(expression).casefold() in allowed or (known and _holds(expression.license_symbol, allowed))
        case _:
            return str(expression.key).casefold() in allowed
