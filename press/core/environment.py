"""What the process of a stage is given, and that of a program which runs the project in another folder."""

import os
import sys
from pathlib import Path

from press.core import memory

# Only what is fixed is reproducible: the same thread pools, no telemetry, no look at a hub.
STAGE = {
    # Olive sends a heartbeat even where its telemetry is disabled, except in an automated pipeline.
    "CI": "1",
    "HF_HUB_OFFLINE": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    # Olive disables a logger of Python's, which whoever configures logging later enables again, as DVC does.
    "OTEL_SDK_DISABLED": "true",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
OFFLINE = {"HF_HUB_OFFLINE"}


def prepare(*, online: bool) -> None:
    """Give this process what a stage's has.

    :param online: whether it may reach a hub
    """
    os.environ.update({name: value for name, value in STAGE.items() if not (online and name in OFFLINE)})
    memory.keep()


def of_clone() -> dict[str, str]:
    """Return the environment with this interpreter's programs first, and no module of another folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": ""}
