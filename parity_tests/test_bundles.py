"""Bundles: what comes back, what is refused, and a check where PyTorch cannot be imported."""

import json
import subprocess
import sys

import numpy as np
import pytest

from parity_tests import cli
from parity_tests.cases import LONG, LONG_SET, SMALL, SMALL_SET, all_cases, select
from portparity import bundles, sources
from portparity.errors import BundleError, NothingRan
from portparity.runner import record, run

from .conftest import ROOT

NAME = "maths/q_posterior-cosine-pynative"


@pytest.fixture(scope="module")
def cases():
    return all_cases()


@pytest.fixture
def bundle(tmp_path, cases):
    chosen = select(cases, [NAME])
    (folder,) = bundles.record_all(chosen, tmp_path / "b", "torch", {})
    return folder


def parity(*arguments, **options):
    command = [sys.executable, str(ROOT / "scripts" / "parity.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def test_what_is_read_is_what_was_recorded(bundle, cases):
    known = record(select(cases, [NAME])[0].computation)
    manifest, back = bundles.read(bundle)
    assert manifest["framework"] == "torch"
    assert manifest["own_error"]["mean[t=500]"] > 0
    for mine, theirs in ((known.inputs, back.inputs), (known.truth, back.truth), (known.scales, back.scales)):
        assert set(mine) == set(theirs)
        for name, value in mine.items():
            assert np.array_equal(value, theirs[name]), name
            assert np.asarray(value).dtype == theirs[name].dtype, name
    assert len(known.references) == len(back.references)


def test_the_small_set_is_committed_and_fresh(cases):
    recorded = bundles.Recorded(SMALL, cases)
    assert set(recorded.folders) == set(SMALL_SET)
    for key in recorded.folders:
        recorded(recorded.by_key[key])  # raises where stale
    size = sum(path.stat().st_size for path in SMALL.rglob("*") if path.is_file())
    assert size < 5 * 2**20


def test_a_long_trusted_side_is_read_where_it_is_of_this_code_and_these_versions_and_else_run(
    bundle, cases, monkeypatch
):
    computation = select(cases, [NAME])[0].computation
    monkeypatch.setattr(bundles, "record", lambda computation: "run")

    def taken():
        known = bundles.known_or_run(computation, bundle.parent)
        return known if known == "run" else "read"

    assert taken() == "read"
    assert bundles.known_or_run(computation, bundle.parent / "none") == "run"
    for package in ("numpy", "torch", "machine"):
        with monkeypatch.context() as other:
            here = bundles.versions()
            other.setattr(bundles, "versions", lambda here=here, package=package: {**here, package: "another"})
            assert taken() == "run", package
    monkeypatch.setattr(bundles, "source_hash", lambda places: "another torch_ref")
    assert taken() == "run"


def test_the_long_set_is_committed_and_whole():
    assert {bundles.read(folder)[0]["computation"] for folder in bundles.folders(LONG)} == set(LONG_SET)
    size = sum(path.stat().st_size for path in LONG.rglob("*") if path.is_file())
    assert size < 10 * 2**20


def test_the_long_set_is_recorded_anew_where_it_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr("parity_tests.cases.LONG_SET", (NAME,))
    monkeypatch.setattr("parity_tests.cases.LONG", tmp_path)
    assert cli.main(["record", "--long"]) == 0
    assert [bundles.read(folder)[0]["computation"] for folder in tmp_path.iterdir()] == [NAME]


def test_a_changed_case_makes_a_bundle_stale(bundle, cases, monkeypatch):
    monkeypatch.setattr(bundles, "source_hash", lambda places: "another torch_ref")
    chosen = select(cases, [NAME])
    (outcome,) = run(chosen, recorded=bundles.Recorded(bundle.parent, cases))
    assert outcome.verdict == "broken"
    assert "stale" in outcome.message


def test_comments_and_docstrings_do_not_make_a_bundle_stale():
    import ast

    one = sources._canonical(ast.parse('def f(x):\n    """Doc."""\n    return x + 1\n'))
    two = sources._canonical(ast.parse("# comment\ndef f( x ):\n    return (x + 1)\n"))
    other = sources._canonical(ast.parse("def f(x):\n    return x + 2\n"))
    assert one == two != other


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "file", "says"),
    [
        (cut, "data.safetensors", "cut short"),
        (flip, "data.safetensors", "sha256"),
        (lambda p: p.unlink(), "data.safetensors", "missing"),
        (cut, "manifest.json", "cut short or damaged"),
        (lambda p: p.unlink(), "manifest.json", "no manifest.json"),
        (lambda p: p.write_text("[1]"), "manifest.json", "lacks"),
        (lambda p: p.write_text(json.dumps({**json.loads(p.read_text()), "format": 99})), "manifest.json", "format 99"),
        (lambda p: p.write_text(p.read_text().replace(NAME, "maths/gone")), "manifest.json", "does not have"),
    ],
    ids=["cut", "flipped", "no_data", "cut_manifest", "no_manifest", "not_a_manifest", "format", "unknown"],
)
def test_a_damaged_bundle_is_refused(bundle, cases, damage, file, says):
    damage(bundle / file)

    def use():
        recorded = bundles.Recorded(bundle.parent, cases)
        return bundles.read(recorded.folders[NAME])

    with pytest.raises(BundleError, match=says):
        use()


