"""What importing the project does."""

import subprocess
import sys

import pytest
from projects import ROOT

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("modules", "told"), [("onnxruntime", True), ("press, onnxruntime", False)])
def test_whoever_imports_the_project_tells_nothing_to_the_makers_of_the_runtime(tmp_path, modules, told):
    """ONNX Runtime keeps who it is, and what it could not send yet, in the user's cache."""
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", f"import {modules}"], env=environment, cwd=tmp_path, check=True)
    assert bool(list(tmp_path.iterdir())) == told
