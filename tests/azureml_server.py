"""Azure for tests: login, an Azure ML registry and blob storage on loopback, under their public host names.

The real SDK talks to it unchanged: `AzureMl.environment` names a proxy that leads each of HOSTS to one local TLS
server and refuses all others, so that nothing leaves the machine, and a CA that makes its clients trust that server.

`routes` says what is answered; a new call is a new row. A test breaks a call by a row in `AzureMl.faults`, which
come first: `azure.faults.append(Route("GET", rf"{DISCOVERY}/.*", lambda azure, request: Reply(503)))`
"""

import base64
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOGIN = "login.microsoftonline.com"
DISCOVERY = "eastus.api.azureml.ms"
DATA_PLANE = "cert-eastus.experiments.azureml.net"
BLOBS = "pressstorage.blob.core.windows.net"
# Of a workspace (azureml_workspace.py): Azure's resource manager, and the storage that Azurite gives.
ARM = "management.azure.com"
STORAGE = "devstoreaccount1.blob.core.windows.net"
# Where an online endpoint is asked.
SCORING = "olive-press.eastus.inference.ml.azure.com"
HOSTS = (LOGIN, DISCOVERY, DATA_PLANE, BLOBS, ARM, STORAGE, SCORING)
SECRET = "the secret that this server takes"


@dataclass(frozen=True)
class Request:
    """What a client asked: `target` is the host and the path, `found` the named parts of its route's pattern."""

    method: str
    target: str
    query: dict[str, str]
    headers: Message
    body: str
    found: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """An answer; it breaks off where a Content-Length in `headers` promises more than `body` holds."""

    status: int = 200
    body: bytes | dict = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """A call: patterns for its method and for its host and path, and what answers it."""

    method: str
    target: str
    answer: Callable[["AzureMl", Request], Reply]


def login(azure: "AzureMl", request: Request) -> Reply:
    base = f"https://{LOGIN}/{request.found['tenant']}/oauth2/v2.0"
    return Reply(body={key: f"{base}/{key}" for key in ("issuer", "authorization_endpoint", "token_endpoint")})


def login_aliases(azure: "AzureMl", request: Request) -> Reply:  # asked for only after a refusal
    return Reply(body={"metadata": [{"preferred_network": LOGIN, "preferred_cache": LOGIN, "aliases": [LOGIN]}]})


def token(azure: "AzureMl", request: Request) -> Reply:
    form = dict(parse_qsl(request.body))
    if form["client_secret"] != SECRET:
        return Reply(401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."})
    claims = {"oid": "press", "tid": request.found["tenant"], "aud": form["scope"].removesuffix("/.default")}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({"alg": "none"}, claims)]
    jwt = f"{parts[0]}.{parts[1]}."  # unsigned: nothing after the last dot
    return Reply(body={"token_type": "Bearer", "expires_in": 3600, "access_token": jwt})


def registry(azure: "AzureMl", request: Request) -> Reply:
    if request.found["registry"] not in {key[0] for key in azure.models}:
        return Reply(404)
    group = {"subscriptionId": "11111111-1111-1111-1111-111111111111", "resourceGroup": "press"}
    return Reply(body={**group, "primaryRegionResourceProviderUri": f"https://{DATA_PLANE}/"})


def model_version(azure: "AzureMl", request: Request) -> Reply:
    key = tuple(request.found.values())
    if key not in azure.models:
        return Reply(404)
    uri = f"https://{BLOBS}/{'-'.join(key)}/{azure.models[key].name}"
    identifier = "azureml://registries/{}/models/{}/versions/{}".format(*key)
    return Reply(body={"id": identifier, "name": key[-1], "properties": {"modelUri": uri, "flavors": {}}})


def data_reference(azure: "AzureMl", request: Request) -> Reply:
    uri = f"https://{BLOBS}/{'-'.join(request.found.values())}"
    credential = {"credentialType": "SAS", "sasUri": f"{uri}?sig=signature"}
    return Reply(body={"blobReferenceForConsumption": {"blobUri": uri, "credential": credential}})


def blob_list(azure: "AzureMl", request: Request) -> Reply:
    paths = azure.blobs(request.found["container"])
    names = [name for name in paths if name.startswith(request.query["prefix"])]
    blobs = "".join(f"<Blob><Name>{escape(name)}</Name>{_properties(paths[name])}</Blob>" for name in names)
    text = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
    return Reply(body=text.encode(), headers={"Content-Type": "application/xml"})


def _properties(path: Path) -> str:
    size = f"<Content-Length>{path.stat().st_size}</Content-Length>"
    return f"<Properties>{size}<BlobType>BlockBlob</BlobType></Properties>"


def blob(azure: "AzureMl", request: Request) -> Reply:
    path = azure.blobs(request.found["container"]).get(request.found["blob"])
    if path is None or request.query.get("sig") != "signature":
        return Reply(404 if path is None else 403)
    content = path.read_bytes()
    first, last = map(int, re.findall(r"\d+", request.headers["x-ms-range"]))
    part = content[first : last + 1]
    spread = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
    return Reply(206, part, {"Content-Range": spread, "ETag": '"1"', "x-ms-blob-type": "BlockBlob"})


