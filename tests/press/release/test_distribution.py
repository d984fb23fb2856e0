"""Logins, answers and limits of a registry of OCI artifacts (press/release/connection.py too); test_oci.py asks one."""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from pydantic import ValidationError

from press.core import shell
from press.core.errors import UserError
from press.release import connection, distribution, docker_login
from press.release.distribution import Repository
from press.release.settings import Oci

from .memory_registry import Adapter

DIGEST = "sha256:" + "0" * 64
HOST, NAME = "registry.example.com", "owner/press"
SECRET = "a secret of the tests"
CHALLENGE = f'Bearer realm="https://login.example.com/token",service="{HOST}",scope="repository:{NAME}:pull"'
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user that the environment names, no pauses, and nothing of the developer's own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("OCI_USERNAME", "somebody")
    monkeypatch.setenv("OCI_PASSWORD", SECRET)
    monkeypatch.setattr(connection, "PAUSE", 0)


def asking(answer: Answer, seconds: float = 60) -> Repository:
    return Repository(HOST, NAME, seconds, Adapter(answer))


class Tokens:
    """A registry whose tokens each hold for a number of requests.

    :param lasting: how many
    """

    def __init__(self, lasting: int) -> None:
        self.lasting, self.given, self.left = lasting, 0, 0
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        if request.url.host == "login.example.com":
            self.given, self.left = self.given + 1, self.lasting
            return httpx2.Response(200, json={"token": f"token{self.given}"})
        if request.headers.get("Authorization") != f"Bearer token{self.given}" or not self.left:
            return httpx2.Response(401, headers={"WWW-Authenticate": CHALLENGE})
        self.left -= 1
        return httpx2.Response(200, json={"tags": ["0.1.0"]})


def test_a_token_is_asked_for_with_the_password_and_again_when_it_has_expired():
    registry = Tokens(lasting=2)
    place = asking(registry)
    assert [place.tags() for _ in range(5)] == [["0.1.0"]] * 5
    assert registry.given == 3
    logins = [request for request in registry.asked if request.url.host == "login.example.com"]
    assert dict(logins[0].url.params) == {"service": HOST, "scope": f"repository:{NAME}:pull"}
    basic = base64.b64encode(f"somebody:{SECRET}".encode()).decode()
    assert {request.headers["Authorization"] for request in logins} == {f"Basic {basic}"}
    assert not any(basic in str(request.headers) for request in registry.asked if request.url.host == HOST)


def test_a_repository_with_a_dot_is_no_host():
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(404)

    Repository(HOST, "example.org/press", 60, Adapter(answer)).has(DIGEST)
    assert asked == [f"https://{HOST}/v2/example.org/press/blobs/{DIGEST}"]


def test_an_upload_begins_anew_with_a_new_token():
    sent, expired = [], True

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal expired
        if request.url.host == "login.example.com":
            return httpx2.Response(200, json={"access_token": "token"})
        if request.method == "POST":
            return httpx2.Response(202, headers={"Location": f"/v2/{NAME}/blobs/uploads/1?state=x&empty="})
        sent.append(request.read())
        # Of an address that is signed, all counts.
        assert (request.url.params["state"], request.url.params["empty"]) == ("x", "")
        assert request.headers["Content-Length"] == "6"
        if expired:
            expired = False
            return httpx2.Response(401, headers={"WWW-Authenticate": CHALLENGE})
        return httpx2.Response(201)

    asking(answer).upload(DIGEST, 6, lambda: iter([b"abc", b"def"]))
    assert sent == [b"abcdef", b"abcdef"]


