"""A release on an online endpoint of Azure ML: the real SDK, and a resource manager on loopback, as for a registry."""

import json
from collections.abc import Iterator

import pytest
from azureml_server import SCORING, Reply, Route
from projects import Project, assert_sentence

from press.core.errors import UserError
from press.release import endpoint

from . import azureml_workspace as workspace
from .azureml_workspace import AzureWorkspace
from .conftest import rebuild, run, with_remotes

pytestmark = pytest.mark.integration
NAME = "olive-press"
IMAGE = "press.azurecr.io/olive-press-serve@sha256:" + "0" * 64
DEPLOY = ("deploy", "--to", "azureml")


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureWorkspace]:
    """A workspace to which the project was published as version 1, and version 2 with another content."""
    with AzureWorkspace(tmp_path_factory.mktemp("azure")) as running:
        yield running
        assert not running.unexpected


@pytest.fixture(scope="module")
def project(released: Project, azure: AzureWorkspace, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, published to the workspace as version 1, which serves no version."""
    project = with_remotes(released, tmp_path_factory.mktemp("project"))
    project.edit("params.yaml", "registry: git ", "registry: azureml ")
    project.edit("params.yaml", "      image: '' ", f"      image: {IMAGE} ")
    project.commit()
    project.environment |= azure.environment
    assert_sentence(run(project, *DEPLOY), "version 1 of ft-for-travel is not published", "make publish")
    assert not azure.endpoints
    assert run(project, "publish").returncode == 0
    return project


def deployed(project: Project) -> str:
    result = run(project, *DEPLOY)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_version_gets_the_traffic_when_it_has_answered_and_the_other_colour_stays(project, azure):
    out = deployed(project)
    assert f"https://{SCORING}/v1/chat/completions" in out
    assert (azure.traffic, azure.asked) == ([{}, {"blue": 100}], ["blue"])
    made = azure.deployments["blue"]["properties"]
    assert made["model"].endswith("/models/ft-for-travel/versions/1")
    assert made["modelMountPath"] == "/package"
    assert made["environmentVariables"]["OLIVE_PRESS_PACKAGE"] == "/package/ft-for-travel/1/ft-for-travel"
    (environment,) = azure.environments
    assert environment["image"] == IMAGE
    routes = {name: (route["path"], route["port"]) for name, route in environment["inferenceConfig"].items()}
    assert routes == {
        "livenessRoute": ("/health", 8000),
        "readinessRoute": ("/ready", 8000),
        "scoringRoute": ("/v1/chat/completions", 8000),
    }
    assert "blue serves version 1 already" in deployed(project)
    project.edit("params.yaml", 'version: "1"', 'version: "2"')
    rebuild(project, "other weights\n")
    assert run(project, "publish").returncode == 0
    # A version that does not answer gets no traffic, and is taken away.
    for answer in (Reply(400), Reply(body={"status": "ok"})):
        azure.faults.append(Route("POST", rf"{SCORING}/.*", lambda azure, request, answer=answer: answer))
        assert_sentence(
            run(project, *DEPLOY), "green of olive-press was not given the traffic", "blue keeps the traffic"
        )
        azure.faults.clear()
        assert azure.endpoints[NAME]["properties"]["traffic"] == {"blue": 100}
        assert list(azure.deployments) == ["blue"]
    azure.faults.append(
        Route("PUT", workspace.DEPLOYMENT, lambda azure, request: Reply(400, {"error": {"message": "no quota"}}))
    )
    assert_sentence(run(project, *DEPLOY), "green of olive-press was not given the traffic", "no quota")
    azure.faults.clear()
    assert "green has all traffic; blue stays" in deployed(project)
    assert azure.traffic[-1] == {"green": 100}
    assert sorted(azure.deployments) == ["blue", "green"]
    assert run(project, "undeploy", "--to", "azureml").returncode == 0
    assert not azure.endpoints
    assert not azure.deployments
    assert_sentence(run(project, "undeploy", "--to", "azureml"), "olive-press", "does not exist")


def test_the_traffic_is_one_colours_or_nobodys():
    assert endpoint._with_traffic({}) is None
    assert endpoint._with_traffic({"blue": 0, "green": 100}) == "green"
    with pytest.raises(UserError, match="parted between blue and green"):
        endpoint._with_traffic({"green": 90, "blue": 10})


def test_an_image_must_be_named(project, azure, tmp_path):
    project = with_remotes(project, tmp_path)
    project.environment |= azure.environment
    project.edit("params.yaml", f"image: {IMAGE} ", "image: '' ")
    project.commit()
    assert_sentence(run(project, *DEPLOY), "publish.azureml.endpoint.image is empty")
    assert json.dumps(azure.endpoints) == "{}"
