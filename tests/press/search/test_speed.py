"""What a search measures of a package."""

import pytest

from press.search import speed

pytestmark = pytest.mark.integration


def test_the_speed_of_a_package_is_told_bare_and_of_the_slowest_adapter(built):
    found = speed.measure(built.folder / "packages/cpu", threads=2, rounds=1, tokens=4)
    assert found.keys() == {"decode", "adapter"}
    assert all(value > 0 for value in found.values())
