"""Addresses are told without the secrets that may stand in them."""

import pytest

from press.core.errors import UserError
from press.core.redaction import redacted, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@host/path", "https://host/path"),
        ("https://token@host", "https://host"),
        ("https://user:it's@host/it's?token=secret", "https://host/it's"),
        ("'https://user:p@ss@host:8080/path/'", "'https://host:8080/path/'"),
        ("ssh://git@host/path@v1", "ssh://host/path@v1"),
        ("https://host/path?token=secret", "https://host/path"),
        ("https://host/path?a=1&token=secret#access_token=more", "https://host/path"),
        ("https://host/path#access_token=secret", "https://host/path"),
        (
            "(see https://u:p@host/x?sig=a%2Fb); then try `s3://k:s@bucket/y`.",
            "(see https://host/x); then try `s3://bucket/y`.",
        ),
        ("https://host/x?sig=secret: no such host", "https://host/x: no such host"),
        ("codecommit::region://user:pass@repository", "codecommit::region://repository"),
        ("AccountName=a;AccountKey=c2VjcmV0==;EndpointSuffix=b", "AccountName=a;AccountKey=***;EndpointSuffix=b"),
        ("two https://a:b@c/d and https://e:f@g", "two https://c/d and https://g"),
        ("git@host:path, a@b.org, what? and why#", "git@host:path, a@b.org, what? and why#"),
        ("data/a?b#c@d.jsonl line 1: '^a?(b)#@$' is no https://x, or is it?", None),
        ("azure://container/folder", "azure://container/folder"),
    ],
)
def test_an_address_keeps_its_host_and_path_alone(text, shown):
    shown = shown or text
    assert redacted(text) == shown
    assert redacted(shown) == shown
    assert str(UserError(text)) == shown


@pytest.mark.parametrize("longest", [300, 301])
def test_a_long_text_keeps_as_much_of_both_ends(longest):
    text = "a" * 1000 + "b" * 1000
    assert shortened(text, longest) == "a" * 150 + " [... 1700 more characters ...] " + "b" * 150
    assert shortened(text, len(text)) == text