def test_a_refresh_token_of_docker_s_is_used(monkeypatch, tmp_path):
    monkeypatch.delenv("OCI_PASSWORD")
    auth = base64.b64encode(b"00000000:").decode()
    config = {"auths": {HOST: {"auth": auth, "identitytoken": "the refresh token"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    registry = Tokens(lasting=1)
    asking(registry).tags()
    (login,) = (request for request in registry.asked if request.url.host == "login.example.com")
    form = httpx2.QueryParams(login.read().decode())
    assert (login.method, form["grant_type"], form["refresh_token"]) == ("POST", "refresh_token", "the refresh token")


def test_nobody_else_gets_the_login(monkeypatch, tmp_path):
    """A registry may keep its blobs, and take uploads, at another host."""
    (tmp_path / "netrc").write_text("default login somebody password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    elsewhere = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host != HOST:
            elsewhere.append(request)
            return httpx2.Response(201 if request.method == "PUT" else 200, content=b"abc")
        if "Authorization" not in request.headers:
            return httpx2.Response(401, headers={"WWW-Authenticate": 'Basic realm="https://e.example.com"'})
        place = {"Location": "https://storage.example.com/1"}
        return httpx2.Response(202 if request.method == "POST" else 307, headers=place)

    place = asking(answer)
    place.upload(DIGEST, 3, lambda: iter([b"abc"]))
    assert place.download(distribution.descriptor("application/x", b"abc"), lambda _: None)
    assert [request.method for request in elsewhere] == ["PUT", "GET"]
    assert not any("Authorization" in request.headers for request in elsewhere)


def leading(headers: dict[str, str], status: int = 307) -> Answer:
    """Answer with headers, and record whoever comes without TLS."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.scheme == "https"
        return httpx2.Response(202 if request.method == "POST" else status, headers=headers)

    return answer


@pytest.mark.parametrize(
    "place", ["http://elsewhere.example.com/1", f"http://{HOST}/1", "ftp://elsewhere.example.com/1"]
)
@pytest.mark.parametrize("how", ["a login", "a redirect", "an upload", "the next page"])
def test_nothing_goes_where_there_is_no_tls(place, how):
    match how:
        case "a login":
            headers, status = {"WWW-Authenticate": f'Bearer realm="{place}"'}, 401
        case "the next page":
            headers, status = {"Link": f'<{place}>; rel="next"'}, 200
        case _:
            headers, status = {"Location": place}, 307
    registry = asking(leading(headers, status))
    if status == 200:
        registry = asking(lambda request: httpx2.Response(200, json={}, headers=leading(headers)(request).headers))
    with pytest.raises(UserError, match=r"leads to (http|ftp)://.*, which is not https: nothing is sent or read there"):
        registry.upload(DIGEST, 1, lambda: iter([b"a"])) if how == "an upload" else registry.tags()


def refusal(status: int) -> Answer:
    return lambda _: httpx2.Response(status, json={"errors": [{"code": "DENIED", "message": "not today"}]})


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            refusal(403),
            r"^registry\.example\.com does not let you read registry.*\(not today\): log in as somebody who",
        ),
        (refusal(500), r"answered GET /v2/owner/press/tags/list with 500 \(not today\): run this again"),
        (refusal(503), r"with 503 \(not today\)"),
        (lambda _: httpx2.Response(200, text="<html>"), "with what is no JSON object: is it a registry"),
        (lambda _: httpx2.Response(200, content=b" " * (connection.LARGEST + 1)), "with more than 4194304 bytes"),
        (lambda _: httpx2.Response(401, headers={"WWW-Authenticate": 'Basic realm="x"'}), "log in as somebody who may"),
    ],
)
def test_what_a_registry_should_not_answer_is_a_sentence(answer, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        asking(answer).tags()
    assert SECRET not in str(caught.value)


NESTED, ENDLESS = b"[" * 100_000, b"x" * (connection.LARGEST + 1)


def challenged(challenge: str, token: bytes = b"{}") -> Answer:
    """Ask for a token by a challenge, and give that one."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "login.example.com":
            return httpx2.Response(200, content=token)
        return httpx2.Response(401, headers={"WWW-Authenticate": challenge})

    return answer


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda _: httpx2.Response(200, content=NESTED), "with what is no JSON object"),
        (lambda _: httpx2.Response(500, content=NESTED), r"with 500: run this again"),
        (lambda _: httpx2.Response(500, content=ENDLESS), "with more than 4194304 bytes"),
        (challenged(CHALLENGE, NESTED), "with what is no JSON object"),
        (challenged(CHALLENGE, ENDLESS), "with more than 4194304 bytes"),
        (challenged(CHALLENGE, '{"token": "€"}'.encode()), "gave a token that cannot be sent"),
        (challenged(CHALLENGE, b'{"token": "a\\nb"}'), "gave a token that cannot be sent"),
        (challenged(CHALLENGE, b'{"token": "\\ud800"}'), "with what is no JSON object"),
        (challenged("Bearer"), "log in as somebody who may"),
        (challenged("Bearer nonsense"), "log in as somebody who may"),
        (challenged("Bearer realm="), "log in as somebody who may"),
        (challenged('Bearer realm="https://["'), "leads to|could not be asked|log in as"),
        (
            lambda _: httpx2.Response(200, json={}, headers={"Link": '</next>; rel="next"'}),
            "with more than 100 pages: is it a",
        ),
        (lambda _: httpx2.Response(200, json={}, headers={"Link": '<http://[>; rel="next"'}), "leads to|could not be"),
        (refusal(403), r"\(not today\)"),
        (lambda _: httpx2.Response(403, json={"errors": [{"message": "a\x1b[2Jb"}]}), r"\('a\\x1b\[2Jb'\)"),
    ],
)
def test_a_hostile_answer_is_a_sentence(answer, sentence):
    with pytest.raises(UserError, match=sentence):
        asking(answer).tags()


@pytest.mark.parametrize(
    "registry", ["a..b", "-a", "a-.b", "a" * 64, "[::1]:5000", "ghcr.io/owner", "h:", "h:123456", "h\n"]
)
def test_what_is_no_host_is_no_registry(registry):
    with pytest.raises(ValidationError):
        Oci(registry=registry, repository="", version="0.1.0")


@pytest.mark.parametrize("registry", ["", "ghcr.io", "a-b.azurecr.io", "localhost:5000", "127.0.0.1:443", "A.b"])
def test_a_host_may_be_a_registry(registry):
    assert Oci(registry=registry, repository="", version="0.1.0").registry == registry


def test_a_place_at_a_host_that_is_none_is_a_sentence():
    def resolve(request: httpx2.Request) -> httpx2.Response:
        if request.url.host != HOST:
            # As socket.getaddrinfo does for it.
            request.url.host.encode("idna")
        return httpx2.Response(307, headers={"Location": "https://a..b/"})

    with pytest.raises(UserError, match=r"could not be asked: .*label empty or too long"):
        asking(resolve).tags()


@pytest.mark.parametrize("place", ["http://[", "//", "https://a b/"])
def test_a_hostile_place_for_an_upload_is_a_sentence(place):
    registry = asking(
        lambda request: httpx2.Response(202 if request.method == "POST" else 400, headers={"Location": place})
    )
    with pytest.raises(UserError):
        registry.upload(DIGEST, 1, lambda: iter([b"a"]))


@pytest.mark.parametrize("tags", [5, "abc", {"a": 1}, [1, None, ["a"]], None])
def test_tags_that_are_none_are_passed_over(tags):
    assert asking(lambda _: httpx2.Response(200, json={"tags": tags})).tags() == []


@pytest.mark.parametrize("size", [0, 3, -1, True, "5", None])
def test_a_small_blob_is_no_larger_than_its_descriptor_says(size):
    registry = asking(lambda _: httpx2.Response(200, content=b"abcde"))
    assert registry.small_blob({"digest": distribution.digest_of(b"abcde"), "size": size}) is None
    assert registry.small_blob({"digest": distribution.digest_of(b"abcde"), "size": 5}) == b"abcde"


@pytest.mark.parametrize("busy", [(429, 503), (500, 500)])
def test_a_busy_registry_is_asked_again(busy):
    """As is one that fails to read what another client writes just then."""
    answers = iter([*busy, 200])
    assert asking(lambda _: httpx2.Response(next(answers), json={"tags": ["1.0.0"]})).tags() == ["1.0.0"]


def test_what_a_registry_failed_to_write_is_not_sent_again():
    answers = iter([500])
    with pytest.raises(UserError, match="with 500"):
        asking(lambda _: httpx2.Response(next(answers))).upload(DIGEST, 1, lambda: iter([b"a"]))


def test_a_long_list_of_tags_comes_in_pages():
    def answer(request: httpx2.Request) -> httpx2.Response:
        if "last" in request.url.params:
            return httpx2.Response(200, json={"tags": ["0.2.0"]})
        link = {"Link": f'</v2/{NAME}/tags/list?n=1&last=0.1.0>; rel="next"'}
        return httpx2.Response(200, json={"tags": ["0.1.0"]}, headers=link)

    assert asking(answer).tags() == ["0.1.0", "0.2.0"]


def test_a_long_list_of_referrers_comes_in_pages():
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["Accept"] == distribution.INDEX
        if "last" in request.url.params:
            return httpx2.Response(200, json={"manifests": [{"digest": "b"}]})
        link = {"Link": f'</v2/{NAME}/referrers/{DIGEST}?last=a>; rel="next"'}
        return httpx2.Response(200, json={"manifests": [{"digest": "a"}, 1]}, headers=link)

    assert asking(answer).referrers(DIGEST) == [{"digest": "a"}, {"digest": "b"}]


def test_a_manifest_is_what_its_digest_says():
    place = asking(lambda _: httpx2.Response(200, json={"a": 1}))
    found = place.manifest("0.1.0")
    assert found
    assert place.manifest(found.digest) == found
    assert place.manifest(DIGEST) is None


def test_a_step_ends_when_its_time_is_up():
    def drip(request: httpx2.Request) -> httpx2.Response:
        place._end = 0
        return httpx2.Response(200, content=iter([b"a", b"b"]))

    place = asking(drip, seconds=7)
    with pytest.raises(UserError, match=r"^registry\.example\.com gave no answer in 7 s"):
        place.download({"digest": DIGEST, "size": 2}, lambda _: None)


def test_a_registry_that_keeps_the_referrers_gets_no_list_and_another_one_does():
    written: list[str] = []

    def keeping(headers: dict[str, str]) -> Answer:
        def answer(request: httpx2.Request) -> httpx2.Response:
            if request.method == "PUT":
                written.append(request.url.path.rpartition("/")[2])
                listed.append(json.loads(request.read()))
                return httpx2.Response(201, headers=headers)
            if "/referrers/" in request.url.path or not listed:
                return httpx2.Response(404 if request.method == "GET" else 200)
            return httpx2.Response(200, json=listed[-1])

        listed: list[dict] = []
        return answer

    subject = distribution.Manifest(b"{}", distribution.digest_of(b"{}"), {})
    asking(keeping({"OCI-Subject": subject.digest})).refer(subject, "application/x", b"x", {})
    assert len(written) == 1
    asking(keeping({})).refer(subject, "application/x", b"x", {})
    assert written[2] == subject.digest.replace(":", "-")


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({}, ("", "")),
        ({"auths": {"other.example.com": {"auth": "YTpi"}}}, ("", "")),
        ({"auths": {HOST: {"auth": "YTpiOmM="}}}, ("a", "b:c")),
        ({"auths": {f"https://{HOST}/v1/": {"auth": "YTpi"}}}, ("a", "b")),
    ],
)
def test_the_login_of_docker_s_config(monkeypatch, tmp_path, config, found):
    monkeypatch.delenv("OCI_PASSWORD")
    (tmp_path / "config.json").write_text(json.dumps(config))
    login = docker_login.find(HOST)
    assert (login.username, login.password) == found
    assert "password" not in repr(login)


