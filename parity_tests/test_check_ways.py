"""`portparity.check` on the ways people take: the command, without PyTorch, in pytest, in processes of their own."""

import json
import multiprocessing
import shutil
import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest

from portparity import check, cli, compare
from portparity.checking import record
from portparity.errors import BundleError, HarnessError
from portparity.sides.mindspore_side import MindSporeSide
from portparity.sides.places import loaded
from portparity.sides.torch_side import TorchSide

from .conftest import ROOT
from .models import small

PLACE = "parity_tests.models.small"
STILL = {"modes": ("pynative",), "training": False}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return record(small.Original, small.inputs(), tmp_path_factory.mktemp("ways") / "recorded")


def test_the_command_says_what_differs_where_and_exits_with_1(capfd):
    assert cli.main(["check", f"{PLACE}:Original", f"{PLACE}:FirstPort", "--mode", "pynative"]) == 1
    said = capfd.readouterr().out
    assert said.startswith("differ: FirstPort of Original")
    assert "model > act: own error" in said


@pytest.mark.slow
def test_bisect_tells_the_layers_alone(capfd):
    assert cli.main(["bisect", f"{PLACE}:Original", f"{PLACE}:Port"]) == 0
    assert "forward (pynative)" not in capfd.readouterr().out


def test_two_devices_are_compared_by_what_each_found(recording, tmp_path, capsys):
    """The second machine here is a port with a fault; no number needs to be equal, every verdict does."""
    folders = {}
    for name, port in (("first", small.Port), ("again", small.Port), ("other", small.FirstPort)):
        folders[name] = check(recording, port, **STILL).write(tmp_path / name)
    assert cli.main(["compare", str(folders["first"]), str(folders["again"])]) == 0
    assert "both say the same of every part" in capsys.readouterr().out
    assert cli.main(["compare", str(folders["first"]), str(folders["other"])]) == 1
    said = capsys.readouterr().out
    assert "they part in forward (pynative), gradients (pynative), layers" in said
    assert "in B alone: act" in said
    assert "in A alone" not in said
    found = compare(folders["other"], folders["first"])
    layers = next(part for part in found.parts if part.name == "layers")
    assert layers.verdicts == ("differ", "agree")
    assert "act" in layers.only[0]
    assert not layers.only[1]
    assert layers.ratios[0] > 1 > layers.ratios[1] > 0


def test_results_that_have_no_part_in_common_are_not_compared(recording, tmp_path, capsys):
    whole = check(recording, small.Port, **STILL).write(tmp_path / "whole")
    found = json.loads((whole / "results.json").read_text())
    (tmp_path / "other").mkdir()
    for case in found["cases"]:
        case["id"] += " of another"
    (tmp_path / "other/results.json").write_text(json.dumps(found))
    assert cli.main(["compare", str(whole), str(tmp_path / "other")]) == 3
    assert "have no part in common: nothing was compared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["compare", "nothing", "nowhere"], "no results.json"),
        (["check", "nowhere.py:Net", "port.py:Net"], "nowhere.py does not exist"),
        (["check", "net", "port.py:Net"], "'net' is no place: expected FILE.py:NAME"),
        (["check", f"{PLACE}:Original", f"{PLACE}:Port", "--name", "a"], "--name a: expected OURS=THEIRS"),
        (["check", f"{PLACE}:Original", f"{PLACE}:Port", "--inputs", "no.npz"], "no.npz cannot be read"),
        (["report", "nothing.json"], "nothing.json is no results.json"),
    ],
)
def test_bad_input_is_one_line(argv, words, capsys):
    assert cli.main(argv) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_a_name_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(HarnessError, match=f"{PLACE} has no Net; it has: .*Original"):
        loaded(f"{PLACE}:Net")


def test_a_process_that_dies_is_a_finding(capfd):
    report = check(f"{PLACE}:Original", f"{PLACE}:dies_in_training", small.inputs(), modes=("pynative",))
    assert not report.agrees
    assert report.outcomes[0].verdict == "agree"
    assert "the port raised ProcessDied: its process ended with exit code 7; nothing more was judged" in str(report)
    assert multiprocessing.active_children() == []


def test_what_cannot_be_checked_lets_go_of_all_three_sides(monkeypatch):
    """Of which each may be a process. The port is told that its two matrices, of other shapes, are one another."""
    closed = []
    for kind in (TorchSide, MindSporeSide):
        monkeypatch.setattr(kind, "close", lambda side: closed.append((side.framework, side.precision)))
    wrong = {"first.weight": "last.weight", "last.weight": "first.weight"}
    with pytest.raises(HarnessError, match=r"first.weight \(16, 8\) cannot be the original's last.weight of \(4, 16\)"):
        check(small.Original, small.Port, small.inputs(), names=wrong)
    assert sorted(closed) == [("mindspore", "float32"), ("torch", "float32"), ("torch", "float64")]


