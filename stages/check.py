"""Check parameters and environment before anything runs, and write down what each stage's code and libraries are.

in:  params.yaml as a whole, the locks of packages, the project's Python files and passes/olive.json
out: reports/params.json and reports/adapters, every parameter of the pipeline, the defaults laid under params.yaml;
     reports/environment/STAGE.txt, the locked packages that a stage uses, on which it depends;
     reports/code/STAGE.txt, digests of what its code says, the same; reports/code/modules.txt, whose digest is which;
     in DVC's run cache, the runs that dvc.lock records
"""

from pathlib import Path

from press.core import arithmetic, cache, cli, code, files, libraries, machine, packages, paths, run_cache
from press.model import device, grammar, node_checks, pass_checks
from press.params import checks, recorded, resolving, schema, settings
from press.quality import tasks


def write_libraries(
    project: code.Project, locked: dict[str, str], unused: dict[str, str], passes: schema.Passes
) -> None:
    """Write the locked packages of each stage, those of Olive's passes that it runs too; no stage runs `unused`."""
    with files.replaced(paths.ENVIRONMENT) as building:
        for stage, script in project.stages().items():
            modules = project.uses(script, through_front_door=True)
            used = libraries.used([*map(project.tree, modules), *pass_checks.trees(passes, stage)], unused)
            lines = sorted(f"{name}=={version}\n" for name, version in locked.items() if name in used)
            (building / f"{stage}.txt").write_text("".join(lines), encoding="utf-8")


def write_code(project: code.Project) -> None:
    """Write the digests of each stage's modules, and the names of all modules for those who read them."""
    names: dict[Path, str] = {}
    with files.replaced(paths.CODE) as building:
        for stage in project.stages():
            digests = project.digests(stage)
            names |= digests
            (building / f"{stage}.txt").write_text(code.listed(digests), encoding="utf-8")
        lines = [f"{names[path]}  {path.as_posix()}\n" for path in sorted(names)]
        (building / code.MODULES).write_text("".join(lines), encoding="utf-8")


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
    write_libraries(project, locked, unused, params.passes)
    write_code(project)
    recorded.write(resolved.values)
    print("params.yaml and the environment are as they should be")
    for name, target in params.targets.items():
        print(f"{name}: {target.serving(len(params.adapters))}")
    for gate in params.gates:
        print(f"gate: {gate}")


if __name__ == "__main__":
    cli.run(main)
