"""Portable arithmetic: what a process is given, what is refused, and that PyTorch's results stay right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import ROOT

from press.core import arithmetic
from press.core.errors import UserError


def test_a_process_gets_the_variables_and_keeps_none_that_libraries_would_choose_by():
    given = {"PATH": "/bin", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    wanted, overridden = arithmetic.variables(given)
    assert wanted == {"PATH": "/bin", "OMP_WAIT_POLICY": "PASSIVE", **arithmetic.VARIABLES}
    assert overridden == ["MKL_CBWR", "OMP_NUM_THREADS"]
    assert arithmetic.variables(wanted) == (wanted, [])


@pytest.mark.parametrize(
    "name",
    ["ATEN_X", "DNNL_X", "GLIBC_TUNABLES", "GOMP_X", "KMP_X", "MKL_X", "NPY_X", "OMP_X", "ONEDNN_X", "OPENBLAS_X"],
)
def test_every_family_of_variables_is_overridden_by_name(name):
    assert arithmetic.variables({name: "1"}) == (arithmetic.VARIABLES, [name])


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("arithmetic: native\n", "native"),
        ("arithmetic: portable\n", "portable"),
        ("seed: 1\n", "portable"),
        ("arithmetic: [\n", "portable"),
        ("- 1\n", "portable"),
        (None, "portable"),
    ],
)
def test_the_mode_is_that_of_params_yaml_and_portable_where_that_is_refused_anyway(tmp_path, monkeypatch, text, mode):
    monkeypatch.chdir(tmp_path)
    if text:
        Path("params.yaml").write_text(text, encoding="utf-8")
    assert arithmetic.chosen() == mode


def test_only_a_stage_s_process_begins_anew():
    assert arithmetic._is_stage(["python", "-B", "-m", "stages.quantize"])
    assert not arithmetic._is_stage(["python", "-m", "pytest", "stages.quantize"])
    assert not arithmetic._is_stage(["python", "-c", "import stages"])


@pytest.mark.parametrize(
    ("sets", "missing"), [({"avx2"}, "no fma"), ({"fma"}, "no avx2"), (set(), "no avx2 and no fma")]
)
def test_a_processor_or_a_container_without_avx2_is_refused(monkeypatch, sets, missing):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(
        UserError, match=rf"^params\.yaml: arithmetic is portable, which needs .* shows {missing}: choose"
    ):
        arithmetic.check("portable", sets)
    arithmetic.check("native", sets)
    arithmetic.check("portable", {"avx2", "fma", "avx512f"})


def test_another_architecture_has_no_promise_and_is_not_refused(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert not arithmetic.is_portable("portable")
    arithmetic.check("portable", set())


@pytest.fixture(scope="module")
def begun() -> None:
    arithmetic.begin("portable", 2)


@pytest.mark.usefixtures("begun")
@given(
    st.integers(1, 80),
    st.integers(1, 700),
    st.integers(1, 80),
    st.sampled_from(["float32", "float64", "bfloat16", "int64"]),
)
def test_products_are_right_for_every_shape_and_type(rows, terms, columns, dtype):
    import torch

    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(rows)
    left = torch.randint(-8, 8, (rows, terms), generator=generator).to(kind)
    right = torch.randint(-8, 8, (terms, columns), generator=generator).to(kind)
    added = torch.randint(-8, 8, (columns,), generator=generator).to(kind)
    # Small whole numbers have exact sums in each type but bfloat16.
    exact = (left.double() @ right.double(), dtype != "bfloat16")
    for found, expected in (
        (left @ right, exact[0]),
        (torch.addmm(added, left, right), exact[0] + added.double()),
        (torch.bmm(left[None], right[None])[0], exact[0]),
        (torch.addmm(added, left, right, beta=2, alpha=3), exact[0] * 3 + added.double() * 2),
    ):
        assert found.dtype is kind
        close = {"rtol": 0.02, "atol": 8.0} if not exact[1] else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(found.double(), expected, **close)


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("terms", [5, 512, 576, 1024, 1100, 2049])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_sum_is_a_chain_of_fused_multiply_adds_whatever_the_instruction_set(terms, transposed):
    import torch

    generator = torch.Generator().manual_seed(terms)
    left, right = torch.randn(96, terms, generator=generator), torch.randn(terms, 600, generator=generator)
    length = 512 if terms <= 1024 else 1024
    expected = torch.zeros(96, 600)
    for start in range(0, terms, length):
        chain = torch.zeros(96, 600)
        for term in range(start, min(terms, start + length)):
            # A product of two fp32 numbers is exact in fp64.
            chain = (chain.double() + left[:, term : term + 1].double() * right[term].double()).float()
        expected = expected + chain
    right = right.T.contiguous().T if transposed else right
    assert torch.equal(left @ right, expected)
    turned = right.T @ left.T
    assert torch.equal(turned, expected.T)
    assert turned.is_contiguous()


@pytest.mark.usefixtures("begun")
def test_products_of_nothing_are_nothing():
    import torch

    assert (torch.ones(0, 5) @ torch.ones(5, 3)).shape == (0, 3)
    assert torch.equal(torch.ones(2, 0) @ torch.ones(0, 3), torch.zeros(2, 3))


@pytest.mark.usefixtures("begun")
def test_gradients_go_through_the_products():
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(96, 96, generator=generator, dtype=torch.float32).requires_grad_() for _ in range(2))
    (left @ right).square().sum().backward()
    expected = 2 * (left.double() @ right.double()) @ right.double().T
    torch.testing.assert_close(left.grad.double(), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.usefixtures("begun")
@given(st.lists(st.floats(0, 2.0**127, width=32), min_size=1, max_size=40))
def test_a_square_root_is_the_nearest_float(values):
    import numpy as np
    import torch

    numbers = torch.tensor(values, dtype=torch.float32)
    # The processor's own instruction rounds right, by IEEE 754.
    assert np.array_equal(torch.sqrt(numbers).numpy(), np.sqrt(numbers.numpy()))
    assert np.array_equal(numbers.clone().sqrt_().numpy(), np.sqrt(numbers.numpy()))


@pytest.mark.usefixtures("begun")
def test_libraries_that_compute_otherwise_are_refused(monkeypatch):
    monkeypatch.setattr(arithmetic, "EXPECTED", "0" * 64)
    with pytest.raises(
        UserError, match=r"the libraries here compute a known product otherwise .* or set arithmetic to native"
    ):
        arithmetic.begin("portable", 2)
    arithmetic.begin("native", 2)


@pytest.mark.integration
@pytest.mark.parametrize(("mode", "kept"), [("portable", arithmetic.VARIABLES["MKL_CBWR"]), ("native", "AVX2")])
def test_a_stage_s_process_has_its_own_variables_and_says_so(tmp_path, mode, kept):
    (tmp_path / "stages").mkdir()
    text = (ROOT / "stages/__init__.py").read_text(encoding="utf-8")
    (tmp_path / "stages/__init__.py").write_text(text, encoding="utf-8")
    (tmp_path / "stages/show.py").write_text("import os\nprint(os.environ['MKL_CBWR'])\n", encoding="utf-8")
    (tmp_path / "params.yaml").write_text(f"arithmetic: {mode}\n", encoding="utf-8")
    environment = {**os.environ, "MKL_CBWR": "AVX2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.show"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == f"{kept}\n"
    assert ("MKL_CBWR are not used" in result.stderr) == (mode == "portable")
