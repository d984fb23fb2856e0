"""A connection with a registry of OCI artifacts, by `oras`: its login, its time limits, a sentence for each refusal."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from oras.auth.utils import authHeader, parse_auth_header
from oras.container import Container
from oras.provider import Registry
from requests.adapters import BaseAdapter

from press.core.errors import UserError
from press.model import packaged
from press.release import docker_login

# Seconds to wait for each answer.
ANSWER_SECONDS = 30
# What a registry says that is busy or being restarted, how often it is asked, and the seconds between.
BUSY, TRIES, PAUSE = (429, 502, 503, 504), 3, 1.0
# So a registry answers whoever reads a tag while another one writes it.
WRITTEN, READING = 500, ("GET", "HEAD")
EXPECTED = {"GET": (200, 404), "HEAD": (200, 404), "POST": (202,), "PUT": (201,)}
CHUNK = 1 << 20
# Registries take no larger manifest; a file that is read into memory may have as much.
LARGEST = 4 << 20

Answer = requests.Response


class Body:
    """What is sent: chunks, from the beginning as often as somebody asks for them."""

    def __init__(self, size: int, chunks: Callable[[], Iterator[bytes]]) -> None:
        self._size, self._chunks = size, chunks

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks()


class Session(requests.Session):
    """What goes to a registry: by TLS alone, and the login to nobody else, whatever the registry leads to."""

    def __init__(self, registry: str) -> None:
        super().__init__()
        self.registry = registry
        # Nor does anybody get what ~/.netrc says.
        self.auth = lambda request: request

    def get_adapter(self, url: str) -> BaseAdapter:
        there = urlsplit(url)
        if there.scheme != "https":
            place = f"{there.scheme}://{there.hostname}"
            raise UserError(f"{self.registry} leads to {place}, which is not https: nothing is sent or read there")
        return super().get_adapter(url)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        if not _is_at(self.registry, str(prepared_request.url)):
            prepared_request.headers.pop("Authorization", None)


class Connection(Registry):
    """A repository in a registry, which is asked by HTTPS.

    :param seconds: time limit of each step, which `begin` starts
    :param adapter: of HTTP; the network by default
    """

    def __init__(self, registry: str, repository: str, seconds: float, adapter: BaseAdapter | None = None) -> None:
        super().__init__(registry, tls_verify=os.environ.get("SSL_CERT_FILE") or True)
        self.registry, self.seconds, self.where = registry, seconds, f"{registry}/{repository}"
        # Out of one text, oras takes a first part with a dot for the registry.
        self.container = Container("name", registry)
        self.container.namespace, _, self.container.repository = repository.rpartition("/")
        # No cookies are kept.
        self.session, cookies = Session(registry), self.session.cookies
        self.session.cookies = cookies
        if adapter:
            self.session.mount("https://", adapter)
        self._login = docker_login.find(registry)
        self._authorization: dict[str, str] = {}
        self.begin()

    def begin(self) -> None:
        """Start the time of a step."""
        self._end = time.monotonic() + self.seconds

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: dict | bytes | Body | None = None,
        headers: dict | None = None,
        json: dict | None = None,
        stream: bool = False,
    ) -> Answer:
        """Ask, logging in where the registry wants it and again when it is busy; return an answer that was expected.

        That of oras gives the login to whoever an upload is sent to, keeps a token that has expired, has no time limits
        and sends again whatever failed.
        """
        logged_in, tries = False, 1
        while True:
            answer = self._sent(method, url, data, headers or {})
            if answer.status_code in EXPECTED[method]:
                return answer
            with answer:
                challenged = answer.status_code == 401 and _is_at(self.registry, answer.url)
                if challenged and not logged_in and self._log_in(answer):
                    logged_in = True
                elif _may_pass(method, answer.status_code) and tries < TRIES:
                    time.sleep(PAUSE * tries)
                    tries += 1
                else:
                    raise UserError(self._refused(answer))

    def _get_location(self, r: Answer, container: Container) -> str:
        """Return where an upload goes; that of oras takes what begins otherwise than http for a path."""
        return self._joined(r.url, r.headers.get("Location", ""))

    def _small(self, url: str, **headers: str) -> tuple[Answer, bytes]:
        """Read what is small, if it is there."""
        with self.do_request(url, headers=headers) as answer, self._sentences():
            return answer, self._read(answer)

    def _json(self, url: str, content: bytes) -> dict:
        try:
            parsed = packaged.parse(content.decode())
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            raise UserError(f"{self.registry} answered {url} with what is no JSON object: is it a registry?")
        return parsed

    def _in_time(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield what comes or goes, until the step's time is up."""
        for chunk in chunks:
            self._check_time()
            yield chunk

    def _check_time(self) -> None:
        if time.monotonic() > self._end:
            raise UserError(self._late(self.seconds))

    def _late(self, seconds: float) -> str:
        return f"{self.registry} gave no answer in {seconds:.0f} s: check the network, then run this again"

    def _read(self, answer: Answer) -> bytes:
        """Return the content of an answer, which is small."""
        came = bytearray()
        for chunk in self._in_time(answer.iter_content(CHUNK)):
            came += chunk
            if len(came) > LARGEST:
                asked = urlsplit(answer.url).path
                raise UserError(f"{self.registry} answered {asked} with more than {LARGEST} bytes: is it a registry?")
        return bytes(came)

    def _joined(self, url: str, reference: str) -> str:
        """Return the address to which an answer from `url` refers."""
        with self._sentences():
            return urljoin(url, reference)

    def _sent(self, method: str, url: str, data: dict | bytes | Body | None, headers: dict[str, str]) -> Answer:
        self._check_time()
        # A registry may compare a large file, and put it in its place, before it answers.
        wait = self._end - time.monotonic() if method == "PUT" else ANSWER_SECONDS
        with self._sentences():
            # An upload may be sent elsewhere: whoever that is does not get the login.
            authorization = self._authorization if _is_at(self.registry, url) else {}
            follow = method in READING
            return self._asked(method, url, wait, data=data, headers=headers | authorization, allow_redirects=follow)

    def _asked(self, method: str, url: str, wait: float, allow_redirects: bool = False, **question: Any) -> Answer:
        limits = min(self.seconds, ANSWER_SECONDS), max(min(self.seconds, wait), 0.001)
        settings = {"stream": True, "timeout": limits, "verify": self._tls_verify, "allow_redirects": allow_redirects}
        return self.session.request(method, url, **settings, **question)

    def _log_in(self, answer: Answer) -> bool:
        """Do what a registry asks for with the answer 401; return whether there is a new login to try."""
        challenge, before = answer.headers.get("WWW-Authenticate", ""), self._authorization
        scheme, asked = challenge.partition(" ")[0].lower(), parse_auth_header(challenge)
        if scheme == "bearer" and asked.realm:
            self._authorization = {"Authorization": f"Bearer {self._token(asked)}"}
        elif scheme == "basic" and self._login.password:
            self._authorization = {"Authorization": self._login.basic}
        return self._authorization != before

    def _token(self, asked: authHeader) -> str:
        """Get a token from where a registry says, which lasts for minutes.

        oras knows no refresh tokens, and reads all that comes.
        """
        realm = self._joined(f"https://{self.registry}", asked.realm or "")
        words = {name: value for name, value in (("service", asked.service), ("scope", asked.scope)) if value}
        with self._sentences(), self._asked_for_token(realm, words) as answer:
            if answer.status_code != 200:
                raise UserError(self._refused(answer))
            granted = self._json(realm, self._read(answer))
        token = str(granted.get("token") or granted.get("access_token") or "")
        if not (token.isascii() and token.isprintable()):
            raise UserError(f"{self.registry} gave a token that cannot be sent: is it a registry?")
        return token

    def _asked_for_token(self, realm: str, words: dict[str, str]) -> Answer:
        if refresh := self._login.refresh_token:
            words |= {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": "olive-press"}
            return self._asked("POST", realm, ANSWER_SECONDS, data=words)
        headers = {"Authorization": self._login.basic} if self._login else {}
        return self._asked("GET", realm, ANSWER_SECONDS, params=words, headers=headers)

    def _refused(self, answer: Answer) -> str:
        """Say what a registry answered that was not expected."""
        reason = self._reason(answer)
        if answer.status_code in (401, 403) and not self._login:
            return (
                f"{self.registry} asks who you are{reason}: `docker login {self.registry}`, or set "
                f"{docker_login.USERNAME} and {docker_login.PASSWORD}"
            )
        if answer.status_code in (401, 403):
            verb = "read" if answer.request.method in ("GET", "HEAD") else "write"
            return f"{self.registry} does not let you {verb} {self.where}{reason}: log in as somebody who may"
        call = f"{answer.request.method} {urlsplit(answer.url).path}"
        return f"{self.where} answered {call} with {answer.status_code}{reason}: run this again, or ask who runs it"

    def _reason(self, answer: Answer) -> str:
        """Return the registry's own sentence, in brackets."""
        try:
            with self._sentences():
                content = self._read(answer)
            (error, *_) = json.loads(content)["errors"]
            words = " ".join(str(error.get("message") or error["code"]).split())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return ""
        return f" ({packaged.shown(words)})"

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            # The last one is Python's word for an address or a host's name that is none, such as a..b.
            cause = getattr(error.args[0], "reason", error) if error.args else error
            reason = " ".join(str(cause).split()) or type(error).__name__
            if isinstance(error, requests.Timeout) or "timed out" in reason:
                raise UserError(self._late(min(self.seconds, ANSWER_SECONDS))) from error
            mend = "let SSL_CERT_FILE name a file with the certificate of its CA, if you trust it"
            advice = mend if "CERTIFICATE" in reason.upper() else "check the network, then run this again"
            raise UserError(f"{self.registry} could not be asked: {reason}; {advice}") from error


def _is_at(registry: str, url: str) -> bool:
    return urlsplit(url.lower())[:2] == ("https", registry.lower())


def _may_pass(method: str, status: int) -> bool:
    """Whether the same request may be answered otherwise in a moment, and may be sent again."""
    return status in BUSY or (status == WRITTEN and method in READING)