MANAGED = rf"{DATA_PLANE}/mferp/managementfrontend/subscriptions/[^/]+/resourceGroups/[^/]+/providers/[^/]+"
VERSION = r"(?P<name>[^/]+)/versions/(?P<version>[^/]+)"

ROUTES = (
    Route("GET", rf"{LOGIN}/(?P<tenant>[^/]+)/v2.0/.well-known/openid-configuration", login),
    Route("GET", rf"{LOGIN}/common/discovery/instance", login_aliases),
    Route("POST", rf"{LOGIN}/(?P<tenant>[^/]+)/oauth2/v2.0/token_endpoint", token),
    Route("GET", rf"{DISCOVERY}/registrymanagement/v1.0/registries/(?P<registry>[^/]+)/discovery", registry),
    Route("GET", rf"{MANAGED}/registries/(?P<registry>[^/]+)/models/{VERSION}", model_version),
    Route("POST", rf"{MANAGED}/registries/(?P<registry>[^/]+)/datarefs/{VERSION}", data_reference),
    Route("GET", rf"{BLOBS}/(?P<container>[^/]+)", blob_list),
    Route("GET|HEAD", rf"{BLOBS}/(?P<container>[^/]+)/(?P<blob>.+)", blob),
)


class AzureMl(AbstractContextManager):
    """The running servers; `models` maps (registry, name, version) to the folder with the model's files."""

    routes = ROUTES

    def __init__(self, scratch: Path) -> None:
        self.models: dict[tuple[str, str, str], Path] = {}
        self.faults: list[Route] = []
        self.closed = threading.Event()  # what a fault waits for that keeps its client waiting
        self.unexpected: list[str] = []
        self.certificate = certificate = write_certificate(scratch)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        handler = type("Handler", (_Handler,), {"azure": self})
        self.server, self.proxy = (ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2))
        # The handshake is left to the connection's thread: it must not keep the next connection waiting.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.ports = dict.fromkeys(HOSTS, self.server.server_port)  # a closed port makes a host unreachable
        proxy = f"http://127.0.0.1:{self.proxy.server_port}"
        self.environment = {
            # Python prefers the names in lower case, which the developer's shell may have set.
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), proxy),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
            "REQUESTS_CA_BUNDLE": str(certificate),
            "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
            **dict.fromkeys(("AZURE_TENANT_ID", "AZURE_CLIENT_ID"), "22222222-2222-2222-2222-222222222222"),
            "AZURE_CLIENT_SECRET": SECRET,
            "AZURE_AUTHORITY_HOST": LOGIN,
            "AZUREML_CURRENT_CLOUD": "AzureCloud",
        }
        for server in (self.server, self.proxy):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        for server in (self.server, self.proxy):
            server.shutdown()
            server.server_close()

    def blobs(self, container: str) -> dict[str, Path]:
        """Map the names of a container's blobs to their files."""
        folder = next(folder for key, folder in self.models.items() if "-".join(key) == container)
        return {path.relative_to(folder.parent).as_posix(): path for path in folder.rglob("*") if path.is_file()}

    def reply(self, request: Request) -> Reply:
        """Answer by the first route that fits, faults first; all but the login and blobs answer only with a token."""
        guarded = request.target.startswith((DISCOVERY, DATA_PLANE, ARM))
        if guarded and "Bearer " not in request.headers["Authorization"]:
            return Reply(401)
        for route in (*self.faults, *self.routes):
            if (found := re.fullmatch(route.target, request.target)) and re.fullmatch(route.method, request.method):
                return route.answer(self, replace(request, found=found.groupdict()))
        self.unexpected.append(f"{request.method} {request.target}")
        return Reply(501)


class _Handler(BaseHTTPRequestHandler):
    """Answers Azure's calls on the one server, and CONNECT on the other."""

    def answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        target, query = self.headers["Host"] + url.path, dict(parse_qsl(url.query))
        reply = self.azure.reply(Request(self.command, target, query, self.headers, body))
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        kind = "application/octet-stream" if content is reply.body else "application/json"
        self.send_response(reply.status)
        for header in {"Content-Type": kind, "Content-Length": str(len(content)), **reply.headers}.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 (names of the standard library)

    def do_CONNECT(self) -> None:
        if (host := self.path.removesuffix(":443")) not in self.azure.ports:
            self.azure.unexpected.append(self.path)
            return self.send_error(403)
        try:
            upstream = socket.create_connection(("127.0.0.1", self.azure.ports[host]))
        except ConnectionRefusedError:
            return self.send_error(502)
        with upstream:
            self.send_response(200)
            self.end_headers()
            threading.Thread(target=_pump, args=(self.connection, upstream), daemon=True).start()
            return _pump(upstream, self.connection)

    def log_message(self, *_: object) -> None:
        """Keep one line a request out of the tests' output."""


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # one side went away, and the other one will notice
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def write_certificate(folder: Path) -> Path:
    """Write a certificate for HOSTS that vouches for itself, with its key; it serves as a CA bundle as well."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=press test CA")
    here = x509.IPAddress(ip_address("127.0.0.1"))
    names = x509.SubjectAlternativeName([here, *(x509.DNSName(host) for host in HOSTS)])
    years = (datetime(year, 1, 1, tzinfo=UTC) for year in (2000, 2100))
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), *years)
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem, path = serialization.Encoding.PEM, folder / "certificate.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(pem) + private)
    return path
