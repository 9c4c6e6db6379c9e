"""scripts/compare.py: the page and its verdict, on one tiny run that is right and one that is spoilt on purpose."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ms_ddpm.config import Config, to_dict
from ms_ddpm.errors import UserError
from ms_ddpm_bench.compare import cli, judge, markdown, on_torch, page, pictures, run, sides, words, workers, write
from portparity import errors
from tests.conftest import ROOT

TINY = [
    "--dim", "8", "--dim_mults", "1", "--attn_heads", "1", "--attn_dim_head", "4", "--timesteps", "20",
    "--sampling_timesteps", "3", "--train_batch_size", "4", "--train_lr", "1e-3", "--threads", "1", "--steps", "4",
    "--num_samples", "3",
]  # fmt: skip


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """(exit code, folder) of a comparison of correct sides, layers and all."""
    folder = tmp_path_factory.mktemp("compared")
    return cli.main([*TINY, "--output_dir", str(folder)]), folder


@pytest.fixture(scope="module")
def results(compared):
    return json.loads((compared[1] / "compare.json").read_text())


def test_correct_sides_agree_with_exit_code_0(compared, results):
    assert compared[0] == 0
    assert results["verdict"] == "agree"
    assert [(check["name"], check["side"]) for check in results["checks"]] == [
        (name, side) for name in ("loss", "gradient norm", "sampling chain") for side in ("mindspore", "torch")
    ]
    assert max(check["ratio"] for check in results["checks"]) <= 1


def test_everything_is_written(compared):
    assert {path.name for path in compared[1].iterdir()} == {
        "compare.html", "summary.md", "compare.json", "mindspore.png", "torch.png",
    }  # fmt: skip


def test_both_sides_are_measured_at_every_step(results):
    for side in results["sides"].values():
        assert {len(side[key]) for key in ("loss", "grad_norm", "seconds")} == {4}
        assert side["memory"]["peak_mb"] > side["memory"]["above_import_mb"] > 0
    assert len(results["yardstick"]["float64"]["loss"]) == 4


def test_every_layer_is_judged_forward_and_backward(results):
    paths = {layer["path"] for layer in results["layers"]}
    assert {"init_conv", "downs.0.block1", "mid_attn", "final_conv"} <= paths
    assert all(layer["own"] is not None for layer in results["layers"])
    assert judge.first_layer(results["layers"]) is None


def test_the_same_noise_gives_the_same_pictures(compared, results):
    assert results["samples"]["largest"] < 1e-4
    assert (compared[1] / "mindspore.png").read_bytes()[:4] == b"\x89PNG"


def test_the_page_shows_all_and_needs_nothing_but_itself(compared):
    text = (compared[1] / "compare.html").read_text()
    for key in ("training", "samples", "layers", "cost", "quality", "about"):
        assert f'<section id="{key}">' in text
    assert "MindSpore and PyTorch agree: trained for 4 steps" in text
    assert text.count("data:image/png;base64,") == 3
    assert "--dim_mults 1" in text  # how to run it again
    assert not re.search(r"https?://|url\(|<link|<script|@import|src=(?!\"data:)", text)
    assert not re.search(r">(nan|inf|None)<", text)


def test_the_summary_says_the_verdict_first(compared):
    text = (compared[1] / "summary.md").read_text()
    assert text.startswith("## ✅ MindSpore and PyTorch agree")
    assert "time per step, median" in text
    assert "sampling chain" in text


def test_a_checkout_without_its_kernels_is_said_in_every_report(results):
    """MindSpore's operators are not to be timed under the name of ours without a word."""
    used = list((ROOT / "ms_ddpm" / "ops").glob("_kernels*.so")) and os.environ.get("MS_DDPM_KERNELS") != "0"
    assert bool(results["no_kernels"]) != bool(used), results["no_kernels"]
    with_kernels, without = results | {"no_kernels": ""}, results | {"no_kernels": "they are not built; run: pip"}
    line = "MindSpore's side ran by MindSpore's operators, not by ms_ddpm's C++ kernels: they are not built; run: pip"
    pictures = dict.fromkeys(("mindspore", "torch", "difference"), b"")
    for render in (words.terminal, markdown.summary, lambda found: page.page(found, pictures, 1)):
        assert line in render(without).replace("&#x27;", "'").replace("\\", "")
        assert "C++ kernels" not in render(with_kernels)
    elsewhere = without | {"config": results["config"] | {"device_target": "GPU"}}  # they are for the CPU
    assert words.no_kernels(elsewhere) == ""


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """(exit code, folder) where PyTorch gets other noise from step 2 on, and MindSpore runs operator by operator."""
    folder = tmp_path_factory.mktemp("spoilt")
    return cli.main([*TINY, "--spoil", "noise", "--no-layers", "--mode", "1", "--output_dir", str(folder)]), folder


