"""A connection with a registry of OCI artifacts: its login, its time limits, and a sentence for each refusal."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.request import parse_http_list, parse_keqv_list

import httpx2

from press.core.errors import UserError
from press.model import packaged
from press.release import docker_login

# Seconds to wait for each answer.
ANSWER_SECONDS = 30
# What a registry says that is busy or being restarted, how often it is asked, and the seconds between.
BUSY, TRIES, PAUSE = (429, 502, 503, 504), 3, 1.0
# So a registry answers whoever reads a tag while another one writes it.
WRITTEN, READING = 500, ("GET", "HEAD")
CHUNK = 1 << 20
# Registries take no larger manifest; a file that is read into memory may have as much.
LARGEST = 4 << 20

Content = Callable[[], bytes | Iterator[bytes]]


@dataclass(frozen=True)
class Answer:
    """What a registry answered, all of it."""

    url: str
    status: int
    headers: httpx2.Headers
    content: bytes
    # The address of the next page of a list.
    next: str


class Connection:
    """A repository in a registry, which is asked by HTTPS.

    :param seconds: time limit of each step, which `begin` starts
    :param transport: of HTTP; the network by default
    """

    def __init__(
        self, registry: str, repository: str, seconds: float, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self.registry, self.name, self.seconds = registry, repository, seconds
        self.where = f"{registry}/{repository}"
        self._origin = httpx2.URL(f"https://{registry}")
        self._login = docker_login.find(registry)
        self._authorization = ""
        hooks = {"request": [self._check_tls]}
        self._client = httpx2.Client(timeout=min(seconds, ANSWER_SECONDS), transport=transport, event_hooks=hooks)
        self.begin()

    def begin(self) -> None:
        """Start the time of a step."""
        self._end = time.monotonic() + self.seconds

    def _json(self, url: object, content: bytes) -> dict:
        try:
            parsed = packaged.parse(content.decode())
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            raise UserError(f"{self.registry} answered {url} with what is no JSON object: is it a registry?")
        return parsed

    def _in_time(self, chunks: bytes | Iterator[bytes]) -> Iterator[bytes]:
        """Yield what comes or goes, until the step's time is up."""
        for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
            self._check_time()
            yield chunk

    def _check_time(self) -> None:
        if time.monotonic() > self._end:
            raise UserError(self._late(self.seconds))

    def _late(self, seconds: float) -> str:
        return f"{self.registry} gave no answer in {seconds:.0f} s: check the network, then run this again"

    def _answer(self, method: str, url: str, *expected: int, content: Content | None = None, **headers: str) -> Answer:
        """Ask and return the whole answer, which is small."""
        with self._streamed(method, url, *expected, content=content, **headers) as answer, self._sentences():
            following = answer.links.get("next", {}).get("url", "")
            return Answer(str(answer.url), answer.status_code, answer.headers, self._read(answer), following)

    def _read(self, answer: httpx2.Response) -> bytes:
        """Return the content of an answer, which is small."""
        came = bytearray()
        for chunk in self._in_time(answer.iter_bytes(CHUNK)):
            came += chunk
            if len(came) > LARGEST:
                asked = answer.request.url.path
                raise UserError(f"{self.registry} answered {asked} with more than {LARGEST} bytes: is it a registry?")
        return bytes(came)

    def _joined(self, url: str, reference: str) -> str:
        """Return the address to which an answer from `url` refers."""
        with self._sentences():
            return str(httpx2.URL(url).join(reference))

    @contextmanager
    def _streamed(
        self, method: str, url: str, *expected: int, content: Content | None = None, **headers: str
    ) -> Iterator[httpx2.Response]:
        """Ask, logging in where the registry wants it and again when it is busy; yield an answer that was expected."""
        logged_in, tries = False, 1
        while True:
            answer = self._sent(method, url, content, headers)
            try:
                challenged = answer.status_code == 401 and self._is_registry(answer.url)
                if challenged and not logged_in and self._log_in(answer):
                    logged_in = True
                elif _may_pass(method, answer.status_code) and tries < TRIES:
                    time.sleep(PAUSE * tries)
                    tries += 1
                elif answer.status_code in expected:
                    yield answer
                    return
                else:
                    raise UserError(self._refused(answer))
            finally:
                answer.close()

    def _sent(self, method: str, url: str, content: Content | None, headers: dict[str, str]) -> httpx2.Response:
        self._check_time()
        # An upload may be sent elsewhere: whoever that is does not get the login.
        if self._authorization and self._is_registry(httpx2.URL(url)):
            headers = {**headers, "Authorization": self._authorization}
        # A registry may compare a large file, and put it in its place, before it answers.
        wait = self._end - time.monotonic() if method == "PUT" else ANSWER_SECONDS
        limit = httpx2.Timeout(min(self.seconds, ANSWER_SECONDS), read=max(min(self.seconds, wait), 0))
        body = content() if content else None
        with self._sentences():
            request = self._client.build_request(method, url, headers=headers, content=body, timeout=limit)
            return self._client.send(request, stream=True, follow_redirects=method in ("GET", "HEAD"))

    def _check_tls(self, request: httpx2.Request) -> None:
        """Refuse to follow a registry to where everybody reads, and may change, what is sent."""
        if request.url.scheme != "https":
            there = f"{request.url.scheme}://{request.url.host}"
            raise UserError(f"{self.registry} leads to {there}, which is not https: nothing is sent or read there")

    def _is_registry(self, url: httpx2.URL) -> bool:
        return (url.scheme, url.host, url.port) == (self._origin.scheme, self._origin.host, self._origin.port)

    def _log_in(self, answer: httpx2.Response) -> bool:
        """Do what a registry asks for with the answer 401; return whether there is a new login to try."""
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        before = self._authorization
        asked = _parameters(rest)
        if scheme.lower() == "bearer" and asked.get("realm"):
            self._authorization = f"Bearer {self._token(asked)}"
        elif scheme.lower() == "basic" and self._login.password:
            self._authorization = self._login.basic
        return self._authorization != before

    def _token(self, asked: dict[str, str]) -> str:
        """Get a token from where a registry says, which lasts for minutes."""
        realm = self._joined(str(self._origin), asked.get("realm", ""))
        words = {name: asked[name] for name in ("service", "scope") if name in asked}
        if self._login.refresh_token:
            form = {**words, "grant_type": "refresh_token", "refresh_token": self._login.refresh_token}
            request = self._client.build_request("POST", realm, data={**form, "client_id": "olive-press"})
        else:
            headers = {"Authorization": self._login.basic} if self._login else {}
            url = httpx2.URL(realm).copy_merge_params(words)
            request = self._client.build_request("GET", url, headers=headers)
        with self._sentences(), closing(self._client.send(request, stream=True)) as answer:
            if answer.status_code != 200:
                raise UserError(self._refused(answer))
            granted = self._json(realm, self._read(answer))
        token = str(granted.get("token") or granted.get("access_token") or "")
        if not (token.isascii() and token.isprintable()):
            raise UserError(f"{self.registry} gave a token that cannot be sent: is it a registry?")
        return token

    def _refused(self, answer: httpx2.Response) -> str:
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
        call = f"{answer.request.method} {answer.request.url.path}"
        return f"{self.where} answered {call} with {answer.status_code}{reason}: run this again, or ask who runs it"

    def _reason(self, answer: httpx2.Response) -> str:
        """Return the registry's own sentence, in brackets."""
        try:
            with self._sentences():
                (error, *_) = json.loads(self._read(answer))["errors"]
            words = " ".join(str(error.get("message") or error["code"]).split())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return ""
        return f" ({packaged.shown(words)})"

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TimeoutException as error:
            raise UserError(self._late(min(self.seconds, ANSWER_SECONDS))) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            # The last one is Python's word for a host's name that is none, such as a..b.
            reason = " ".join(str(error).split()) or type(error).__name__
            mend = "let SSL_CERT_FILE name a file with the certificate of its CA, if you trust it"
            advice = mend if "CERTIFICATE" in reason.upper() else "check the network, then run this again"
            raise UserError(f"{self.registry} could not be asked: {reason}; {advice}") from error


def _may_pass(method: str, status: int) -> bool:
    """Whether the same request may be answered otherwise in a moment, and may be sent again."""
    return status in BUSY or (status == WRITTEN and method in READING)


def _parameters(challenge: str) -> dict[str, str]:
    """Return the parameters of a challenge of the header WWW-Authenticate; none if it is not in that form."""
    try:
        return parse_keqv_list(parse_http_list(challenge))
    except (ValueError, IndexError):
        return {}
