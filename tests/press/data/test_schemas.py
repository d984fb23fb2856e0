"""A response schema stands for itself, asks nobody, and takes bounded time."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from press.core.errors import UserError
from press.data import schemas

# Each asks two schemas about the same value, which ask two each, and so on.
DOUBLING = {f"d{index}": {"allOf": [{"$ref": f"#/$defs/d{index + 1}"}] * 2} for index in range(30)} | {"d30": {}}
CHAIN = {f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(3000)} | {"d3000": {}}
ELSEWHERE = "which is not in it: nothing is read from elsewhere, so copy it into $defs"
ITSELF = "a JSON Schema that refers to itself, so that no value could ever be checked against it"
TREE = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}


def nested(levels: int, value: object = None) -> object:
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "reference",
    [
        "http://127.0.0.1:8099/s.json",
        "https://json-schema.org/draft/2020-12/schema",
        "file:///etc/passwd",
        "s.json",
        "#/missing",
        "#missing",
        "#/$defs/true/x",
        "[x",
    ],
)
def test_a_reference_to_what_is_not_in_the_schema_is_refused_wherever_it_stands(reference):
    for keyword in ("$ref", "$dynamicRef"):
        for place in ({keyword: reference}, {"properties": {"a": {"items": {keyword: reference}}}}):
            with pytest.raises(ValueError, match="a JSON Schema that refers to") as caught:
                schemas.check({"$defs": {"true": True}, **place})
            assert str(caught.value) == f"a JSON Schema that refers to {reference!r}, {ELSEWHERE}"


def test_what_a_reference_leads_to_is_a_schema_itself():
    with pytest.raises(ValueError, match="refers to '#/enum/0', which is not a JSON Schema"):
        schemas.check({"enum": ["a"], "$ref": "#/enum/0"})
    with pytest.raises(ValueError, match="refers to '#/mine', which is not a JSON Schema"):
        schemas.check({"mine": {"type": "strin"}, "$ref": "#/mine"})
    with pytest.raises(ValueError, match=r"refers to 'http://x/', which is not in it"):
        schemas.check({"mine": {"$ref": "http://x/"}, "$ref": "#/mine"})


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"anyOf": [{"type": "null"}, {"not": {"$ref": "#"}}]},
        {"if": True, "then": {"$ref": "#"}},
        {"dependentSchemas": {"a": {"$ref": "#"}}},
        {"$dynamicAnchor": "me", "$dynamicRef": "#me"},
        {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    ],
)
def test_a_circle_about_one_value_is_refused(schema):
    with pytest.raises(ValueError, match="refers to itself") as caught:
        schemas.check(schema)
    assert str(caught.value) == ITSELF


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"$defs": DOUBLING, "items": {"$ref": "#/$defs/d0"}}, "schemas about one value, .* but may ask 10000, 32 in"),
        ({"$defs": CHAIN, "$ref": "#/$defs/d0"}, "nested too deeply"),
        ({"$defs": {**CHAIN, "d50": {}}, "$ref": "#/$defs/d0"}, "asks 33 schemas about one value, 33 of them in a row"),
        ({"pattern": "(" * 3000 + ")" * 3000}, "has a pattern that is too large"),
        ({"pattern": "a{99999999999}"}, "has a pattern that is too large"),
    ],
)
def test_what_takes_too_long_or_is_too_deep_is_refused(schema, sentence):
    with pytest.raises(ValueError, match=sentence):
        schemas.check(schema)


def test_a_value_and_a_schema_are_quoted_in_part():
    schema = {"enum": [f"value {number}" for number in range(5000)]}
    schemas.check(schema)
    for value in ("x", "x" * 100_000):
        told = schemas.complaint(value, schema)
        assert told.startswith("breaks the response schema at $: 'x")
        assert told.endswith("'value 4999']")
        assert len(told) < 400
    with pytest.raises(ValueError, match=r"^not a JSON Schema at \$\.type: ") as caught:
        schemas.check({"type": "y" * 100_000})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("draft", ["http://json-schema.org/draft-07/schema#", "urn:mine"])
def test_another_draft_is_refused_since_it_would_be_read_as_this_one(draft):
    for schema in ({"$schema": draft}, {"properties": {"a": {"$schema": draft}}}):
        with pytest.raises(ValueError, match=r"^\$schema is .*, but must be https://json-schema\.org/draft/2020-12"):
            schemas.check(schema)
    schemas.check({"$schema": schemas.DIALECT})


def test_a_schema_that_refers_to_its_parts_and_to_itself_for_parts_of_a_value_is_one():
    named = {
        "$id": "http://example.com/a",
        "$defs": {"b": {"$id": "b", "$anchor": "text", "type": "string"}},
        "properties": {"x": {"$ref": "b"}, "y": {"$ref": "http://example.com/b#text"}},
    }
    for schema in (TREE, named, {}):
        schemas.check(schema)
    assert schemas.complaint({"children": [{"children": []}]}, TREE) is None
    assert schemas.complaint({"children": [{"children": 1}]}, TREE) == (
        "breaks the response schema at $.children[0].children: 1 is not of type 'array'"
    )
    assert schemas.complaint({"y": 1}, named) == "breaks the response schema at $.y: 1 is not of type 'string'"


@pytest.mark.parametrize(
    ("schema", "value", "sentence"),
    [
        ({"multipleOf": 0.5}, 10**400, "has a number that is too large for the response schema"),
        ({"multipleOf": 0.5}, float("inf"), "has a number that is too large for the response schema"),
        ({"items": {"$ref": "#"}}, nested(900), "is nested too deeply for the response schema"),
    ],
)
def test_a_value_that_the_validator_cannot_take_breaks_the_schema(schema, value, sentence):
    schemas.check(schema)
    assert schemas.complaint(value, schema) == sentence


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 50 + "b"),
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 50 + "b": 1}),
        # Twice as long with each level of the value.
        ({"type": "array", "anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}, nested(40, 1)),
    ],
)
def test_an_answer_takes_bounded_time(schema, value, monkeypatch):
    monkeypatch.setattr(schemas, "SECONDS", 0.1)
    schemas.check(schema)
    with pytest.raises(UserError, match=r"^response_schema takes more than 0\.1 s for one answer, .* give it patterns"):
        schemas.complaint(value, schema)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", asked
        serving.shutdown()
        thread.join()


def test_nobody_is_asked_neither_by_the_check_nor_where_a_schema_was_not_checked(server):
    address, asked = server
    schema = {"properties": {"a": {"$ref": f"{address}/s.json"}}}
    with pytest.raises(ValueError, match="nothing is read from elsewhere"):
        schemas.check(schema)
    with pytest.raises(Exception, match="Unresolvable"):
        schemas.complaint({"a": 1}, schema)
    assert asked == []
