"""An Azure ML workspace for tests: the calls of Azure's resource manager that registering a model takes.

Blobs are Azurite's, under the public host name of its one account.
"""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path

import azureml_server as server
from azureml_server import AzureMl, Reply, Request, Route

from .azurite import ACCOUNT, CONTAINER, KEY, Azurite

SUBSCRIPTION, GROUP, WORKSPACE = "11111111-1111-1111-1111-111111111111", "press-group", "press-workspace"
STORE = "workspaceblobstore"
SCORING, ENDPOINT_KEY = server.SCORING, "the endpoint's key"
ID = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    f"/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"
)
# Blobs by their names, and the versions of models.
State = tuple[dict[str, bytes], dict[tuple[str, str], dict]]
EMPTY: State = ({}, {})
# What Azure ML says, and the SDK compares with.
OTHER_PATH = "Asset paths cannot be updated."


def missing(what: str) -> Reply:
    return Reply(404, {"error": {"code": "ResourceNotFound", "message": f"{what} was not found."}})


def workspace(azure: "AzureWorkspace", request: Request) -> Reply:
    return Reply(body={"id": ID, "name": WORKSPACE, "location": "eastus", "properties": {}})


def versions(azure: "AzureWorkspace", request: Request) -> Reply:
    found = [value for (name, _), value in azure.versions.items() if name == request.found["name"]]
    if not found:
        return missing(f"The model container {request.found['name']}")
    newest = sorted(found, key=lambda value: value["systemData"]["createdAt"], reverse=True)
    return Reply(body={"value": newest[: int(request.query.get("$top", len(newest)))]})


def version(azure: "AzureWorkspace", request: Request) -> Reply:
    key = request.found["name"], request.found["version"]
    return Reply(body=azure.versions[key]) if key in azure.versions else missing(f"The model {':'.join(key)}")


def put_version(azure: "AzureWorkspace", request: Request) -> Reply:
    key = request.found["name"], request.found["version"]
    there, properties = azure.versions.get(key), json.loads(request.body)["properties"]
    if there and there["properties"]["modelUri"] != properties["modelUri"]:
        return Reply(400, {"error": {"code": "UserError", "message": OTHER_PATH}})
    now = there["systemData"] if there else {"createdAt": datetime.now(UTC).isoformat(), "createdBy": "press"}
    identifier = f"{ID}/models/{key[0]}/versions/{key[1]}"
    resource = {"id": identifier, "name": key[1], "systemData": now, "properties": {**properties, "flavors": {}}}
    azure.versions[key] = resource
    return Reply(200 if there else 201, resource)


def datastore(azure: "AzureWorkspace", request: Request) -> Reply:
    place = {"accountName": ACCOUNT, "containerName": CONTAINER, "protocol": "https", "endpoint": "core.windows.net"}
    properties = {"datastoreType": "AzureBlob", "credentials": {"credentialsType": "AccountKey"}, **place}
    return Reply(body={"id": f"{ID}/datastores/{STORE}", "name": STORE, "properties": properties})


def secrets(azure: "AzureWorkspace", request: Request) -> Reply:
    return Reply(body={"secretsType": "AccountKey", "key": KEY})


def endpoint(azure: "AzureWorkspace", request: Request) -> Reply:
    name = request.found["endpoint"]
    return Reply(body=azure.endpoints[name]) if name in azure.endpoints else missing(f"The endpoint {name}")


def put_endpoint(azure: "AzureWorkspace", request: Request) -> Reply:
    name, asked = request.found["endpoint"], json.loads(request.body)
    traffic = asked["properties"].get("traffic") or {}
    if wrong := traffic.keys() - azure.deployments.keys():
        return Reply(400, {"error": {"code": "UserError", "message": f"no deployment {min(wrong)}"}})
    uri = f"https://{SCORING}/v1/chat/completions"
    made = {**asked["properties"], "traffic": traffic, "scoringUri": uri, "provisioningState": "Succeeded"}
    resource = {**asked, "id": f"{ID}/onlineEndpoints/{name}", "name": name, "properties": {"properties": {}, **made}}
    azure.endpoints[name] = resource
    azure.traffic.append(dict(traffic))
    return Reply(201, resource)


def delete_endpoint(azure: "AzureWorkspace", request: Request) -> Reply:
    del azure.endpoints[request.found["endpoint"]]
    azure.deployments.clear()
    return Reply(200)


def keys(azure: "AzureWorkspace", request: Request) -> Reply:
    return Reply(body={"primaryKey": ENDPOINT_KEY, "secondaryKey": "other"})


def deployments(azure: "AzureWorkspace", request: Request) -> Reply:
    return Reply(body={"value": list(azure.deployments.values())})


def deployment(azure: "AzureWorkspace", request: Request) -> Reply:
    colour = request.found["deployment"]
    return Reply(body=azure.deployments[colour]) if colour in azure.deployments else missing(f"The deployment {colour}")


