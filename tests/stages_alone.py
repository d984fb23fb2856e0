"""Run stages one after the other, each in a folder and a process of its own, whose libraries are loaded already.

    python tests/stages_alone.py '[["FOLDER", "NAME WORDS"], ...]'

To load them takes most of a stage's processor time on a tiny model. So this process loads them, computes nothing, and
forks for each stage; tests/test_portable.py shows that what is loaded is no input. It prints a line of JSON a stage:
its exit code, and the files that it left in the user's home and among temporary ones; FOLDER.log has what it said.
"""

import gc
import importlib
import json
import os
import runpy
import sys

LIBRARIES = ("olive.workflows", "onnxruntime_genai", "peft", "transformers.models.llama.modeling_llama", "transformers")


def fork() -> tuple[str, list[str]]:
    """Return a stage's folder and words, in a process of its own; this one ends here, after the last of them."""
    for folder, words in json.loads(sys.argv[1]):
        child = os.fork()
        if not child:
            return folder, words.split()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        left = [name for place in ("HOME", "TMPDIR") for *_, names in os.walk(os.environ[place]) for name in names]
        print(json.dumps({"code": code, "left": left}), flush=True)
    sys.exit()


def load() -> None:
    """Import what stages do."""
    for name in LIBRARIES:
        importlib.import_module(name)
    # What is loaded is looked through for reference cycles by no stage, and so is shared by all.
    gc.freeze()


def become(module: str, words: list[str]) -> None:
    """Do as `python -m MODULE WORDS` in the current folder does."""
    sys.path[0] = os.getcwd()
    sys.argv = [module, *words]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    load()
    folder, (name, *rest) = fork()
    os.chdir(folder)
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    become(f"stages.{name}", rest)


if __name__ == "__main__":
    main()