def test_other_noise_is_noticed_at_its_step_with_exit_code_1(spoilt):
    found = json.loads((spoilt[1] / "compare.json").read_text())
    assert spoilt[0] == 1
    assert found["verdict"] == "differ"
    first = judge.parting(found["checks"])
    assert (first["side"], first["name"], judge.step(first)) == ("torch", "loss", 2)
    assert "part at step 2 of 4" in (spoilt[1] / "compare.html").read_text()
    assert (spoilt[1] / "summary.md").read_text().startswith("## ❌")


def test_the_first_steps_of_the_spoilt_run_are_those_of_the_right_one(spoilt, results):
    found = json.loads((spoilt[1] / "compare.json").read_text())
    for side in ("mindspore", "torch"):
        np.testing.assert_allclose(found["sides"][side]["loss"][:2], results["sides"][side]["loss"][:2], rtol=1e-6)


# The verdict, on curves made here


def made(ours=0.0, theirs=0.0, at=5, steps=10):
    """Verdicts on curves that are right but for ``ours`` and ``theirs``, added from step ``at`` on."""
    truth = 1 / np.arange(1, steps + 1)
    late = np.arange(steps) >= at
    rounding = 1e-7 * np.sin(np.arange(steps))
    curve = {"mindspore": truth + np.where(late, ours, 0), "torch": truth + np.where(late, theirs, 0)}
    runs = {side: {"loss": value.tolist(), "grad_norm": value.tolist()} for side, value in curve.items()}
    yardstick = {"float64": truth, "one": truth + rounding, "two": truth - rounding}
    return judge.curves(runs, {name: {"loss": v.tolist(), "grad_norm": v.tolist()} for name, v in yardstick.items()})


@pytest.mark.parametrize(
    ("wrong", "side"), [({"ours": 1e-4}, "mindspore"), ({"theirs": 1e-4}, "torch"), ({"ours": np.nan}, "mindspore")]
)
def test_the_side_that_strays_is_named_with_its_step(wrong, side):
    found = judge.parting(made(**wrong))
    assert found["side"] == side
    assert judge.step(found) == 5


def test_a_wrong_reference_does_not_widen_the_envelope():
    both = made(ours=1e-3, theirs=1e-3)
    assert {check["side"] for check in both if check["verdict"] != "agree"} == {"mindspore", "torch"}


def test_rounding_is_no_difference():
    assert judge.parting(made(ours=1e-7)) is None


def test_the_headline_names_step_and_layer(results):
    wrong = copy.deepcopy(results) | {"verdict": "differ", "checks": made(ours=1e-3)}
    wrong["layers"][3]["own"] = 40.0
    assert "part at step 5" in words.headline(wrong)
    assert f"{judge.first_layer(wrong['layers'])[0]['path']} (forward)" in words.headline(wrong)
    assert words.layer_line(wrong["layers"]).startswith(f"1 of {len(wrong['layers'])} layers computes something else")
    wrong["layers"] = results["layers"]
    assert "outside the network" in words.headline(wrong)


def test_a_run_that_is_not_finite_still_gives_a_page(results):
    wrong = copy.deepcopy(results) | {"verdict": "differ", "checks": made(ours=np.nan) + results["checks"][-2:]}
    wrong["sides"]["mindspore"]["loss"] = [0.5, float("nan"), float("inf"), 0.4]
    samples = {side: np.full((3, 1, 8, 8), value) for side, value in (("mindspore", np.nan), ("torch", 0.5))}
    drawn, factor = pictures.make(samples)
    assert "NaN on one side only" in page.page(wrong, drawn, factor)
    assert markdown.summary(wrong).startswith("## ❌")
    json.dumps(page.finite(wrong), allow_nan=False)


def test_an_infinite_ratio_is_text_in_the_json(tmp_path, results):
    found = run.Comparison(copy.deepcopy(results), {side: np.zeros((2, 1, 8, 8)) for side in ("mindspore", "torch")})
    found.results["checks"][0]["ratio"] = float("inf")
    write.write(found, tmp_path)
    assert json.loads((tmp_path / "compare.json").read_text())["checks"][0]["ratio"] == "inf"


# Pictures


@pytest.mark.parametrize(
    ("largest", "factor"),
    [(0.0, 1), (1.0, 1), (0.4, 2), (0.02, 50), (3e-6, 200_000), (1e-12, 10_000_000), (float("nan"), 1)],
)
def test_a_difference_is_amplified_until_it_is_seen_and_not_beyond_rounding(largest, factor):
    assert pictures.amplification(largest) == factor


def test_the_colour_says_who_is_brighter():
    pink, dark, turquoise = (pictures.colours(np.array(x)) for x in (-1.0, 0.0, 1.0))
    assert pink[0] > pink[1]
    assert turquoise[1] > turquoise[0]
    assert dark.max() < 0.2