def test_a_password_of_the_environment_may_be_no_utf8(monkeypatch):
    monkeypatch.setenv("OCI_PASSWORD", os.fsdecode(b"\xff"))
    assert base64.b64decode(docker_login.find(HOST).basic.removeprefix("Basic ")) == b"somebody:\xff"


@pytest.mark.parametrize("kind", ["credHelpers", "credsStore"])
def test_a_helper_of_docker_s_keeps_the_password(monkeypatch, tmp_path, kind):
    monkeypatch.delenv("OCI_PASSWORD")
    auths = {HOST: {"auth": "YTpi"}}
    config = {kind: {HOST: "x"} if kind == "credHelpers" else "x", "auths": auths}
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = []

    def helper(program: str, _: str, *, given: str, seconds: float) -> shell.Ended:
        asked.append((program, given))
        if len(asked) == 1:
            return shell.Ended(None, "", f"{program} is not installed")
        said = {"Username": "a", "Secret": SECRET}
        return shell.Ended(1 if len(asked) == 2 else 0, json.dumps(said), "")

    monkeypatch.setattr(shell, "run", helper)
    with pytest.raises(UserError, match="docker-credential-x, which docker's config names, does not work here"):
        docker_login.find(HOST)
    # It has none, and then it has one.
    assert [docker_login.find(HOST).password for _ in range(2)] == ["b", SECRET]
    assert set(asked) == {("docker-credential-x", HOST)}


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"registry.example.com": {"auth": "?"}}}'])
def test_a_config_that_cannot_be_read_is_a_sentence_that_does_not_quote_it(monkeypatch, tmp_path, text):
    monkeypatch.delenv("OCI_PASSWORD")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json is no config of docker's that can be read: `docker login"):
        docker_login.find(HOST)
