"""Templates of lm-eval's tasks, filled in on text alone, in a process that is ended where a template does not end."""

from collections.abc import Callable
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import TemplateRuntimeError
from jinja2.sandbox import SandboxedEnvironment

from press.core.apart import Apart, ApartError

# For one text of one document.
SECONDS = 10


class Template:
    """A template, read when it is filled in."""

    def __init__(self, source: str) -> None:
        self._source = source

    def render(self, **values: Any) -> str:
        """Return the text.

        :raises TemplateRuntimeError: if the template does not fit the values, crashes or takes too long
        """
        try:
            return FILL(self._source, values)
        except ApartError as error:
            raise TemplateRuntimeError(str(error)) from error


class Environment:
    """What lm-eval asks of a Jinja environment."""

    def from_string(self, source: str) -> Template:
        """Return a template."""
        return Template(source)


def filler() -> Callable[[str, dict[str, Any]], str]:
    """Return what fills templates in."""
    from lm_eval.utils import regex_replace

    sandbox = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    sandbox.filters["regex_replace"] = regex_replace

    def fill(source: str, values: dict[str, Any]) -> str:
        try:
            return sandbox.from_string(source).render(**values)
        except Exception as error:
            # Jinja lets through what Python raises, such as ZeroDivisionError and RecursionError.
            raise ApartError(str(error) or type(error).__name__) from error

    return fill


FILL = Apart(filler, seconds=SECONDS)
