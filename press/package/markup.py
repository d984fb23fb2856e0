"""Templates that lie beside the code that fills them."""

from jinja2 import Environment, PackageLoader, StrictUndefined

# Where there is no figure.
MISSING = "–"


def environment(package: str, *, autoescape: bool) -> Environment:
    """Return what renders a package's own templates: a name that a template is not given is an error.

    The filter `fixed(digits)` writes a number, or that there is none (None); `signed` writes what a step costs.
    """
    jinja = Environment(
        loader=PackageLoader(package, "."),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "fixed": lambda number, digits: MISSING if number is None else f"{number:.{digits}f}",
        "signed": lambda number: f"{number:+.4f}",
    }
    return jinja
