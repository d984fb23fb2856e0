"""What the blocks about the release refuse; test_distribution.py has the registries' names."""

import pytest
from parameters import GIVEN
from pydantic import ValidationError

from press.release.settings import Publish


@pytest.mark.parametrize("supplier", ["", "A", "Contoso Söhne, Ltd. <press@example.com>", "名" * 200])
def test_a_supplier_is_a_name_in_a_line(supplier):
    assert Publish(**GIVEN["publish"] | {"supplier": supplier}).supplier == supplier


@pytest.mark.parametrize(
    "supplier",
    [
        *(" A", "A ", "\u00a0", "A\n", "A\nB", "A\tB", "A\x00B", "A\x1b[2J", "A\u2028B", "A\u202eB", "A\ud800B"),
        *("A" * 201, None, 5, ["A"], {"name": "A"}, True),
    ],
)
def test_what_is_no_name_is_no_supplier(supplier):
    with pytest.raises(ValidationError, match="supplier"):
        Publish(**GIVEN["publish"] | {"supplier": supplier})
