"""Requests of all kinds that a server has to bear: those that are refused are meant to be."""

import json

import pytest

pytest.importorskip("openai", reason="needs `make install-serve`")

from bench import many_requests
from press.serve import wire
from press.serve.errors import RefusedError


def wrong(asked: dict) -> str | None:
    """Return the parameter of a request that is refused."""
    try:
        wire.parse(json.dumps(asked).encode(), wire.ChatRequest)
    except RefusedError as error:
        return error.param
    return None


def test_each_seventh_request_is_of_another_kind_and_one_of_them_is_refused():
    asked = [many_requests.body(number, ["base", "travel"]) for number in range(14)]
    assert [each for each in map(wrong, asked) if each] == ["temperature"] * 2
    assert len({tuple(sorted(each)) for each in asked}) >= 5
