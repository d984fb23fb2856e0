"""Check parameters and environment before anything runs, and write down what each stage's code and libraries are.

in:  params.yaml as a whole, the locks of packages, the project's Python files and passes/olive.json
out: reports/params.json and reports/adapters, every parameter of the pipeline, the defaults laid under params.yaml;
     reports/environment/STAGE.txt, the locked packages that a stage uses, on which it depends;
     reports/code/STAGE.txt, digests of what its code says, the same; reports/code/modules.txt, whose digest is which;
     in DVC's run cache, the runs that dvc.lock records
"""

from functools import partial

from press.core import arithmetic, cache, cli, code, libraries, machine, packages, run_cache
from press.model import device, grammar, node_checks, pass_checks
from press.params import checks, recorded, resolving, settings
from press.quality import tasks


def main() -> None:
    resolved = resolving.Resolved()
    params = settings.validated(resolved)
    arithmetic.check(params.arithmetic, machine.instruction_sets())
    device.check(params)
    node_checks.check(params)
    cache.check_links()
    checks.check_files(params)
    checks.check(params, resolved)
    grammar.check(params)
    pass_checks.check(params.passes)
    tasks.check(params.evaluate.tasks)
    optional = packages.read(packages.TASKS)
    unused = {} if params.evaluate.tasks.names else optional
    locked = packages.read() | {name: version for name, version in optional.items() if name not in unused}
    packages.check_installed(locked)
    arithmetic.begin(params.arithmetic, params.threads)
    run_cache.keep()
    project = code.Project()
    libraries.write(project, locked, unused, partial(pass_checks.trees, params.passes))
    code.write(project)
    recorded.write(resolved.values)
    print("params.yaml and the environment are as they should be")
    for name, target in params.targets.items():
        print(f"{name}: {target.serving(len(params.adapters))}")
    for gate in params.gates:
        print(f"gate: {gate}")


if __name__ == "__main__":
    cli.run(main)
