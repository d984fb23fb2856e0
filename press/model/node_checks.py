"""What `check` says of trainings on several nodes."""

import os

from press.core import dvc_files, paths
from press.core.errors import UserError
from press.model import nodes
from press.params import recorded
from press.params.settings import Settings


def check(params: Settings) -> None:
    """Refuse to train on several nodes where none but this one takes part, unless dvc.lock has done so already.

    :raises UserError: naming the adapter
    """
    if os.environ.get(nodes.ADDRESS) or os.environ.get(nodes.CLUSTER):
        return
    several = {name: adapter.training for name, adapter in params.adapters.items() if adapter.training.nodes > 1}
    done = dvc_files.recorded() if several else {}
    for name, training in several.items():
        trained = done.get(f"finetune@{name}", {}).get("params", {}).get(str(recorded.file_of(name)), {})
        if trained.get("training") != training.model_dump(mode="json"):
            key = f"adapters.{name}.training.nodes is {training.nodes}"
            raise UserError(f"{paths.PARAMS}: {key}, but nothing says where the others are: {nodes.how_to_start(name)}")
