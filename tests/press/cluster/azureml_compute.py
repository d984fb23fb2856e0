"""An Azure ML workspace for tests that runs command jobs: each in a new folder, as a process of its own.

A job has its inputs, its definition's variables and those of `AzureCompute.machine`, and nothing else of the tests'.
Its log and what it leaves in outputs/ go to the workspace's store, as Azure ML keeps them.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import azureml_server as server
from azure.storage.blob import BlobServiceClient
from azureml_server import Reply, Request, Route

from ..release import azureml_workspace as workspace
from ..release.azureml_workspace import HERE, ID, STORE, AzureWorkspace, missing

ARTIFACTS, ARTIFACTS_CONTAINER = "workspaceartifactstore", "azureml"
IDENTITY = "33333333-3333-3333-3333-333333333333"
SIZES = [
    {"name": "Standard_DS3_v2", "vCPUs": 4, "memoryGB": 14, "gpus": 0},
    {"name": "Standard_NC24ads_A100_v4", "vCPUs": 24, "memoryGB": 220, "gpus": 1},
]


class Execution:
    """A job that was put: as many processes as it asks for machines, each in a folder of its own."""

    def __init__(self, azure: "AzureCompute", name: str, asked: dict) -> None:
        self.name, self.asked, self.status = name, asked, "Queued"
        self._azure = azure
        self._processes: list[subprocess.Popen] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def stage(self) -> str:
        return self.asked["displayName"]

    def resource(self) -> dict:
        default = {"jobOutputType": "uri_folder", "uri": f"azureml://datastores/{ARTIFACTS}/{self._place}"}
        page = {"Studio": {"jobServiceType": "Studio", "endpoint": f"https://ml.azure.com/runs/{self.name}"}}
        made = {**self.asked, "status": self.status, "services": page, "outputs": {"default": default}}
        return {"id": f"{ID}/jobs/{self.name}", "name": self.name, "properties": made}

    def cancel(self) -> None:
        with self._lock:
            self.status = "Canceled"
            self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    @property
    def _place(self) -> str:
        return f"ExperimentRun/dcid.{self.name}"

    def _run(self) -> None:
        nodes = self._nodes()
        folders = [self._azure.folder / self.name / str(rank) for rank in range(len(nodes))]
        with self._lock:
            if self.status == "Canceled":
                return
            self._processes = [self._start(folder, node) for folder, node in zip(folders, nodes, strict=True)]
            self.status = "Running"
        names = [f"process_{rank}" for rank in range(len(nodes))] if len(nodes) > 1 else [""]
        with ThreadPoolExecutor(len(nodes)) as threads:
            codes = list(threads.map(self._follow, self._processes, names))
        for path in (path for folder in folders for path in folder.glob("wd/outputs/*")):
            self._azure.artifacts.upload_blob(f"{self._place}/outputs/{path.name}", path.read_bytes())
        with self._lock:
            if self.status != "Canceled":
                self.status = "Failed" if any(codes) else "Completed"

    def _nodes(self) -> list[dict[str, str]]:
        """Return the variables of each machine: several know each other by those of PyTorch's launcher."""
        count = self.asked["resources"]["instanceCount"]
        if count == 1:
            return [{}]
        assert self.asked["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 1}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count), "LOCAL_RANK": "0"}
        return [{**where, "NODE_RANK": str(rank), "RANK": str(rank)} for rank in range(count)]

    def _start(self, folder: Path, node: dict[str, str]) -> subprocess.Popen:
        command, here = self.asked["command"], folder / "wd"
        here.mkdir(parents=True)
        for name, given in self.asked["inputs"].items():
            command = command.replace(f"${{{{inputs.{name}}}}}", str(self._input(folder, name, given)))
        variables = {**self._azure.machine, **self.asked["environmentVariables"], **node, "HOME": str(folder)}
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=here,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _follow(self, process: subprocess.Popen, name: str) -> int:
        """Keep what a process says, and return its exit code; where one fails, the others are killed."""
        log, place = b"", "_".join(filter(None, [f"{self._place}/user_logs/std_log", name]))
        for line in process.stdout:
            log += line
            self._azure.artifacts.upload_blob(f"{place}.txt", log, overwrite=True)
            if self.stage in self._azure.lost:
                self._azure.lost.remove(self.stage)
                os.killpg(process.pid, signal.SIGKILL)
        if code := process.wait():
            self._kill()
        return code

    def _input(self, folder: Path, name: str, given: dict) -> Path:
        """Download an input, and return where it is."""
        place = re.fullmatch(rf"azureml://datastores/{STORE}/paths/(.+)", given["uri"])[1]
        blobs, folder = self._azure.storage.container, folder / "inputs" / name
        for blob in blobs.list_blob_names(name_starts_with=place):
            path = folder / (blob.removeprefix(place) or Path(place).name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blobs.download_blob(blob).readall())
        return folder if given["jobInputType"] == "uri_folder" else folder / Path(place).name


def put_job(azure: "AzureCompute", request: Request) -> Reply:
    name, asked = request.found["job"], json.loads(request.body)["properties"]
    environment = asked["environmentId"].rpartition("/environments/")[2].replace("/versions/", ":")
    if name in azure.executions or environment not in azure.environment_versions:
        return Reply(400, {"error": {"code": "UserError", "message": f"{name} cannot be, or {environment} is not"}})
    azure.executions[name] = Execution(azure, name, asked)
    return Reply(201, azure.executions[name].resource())


def job(azure: "AzureCompute", request: Request) -> Reply:
    name = request.found["job"]
    return Reply(body=azure.executions[name].resource()) if name in azure.executions else missing(f"The job {name}")


def cancel(azure: "AzureCompute", request: Request) -> Reply:
    execution = azure.executions.get(request.found["job"])
    if not execution:
        return missing(f"The job {request.found['job']}")
    if execution.status not in {"Queued", "Running"}:
        return Reply(400, {"error": {"code": "UserError", "message": "It has ended."}})
    execution.cancel()
    return Reply(202, headers={"Location": f"https://{HERE}/jobs/{execution.name}"})


def environment(azure: "AzureCompute", request: Request) -> Reply:
    name = f"{request.found['name']}:{request.found['version']}"
    there = azure.environment_versions.get(name)
    return Reply(body=there) if there else missing(f"The environment {name}")


def put_environment(azure: "AzureCompute", request: Request) -> Reply:
    reply = workspace.put_environment(azure, request)
    azure.environment_versions[f"{request.found['name']}:{request.found['version']}"] = reply.body
    return reply


def compute(azure: "AzureCompute", request: Request) -> Reply:
    name = request.found["compute"]
    if name not in azure.computes:
        return missing(f"The compute {name}")
    size, priority = azure.computes[name]
    scale = {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT120S"}
    properties = {"vmSize": size, "vmPriority": priority, "scaleSettings": scale, "enableNodePublicIp": True}
    made = {"computeType": "AmlCompute", "provisioningState": "Succeeded", "properties": properties}
    return Reply(body={"id": f"{ID}/computes/{name}", "name": name, "location": "eastus", "properties": made})


def artifact_store(azure: "AzureCompute", request: Request) -> Reply:
    body = json.loads(json.dumps(workspace.datastore(azure, request).body))
    body["properties"]["containerName"] = ARTIFACTS_CONTAINER
    return Reply(body={**body, "id": f"{ID}/datastores/{ARTIFACTS}", "name": ARTIFACTS})


SIZES_PATH = r"/subscriptions/[^/]+/providers/Microsoft.MachineLearningServices/locations/eastus/vmSizes"
ROUTES = (
    Route("PUT", rf"{HERE}/jobs/(?P<job>[^/]+)", put_job),
    Route("GET", rf"{HERE}/jobs/(?P<job>[^/]+)", job),
    Route("POST", rf"{HERE}/jobs/(?P<job>[^/]+)/cancel", cancel),
    Route("GET", rf"{HERE}/environments/{server.VERSION}", environment),
    Route("PUT", rf"{HERE}/environments/{server.VERSION}", put_environment),
    Route("GET", rf"{HERE}/computes/(?P<compute>[^/]+)", compute),
    Route("GET", rf"{server.ARM}{SIZES_PATH}", lambda azure, request: Reply(body={"value": SIZES})),
    Route("GET", rf"{HERE}/datastores/{ARTIFACTS}", artifact_store),
    Route("POST", rf"{HERE}/datastores/{ARTIFACTS}/listSecrets", workspace.secrets),
)


class AzureCompute(AzureWorkspace):
    """The running servers; `computes` maps names to the size and priority of machines.

    `lost` names stages whose next job loses its machine when it has said something.
    """

    routes = (*ROUTES, *AzureWorkspace.routes)

    def __init__(self, scratch: Path) -> None:
        self.folder = scratch / "machines"
        self.computes = {"cpu-cluster": ("Standard_DS3_v2", "Dedicated")}
        self.environment_versions: dict[str, dict] = {}
        self.executions: dict[str, Execution] = {}
        self.lost: list[str] = []
        super().__init__(scratch)
        path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
        # What a job finds on its machine, whoever submits it.
        self.machine = {"PATH": path, "DEFAULT_IDENTITY_CLIENT_ID": IDENTITY}
        service = BlobServiceClient.from_connection_string(
            self.storage.connection_string, connection_verify=str(self.certificate)
        )
        self.artifacts = service.get_container_client(ARTIFACTS_CONTAINER)
        self.artifacts.create_container()

    def of(self, stage: str) -> list[Execution]:
        """Return the jobs of a stage, the oldest first."""
        return [each for each in self.executions.values() if each.stage == stage]

    def __exit__(self, *details: object) -> None:
        for execution in self.executions.values():
            if execution.status in {"Queued", "Running"}:
                execution.cancel()
        super().__exit__(*details)
