"""scripts/parity.py: every kind of bad input has its message and exit code, and none is green."""

import json

import numpy as np
import pytest

from parity_tests import cli
from portparity.case import Case, Computation

from .test_bundles import parity


@pytest.fixture
def main(capsys):
    """Runs a command in this process: (exit code, output, errors)."""

    def run(*arguments):
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["check", "--case", "no/such"], 2, "no case is called 'no/such'"),
        (["check", "--case", "rms_nrm"], 2, "list shows all"),
        (["check", "--case", "adamw"], 2, "did you mean training/adamw"),
        (["check", "--tier", "9"], 2, "tier '9' does not exist"),
        (["check", "--tier", "0", "--dtype", "float16"], 3, "nothing ran"),
        (["check", "--case", "modes/unet_*", "--mode", "graph"], 3, "selection is empty"),
        (["check", "--bundle", "nowhere"], 2, "does not exist"),
        (["compare", "nowhere", "neither"], 2, "does not exist"),
        (["bisect", "no/such"], 2, "no case is called"),
        (["report", "nothing.json"], 2, "nothing.json"),
        (["record", "--framework", "mindspore"], 2, "--output_dir is needed"),
        (["check", "--flavour", "x"], 2, "unrecognized"),
        ([], 2, "COMMAND"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_with_its_exit_code(main, arguments, code, says):
    got, out, err = main(*arguments)
    assert got == code
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert "agree" not in out


def test_checks_of_kernels_that_are_not_there_are_left_out_and_the_report_says_why(main, tmp_path):
    kernels = pytest.importorskip("ms_ddpm.ops.kernels")
    cases = ("--case", "layers/rms_norm_odd-scale1-kernels-forward-pynative", "--output_dir", tmp_path, "--quiet")
    with kernels.switched_off():
        assert cli.kernels() == {"kernels": "none: switched off by the program"}
        code, _, err = main("check", *cases)
        assert (code, "nothing ran, so nothing agrees" in err) == (3, True)
        code, out, _ = main("check", *cases, "--case", "layers/rms_norm-scale1-forward-pynative")
    assert (code, "The one check agrees" in out) == (0, True)
    assert "1 check is left out: the C++ kernels cannot be used: switched off by the program" in out
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["environment"]["kernels"] == "none: switched off by the program"
    if not kernels.why_not():
        assert cli.kernels() == {"kernels": kernels.isa()}


def test_list_prints_one_check_a_line_its_id_first(main):
    code, out, _ = main("list", "--tier", "1")
    lines = out.strip().splitlines()
    assert code == 0
    assert len(lines) > 100
    assert all(line.startswith("step/") for line in lines)


def test_check_writes_every_report_and_the_exit_code_is_the_verdict(tmp_path, main):
    code, _, _ = main("check", "--case", "maths/cosine-T50-betas", "--output_dir", tmp_path, "--candidate", "torch")
    assert code == 0
    assert {p.name for p in tmp_path.iterdir()} == {"results.json", "junit.xml", "summary.md", "report.html"}
    assert (
        json.loads((tmp_path / "results.json").read_text())["summary"] | {"total": 1, "agree": 1}
        == json.loads((tmp_path / "results.json").read_text())["summary"]
    )
    assert main("report", tmp_path / "results.json", "--output_dir", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "report.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def a_case(candidate):
    """One check whose candidate is ``candidate``, around a correct x -> 2 x."""

    def double(inputs):
        return {"y": 2 * inputs["x"]}

    computation = Computation(
        "own/double", lambda: {"x": np.ones((2, 3), np.float32)},
        lambda inputs: {"y": 2.0 * inputs["x"].astype(np.float64)}, [double], {"mindspore": candidate},
    )  # fmt: skip
    return Case("own/double", "0", computation)


def nan_in_one_place(inputs):
    y = 2 * inputs["x"]
    y[1, 2] = np.nan
    return {"y": y}


def failing(inputs):
    raise RuntimeError("the device fell over")


@pytest.mark.parametrize(
    ("candidate", "code", "says"),
    [
        (lambda inputs: {"y": 2 * inputs["x"]}, 0, "The one check agrees"),
        (nan_in_one_place, 1, "NaN on one side only: 1 in the candidate, 0 in the reference"),
        (lambda inputs: {"y": 2 * inputs["x"][:1]}, 1, "shape (1, 3), expected (2, 3)"),
        (lambda inputs: {"y": 2 * inputs["x"].astype(np.float64)}, 1, "dtype float64, expected float32"),
        (lambda inputs: {}, 1, "missing in the candidate"),
        (lambda inputs: {"y": 2 * inputs["x"], "z": inputs["x"]}, 1, "an extra output"),
        (failing, 2, "the device fell over"),
    ],
    ids=["right", "nan", "shape", "dtype", "missing", "extra", "raises"],
)
def test_what_is_wrong_with_a_candidate_has_its_own_message(main, monkeypatch, tmp_path, candidate, code, says):
    monkeypatch.setattr(cli, "chosen", lambda options: [a_case(candidate)])
    got, out, _ = main("check", "--output_dir", tmp_path)
    assert got == code
    assert says in out


def test_help_answers_without_a_framework():
    found = parity("--help")
    assert found.returncode == 0
    assert "bisect" in found.stdout


def test_an_unknown_framework_is_not_green(main, monkeypatch):
    from portparity import backends

    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    code, out, err = main("check", "--tier", "0")
    assert code == 3
    assert "not installed" in err
    assert out == ""