WITHOUT_TORCH = """
import importlib.abc, sys
class NoTorch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("no PyTorch here")
sys.meta_path.insert(0, NoTorch())
from portparity import check
from parity_tests.models.small_port import FirstPort
report = check(sys.argv[1], FirstPort, modes=("pynative",))
assert not report.agrees
print(report.first_culprit)
"""


def test_what_was_recorded_judges_a_port_where_pytorch_is_not(recording):
    said = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, recording], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout.strip() == "act", said.stderr[-2000:]


def test_a_recording_says_what_the_original_says(recording):
    assert check(recording, small.Port, modes=("pynative",)).agrees
    live = check(small.Original, small.FirstPort, small.inputs(), **STILL)
    recalled = check(recording, small.FirstPort, modes=("pynative",))
    assert {outcome.id for outcome in live.outcomes} <= {outcome.id for outcome in recalled.outcomes}
    assert recalled.first_culprit == live.first_culprit == "act"


def test_a_recording_of_other_inputs_or_code_is_refused(recording, tmp_path):
    with pytest.raises(BundleError, match="other inputs"):
        check(recording, small.Port, {"x": small.inputs()["x"] + 1})
    copied = shutil.copytree(recording, tmp_path / "copied")
    (copied / "data.safetensors").write_bytes(b"no")
    with pytest.raises(BundleError, match="not what was recorded"):
        check(copied, small.Port)
    (tmp_path / "net.py").write_text((ROOT / "parity_tests" / "models" / "small.py").read_text())
    made = record(loaded(f"{tmp_path / 'net.py'}:Original"), small.inputs(), tmp_path / "made")
    (tmp_path / "net.py").write_text((tmp_path / "net.py").read_text().replace("8, 16", "8, 12"))
    with pytest.raises(BundleError, match=r"net.py has changed since it was recorded"):
        check(made, small.Port)


def test_a_port_in_another_precision_than_was_recorded_is_refused(recording):
    with pytest.raises(HarnessError, match="the port is float16 and the original float32"):
        check(recording, small.in_half)


def test_a_port_in_half_precision_is_judged_by_an_original_in_half_precision():
    report = check(small.Original, small.in_half, small.inputs(), modes=("pynative",))
    assert report.agrees, str(report)
    assert {tensor.dtype for outcome in report.outcomes for tensor in outcome.tensors} == {"float16"}


def test_both_are_cast_to_half_precision_where_it_is_asked_for_and_the_cell_is_given_back_as_it_was():
    cell = small.Port()
    before = {name: value.asnumpy().copy() for name, value in cell.parameters_and_names()}
    report = check(small.Original, cell, small.inputs(), modes=("graph",), half="float16", training=False)
    assert report.agrees, str(report)
    assert {tensor.dtype for outcome in report.outcomes for tensor in outcome.tensors} == {"float16"}
    for name, value in cell.parameters_and_names():
        assert value.asnumpy().dtype == np.float32
        np.testing.assert_array_equal(value.asnumpy(), before[name])
    with pytest.raises(HarnessError, match="half is 'fp16': expected float16 or bfloat16"):
        check(small.Original, cell, small.inputs(), half="fp16")


def test_in_pytest_it_is_a_fixture(pytester):
    pytester.syspathinsert(ROOT)
    pytester.makepyfile(
        """
        import pytest
        pytest.importorskip("mindspore")
        from parity_tests.models import small

        def test_right(assert_port):
            assert_port(small.Original, small.Port, small.inputs(), modes=("pynative",), training=False)

        def test_wrong(assert_port):
            assert_port(small.Original, small.FirstPort, small.inputs(), modes=("pynative",), training=False)
        """
    )
    installed = any(entry.value == "portparity.pytest_plugin" for entry in entry_points(group="pytest11"))
    result = pytester.runpytest_inprocess(*([] if installed else ["-p", "portparity.pytest_plugin"]))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*differ: FirstPort of Original*", "*the page: *report.html*"])


def test_inputs_of_an_npz_file(tmp_path, capfd):
    np.savez(tmp_path / "batch.npz", **small.inputs())
    given = cli.inputs_of(f"{PLACE}:Original", str(tmp_path / "batch.npz"))
    np.testing.assert_array_equal(given["x"], small.inputs()["x"])
