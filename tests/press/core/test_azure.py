import pytest

from press.core import azure

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no quota\nActivity ID: 1", "no quota"),
        # As azure-ai-ml says what is wrong with a job.
        ("\x1b[37m\n\x1b[30m\n\n1) \x1b[31mOne field\x1b[39m is invalid\n", "1) One field is invalid"),
        ("\x1b[37m\n", "ValueError"),
    ],
)
def test_the_first_line_says_something(text, line):
    assert azure.first_line(ValueError(text)) == line
