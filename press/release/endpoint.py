"""A managed online endpoint of Azure ML that serves a published version, by the SDK azure-ai-ml, blue and green.

A deployment is the image of deploy/Dockerfile with the version mounted into it. A new one takes the colour that has no
traffic, and gets all of it once it has answered a question. The other one stays without traffic, to go back to, until
the next version takes its place.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from press.core.errors import UserError
from press.release import bounded
from press.release.azureml import DIGEST, AzuremlRegistry, where, workspace
from press.release.package import Package
from press.release.settings import Azureml

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

COLOURS = ("blue", "green")
MOUNT, PORT = "/package", 8000
SCORING, READY, ALIVE = "/v1/chat/completions", "/ready", "/health"
QUESTION = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
IMAGE = "image"


class OnlineEndpoint:
    """The endpoint that params.yaml names, in the workspace that it or the environment names.

    :param seconds: time limit of each step
    """

    def __init__(self, params: Azureml, seconds: float) -> None:
        self._registry = AzuremlRegistry(params, seconds)
        self.params = self._registry.params
        self._seconds = seconds
        self._process = bounded.Process(f"Azure ML ({where(self.params)})")

    def deploy(self, released: Package) -> str:
        """Serve a release that is published, and return the address that it is served at.

        :raises UserError: if it is not published, or does not answer; then the traffic stays where it was
        """
        name = self.params.endpoint.name
        if not self.params.endpoint.image:
            raise UserError(
                "publish.azureml.endpoint.image is empty: build the image of deploy/Dockerfile, push it to a registry "
                "that the workspace may read, and name it with its digest"
            )
        self._check_published(released)
        tags = {DIGEST: released.digest, IMAGE: self.params.endpoint.image}
        live = self._ask(_live)
        if live and self._ask(_tags, live) == tags:
            print(f"{name}: {live} serves version {self.params.version} already")
            return self._ask(_address)
        new = next(colour for colour in COLOURS if colour != live)
        print(f"{name}: {new} is made for version {self.params.version}, which takes minutes", flush=True)
        try:
            self._ask(_make, new, tags)
            self._ask(_check_answer, new)
        except UserError as error:
            self._ask(_remove, new)
            kept = f"{live} keeps the traffic" if live else "nothing is served"
            raise UserError(f"{new} of {name} was not given the traffic ({error}), and {kept}") from error
        self._ask(_give_traffic, new)
        print(f"{name}: {new} has all traffic" + (f"; {live} stays without, to go back to" if live else ""))
        return self._ask(_address)

    def undeploy(self) -> None:
        """Take the endpoint away with all of its deployments.

        :raises UserError: if there is none
        """
        self._ask(_delete)

    def _check_published(self, released: Package) -> None:
        version = self.params.version
        published = next((each for each in self._registry.versions() if each.version == version), None)
        if not published or not published.whole or published.digest != released.digest:
            state = "not published" if not published else "another package, or its publication did not end"
            raise UserError(f"version {version} of {self.params.name} is {state}: `make publish` it there first")

    def _ask(self, function: Callable[[Azureml, *Arguments], T], *arguments: *Arguments) -> T:
        return self._process.call(function, self.params, *arguments, seconds=self._seconds)


def _live(params: Azureml) -> str | None:
    """Return the colour that has the traffic; make the endpoint if there is none."""
    from azure.ai.ml.entities import ManagedOnlineEndpoint
    from azure.core.exceptions import ResourceNotFoundError

    with workspace(params) as client:
        try:
            endpoint = client.online_endpoints.get(params.endpoint.name)
        except ResourceNotFoundError:
            # A workspace that does not exist is a mistake; an endpoint that does not exist is made.
            client.workspaces.get(params.workspace)
            made = ManagedOnlineEndpoint(name=params.endpoint.name, auth_mode="key")
            client.online_endpoints.begin_create_or_update(made).result()
            return None
        return _with_traffic(getattr(endpoint, "traffic", None) or {})


def _with_traffic(traffic: dict[str, int]) -> str | None:
    """Return the colour that has the traffic, if one has.

    :raises UserError: if somebody parted it, so that a new version would take the place of one that is asked
    """
    colours = sorted(name for name, share in traffic.items() if share)
    if len(colours) > 1:
        raise UserError(f"the traffic is parted between {' and '.join(colours)}: give one of them all of it first")
    return colours[0] if colours else None


def _tags(params: Azureml, colour: str) -> dict[str, str]:
    with workspace(params) as client:
        return client.online_deployments.get(colour, params.endpoint.name).tags or {}


def _make(params: Azureml, colour: str, tags: dict[str, str]) -> None:
    from azure.ai.ml.entities import Environment, ManagedOnlineDeployment

    def route(path: str) -> dict[str, Any]:
        return {"path": path, "port": PORT}

    routes = {"liveness_route": route(ALIVE), "readiness_route": route(READY), "scoring_route": route(SCORING)}
    deployment = ManagedOnlineDeployment(
        name=colour,
        endpoint_name=params.endpoint.name,
        model=f"azureml:{params.name}:{params.version}",
        model_mount_path=MOUNT,
        environment=Environment(image=params.endpoint.image, inference_config=routes),
        # Azure ML puts a model's folder there, and checks the key of who asks.
        environment_variables={
            "OLIVE_PRESS_PACKAGE": f"{MOUNT}/{params.name}/{params.version}/{params.name}",
            "OLIVE_PRESS_BEHIND_GATEWAY": "1",
        },
        instance_type=params.endpoint.instance_type,
        instance_count=params.endpoint.instances,
        tags=tags,
    )
    with workspace(params) as client:
        client.online_deployments.begin_create_or_update(deployment).result()


def _check_answer(params: Azureml, colour: str) -> None:
    """Ask a deployment past the traffic's rules.

    :raises UserError: if it does not answer as the server does
    """
    from azure.ai.ml.exceptions import MlException

    with workspace(params) as client, tempfile.TemporaryDirectory() as scratch:
        question = Path(scratch) / "question.json"
        question.write_text(json.dumps(QUESTION), encoding="utf-8")
        try:
            answer = client.online_endpoints.invoke(
                params.endpoint.name, request_file=str(question), deployment_name=colour
            )
        except MlException as error:
            # The SDK keeps to itself what was answered.
            raise UserError("it refused a question (`az ml online-deployment get-logs` says why)") from error
    if not _is_completion(answer):
        raise UserError("it answered a question, but not as a chat completion")


def _is_completion(answer: str) -> bool:
    try:
        return bool(json.loads(answer)["choices"])
    except (KeyError, TypeError, ValueError):
        return False


def _give_traffic(params: Azureml, colour: str) -> None:
    with workspace(params) as client:
        endpoint = client.online_endpoints.get(params.endpoint.name)
        endpoint.traffic = {colour: 100}
        client.online_endpoints.begin_create_or_update(endpoint).result()


def _remove(params: Azureml, colour: str) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    with workspace(params) as client:
        try:
            client.online_deployments.begin_delete(colour, params.endpoint.name).result()
        except ResourceNotFoundError:
            return


def _delete(params: Azureml) -> None:
    with workspace(params) as client:
        client.online_endpoints.get(params.endpoint.name)
        client.online_endpoints.begin_delete(params.endpoint.name).result()


def _address(params: Azureml) -> str:
    with workspace(params) as client:
        return str(client.online_endpoints.get(params.endpoint.name).scoring_uri)