def put_deployment(azure: "AzureWorkspace", request: Request) -> Reply:
    colour, asked = request.found["deployment"], json.loads(request.body)
    identifier = f"{ID}/onlineEndpoints/{request.found['endpoint']}/deployments/{colour}"
    made = {"properties": {}, "scaleSettings": {"scaleType": "Default"}, **asked["properties"]}
    made["provisioningState"] = "Succeeded"
    azure.deployments[colour] = {**asked, "id": identifier, "name": colour, "properties": made}
    return Reply(201, azure.deployments[colour])


def delete_deployment(azure: "AzureWorkspace", request: Request) -> Reply:
    azure.deployments.pop(request.found["deployment"], None)
    return Reply(200)


def put_environment(azure: "AzureWorkspace", request: Request) -> Reply:
    name, version = request.found["name"], request.found["version"]
    identifier = f"{ID}/environments/{name}/versions/{version}"
    azure.environments.append(json.loads(request.body)["properties"])
    return Reply(201, {"id": identifier, "name": version, "properties": azure.environments[-1]})


def scored(azure: "AzureWorkspace", request: Request) -> Reply:
    """Answer for the server that a deployment would run."""
    if request.headers["Authorization"] != f"Bearer {ENDPOINT_KEY}":
        return Reply(401)
    azure.asked.append(request.headers["azureml-model-deployment"])
    return Reply(body={"object": "chat.completion", "choices": [{"message": {"content": "hi"}}]})


HERE = rf"{server.ARM}{ID}"
ENDPOINT = rf"{HERE}/onlineEndpoints/(?P<endpoint>[^/]+)"
DEPLOYMENT = rf"{ENDPOINT}/deployments/(?P<deployment>[^/]+)"
ROUTES = (
    Route("GET", ENDPOINT, endpoint),
    Route("PUT", ENDPOINT, put_endpoint),
    Route("DELETE", ENDPOINT, delete_endpoint),
    Route("POST", rf"{ENDPOINT}/listKeys", keys),
    Route("GET", rf"{ENDPOINT}/deployments", deployments),
    Route("GET", DEPLOYMENT, deployment),
    Route("PUT", DEPLOYMENT, put_deployment),
    Route("DELETE", DEPLOYMENT, delete_deployment),
    Route("PUT", rf"{HERE}/environments/{server.VERSION}", put_environment),
    Route("POST", rf"{SCORING}/v1/chat/completions", scored),
    Route("GET", HERE, workspace),
    Route("GET", rf"{HERE}/models/(?P<name>[^/]+)/versions", versions),
    Route("GET", rf"{HERE}/models/{server.VERSION}", version),
    Route("PUT", rf"{HERE}/models/{server.VERSION}", put_version),
    Route("GET", rf"{HERE}/datastores/{STORE}", datastore),
    Route("POST", rf"{HERE}/datastores/{STORE}/listSecrets", secrets),
    Route("GET|POST|PUT", rf"{server.ARM}/.*", lambda azure, request: missing(request.target)),
)


class AzureWorkspace(AzureMl):
    """The running servers; `versions` maps a model's name and version to the resource, as it was put."""

    routes = (*server.ROUTES, *ROUTES)

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self.versions: dict[tuple[str, str], dict] = {}
        # Of online endpoints: those there are, what each is told of its traffic, and which deployments were asked.
        self.endpoints: dict[str, dict] = {}
        self.deployments: dict[str, dict] = {}
        self.environments: list[dict] = []
        self.traffic: list[dict[str, int]] = []
        self.asked: list[str] = []
        self.storage = Azurite(scratch / "azurite", certificate=self.certificate)
        self.ports[server.STORAGE] = self.storage.port
        self._ports = dict(self.ports)
        self.environment |= {
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZURE_RESOURCE_GROUP": GROUP,
            "AZUREML_WORKSPACE_NAME": WORKSPACE,
        }

    def state(self) -> State:
        """Return what the workspace holds."""
        return {name: self.storage.read(name) for name in self.storage.blobs()}, copy.deepcopy(self.versions)

    def restore(self, state: State) -> None:
        """Hold that and nothing else, all servers running and no fault in them."""
        self.faults.clear()
        self.unexpected.clear()
        for held in (self.endpoints, self.deployments, self.environments, self.traffic, self.asked):
            held.clear()
        self.ports.update(self._ports)
        self.storage.go_on()
        blobs, versions = state
        for name in self.storage.blobs():
            self.storage.delete(name)
        for name, content in blobs.items():
            self.storage.container.upload_blob(name, content)
        self.versions = copy.deepcopy(versions)

    def __exit__(self, *details: object) -> None:
        self.storage.__exit__(*details)
        super().__exit__(*details)
