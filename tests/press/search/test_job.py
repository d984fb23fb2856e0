"""A machine on which no trial could be built takes none."""

import pytest

from press.core import packages
from press.core.errors import UserError
from press.search import job, shared_dvc


def test_a_machine_with_other_packages_is_at_fault_for_it(monkeypatch, capsys):
    def refuse(locked: dict[str, str]) -> None:
        raise UserError(f"{len(locked)} of them differ")

    monkeypatch.setattr(packages, "read", lambda: {"torch": "1"})
    monkeypatch.setattr(packages, "check_installed", refuse)
    with pytest.raises(SystemExit) as ended:
        job.check_machine()
    assert ended.value.code == shared_dvc.AWAY
    assert capsys.readouterr().out == "error: 1 of them differ\n"
    monkeypatch.setattr(packages, "check_installed", lambda locked: None)
    job.check_machine()