# The recipe


def test_pytorch_is_built_from_the_same_recipe_as_mindspore():
    import inspect

    import torch_ref
    from ms_ddpm import GaussianDiffusion, Unet

    for ours, theirs in ((Unet, torch_ref.Unet), (GaussianDiffusion, torch_ref.GaussianDiffusion)):
        known = set(inspect.signature(ours.__init__).parameters) & set(vars(Config()))
        assert known - {"dropout"} <= set(sides.arguments_of(theirs, Config())) | {"dropout"}


def test_large_images_take_shorter_turns():
    assert run.turn_length(Config()) == run.TURN
    assert run.turn_length(Config(image_size=256, channels=3, train_batch_size=128)) == 1


# Bad input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--steps", "0"], "--steps is 0"),
        (["--num_samples", "-1"], "--num_samples is -1"),
        (["--dropout", "0.1"], "add --dropout 0"),
        (["--amp_level", "O1"], "add --amp_level O0"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--dim", "two"], "expected an integer"),
        (["--dataset", "nowhere"], "does not exist"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_error(tmp_path, arguments, says):
    with pytest.raises(UserError, match=re.escape(says)):
        cli.main([*TINY, *arguments, "--output_dir", str(tmp_path / "out")])


def test_without_pytorch_it_says_so_with_exit_code_3(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(run, "installed", lambda package: package != "torch")
    assert cli.main([*TINY, "--output_dir", str(tmp_path / "out")]) == errors.NOTHING_RAN
    said = capsys.readouterr().err
    assert "PyTorch is not installed" in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_process_that_dies_is_named_with_what_it_said(tmp_path):
    plain = to_dict(Config(dim=8, dim_mults=[1]))
    with pytest.raises(errors.HarnessError, match=r"the torch process ended with exit code 1: TypeError.*no_such"):
        workers.Worker("torch", plain, tmp_path, no_such=1)


def test_spoilt_weights_are_wrong_from_their_step_on(tmp_path):
    config = Config(dim=8, dim_mults=[1], attn_heads=1, attn_dim_head=4, timesteps=20, train_batch_size=2, threads=1)
    rng = np.random.default_rng(0)
    shape = (3, 2, 1, 8, 8)
    tape = {"img": rng.random(shape), "noise": rng.standard_normal(shape)}
    tape = {name: value.astype(np.float32) for name, value in tape.items()}
    tape |= {"t": np.full((3, 2), 5, np.int32), "self_cond": np.zeros(3, np.uint8)}
    sides.write(tmp_path / "tape", tape)
    losses = []
    for spoil in (None, ("weights", 2)):
        side = on_torch.TorchSide(config, spoil=spoil)
        drawn = {name: np.random.default_rng(1).standard_normal(p.shape) for name, p in named(side)}
        sides.write(tmp_path / "weights", {f"weight.{name}": v.astype(np.float32) for name, v in drawn.items()})
        side.start(tmp_path / "weights")
        losses.append(side.train(tmp_path / "tape", 0, 3)["loss"])
    right, wrong = losses
    assert right[:2] == wrong[:2]
    assert right[2] != wrong[2]


def named(side):
    return side.diffusion.model.named_parameters()


def test_help_teaches_without_a_framework():
    found = subprocess.run(
        [sys.executable, ROOT / "scripts" / "compare.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "Exit codes" in found.stdout
    assert "--sampling_timesteps" in found.stdout


def children(pid):
    """Processes whose parent is ``pid``."""
    found = []
    for folder in os.listdir("/proc"):
        try:
            status = Path(f"/proc/{folder}/status").read_text() if folder.isdigit() else ""
        except OSError:
            continue
        if f"\nPPid:\t{pid}\n" in status:
            found.append(int(folder))
    return found


def gone(pid):
    """Whether the process has ended; one that nobody has waited for counts."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def wait_until(condition, seconds=120):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "nothing happened for a long time"
        time.sleep(0.05)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at /proc")
@pytest.mark.parametrize(
    ("number", "code", "running"), [(signal.SIGINT, 130, 3), (signal.SIGTERM, 143, 1), (signal.SIGKILL, -9, 1)]
)
def test_an_interrupted_comparison_leaves_no_process(tmp_path, number, code, running):
    process = subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "compare.py", *TINY, "--steps", "4000", "--output_dir", tmp_path],
        stderr=subprocess.DEVNULL,
    )  # longer than any machine takes to see the signal
    wait_until(lambda: len(children(process.pid)) == running)
    workers = children(process.pid)
    process.send_signal(number)
    assert process.wait(timeout=120) == code
    wait_until(lambda: all(gone(worker) for worker in workers))
    assert list(tmp_path.iterdir()) == []