def test_an_empty_directory_is_not_green(tmp_path, cases):
    with pytest.raises(NothingRan, match="holds no bundle"):
        bundles.Recorded(tmp_path, cases)
    with pytest.raises(BundleError, match="does not exist"):
        bundles.Recorded(tmp_path / "none", cases)


BLOCKED = """
import importlib.abc, sys
class NoTorch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torch_ref"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoTorch())
sys.argv = ["parity.py", *sys.argv[1:]]
import runpy
runpy.run_path({script!r}, run_name="__main__")
"""


def without_torch(*arguments, cwd):
    """scripts/parity.py in a process in which ``import torch`` fails."""
    code = BLOCKED.replace("{script!r}", repr(str(ROOT / "scripts" / "parity.py")))
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=cwd)


def test_check_runs_without_pytorch(tmp_path):
    """With the kernels; test_device.py checks all bundles in this way, without them."""
    few = ("--tier", "0", "--tier", "1")
    found = without_torch("check", "--bundle", SMALL, *few, "--output_dir", "out", cwd=tmp_path)
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["summary"]["agree"] == results["summary"]["total"] > 50


def test_without_pytorch_and_without_a_bundle_nothing_ran(tmp_path):
    found = without_torch("check", "--tier", "0", cwd=tmp_path)
    assert found.returncode == 3
    assert "torch is not installed" in found.stderr
    assert "--bundle" in found.stderr


def test_what_a_device_computed_is_compared_with_what_another_did(tmp_path, monkeypatch):
    """record --framework mindspore from PyTorch's inputs, then compare; and a wrong device is found."""
    case = "step/ddim-pred_v-plain-eta1"
    device, pytorch = tmp_path / "device", SMALL
    made = without_torch(
        "record", "--framework", "mindspore", "--bundle", pytorch, "--case", case, "--output_dir", device, cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr[-2000:]
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", str(device), str(pytorch)]) == 0
    folder = bundles.folder_of(case, device)
    manifest, known = bundles.read(folder)
    known.references[0]["x_next[t=500]"][0, 0, 0, 0] += 1e-3
    bundles.write(select(all_cases(), [case])[0].computation, known, device, "mindspore", {})
    found = parity("compare", device, pytorch, cwd=tmp_path)
    assert found.returncode == 1, found.stdout
    assert manifest["framework"] == "mindspore"
    assert "x_next[t=500]" in found.stdout


def test_recordings_of_other_inputs_are_not_comparable(tmp_path, cases):
    chosen = select(cases, [NAME])
    bundles.record_all(chosen, tmp_path / "a", "torch", {})
    bundles.record_all(select(all_cases(seed=1), [NAME]), tmp_path / "b", "torch", {})
    with pytest.raises(BundleError, match="different inputs"):
        bundles.compare(tmp_path / "a", tmp_path / "b", cases)
