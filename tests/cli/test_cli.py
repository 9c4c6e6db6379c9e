"""The scripts as a user meets them: what they write, and one clear line for bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ms_ddpm import checkpoint, config
from ms_ddpm.cli.__main__ import COMMANDS
from ms_ddpm.cli.__main__ import main as command_main
from ms_ddpm.errors import UserError
from ms_ddpm.storage import untrusted
from tests.conftest import ROOT
from tests.processes import script

SCRIPTS = ("train", "sample", "evaluate", "convert")
TINY = [
    "--dim", "8", "--dim_mults", "1", "--timesteps", "20", "--sampling_timesteps", "4", "--train_batch_size", "4",
    "--num_samples", "4", "--validation_images", "8", "--image_size", "8", "--channels", "1", "--dataset", "digits",
]  # fmt: skip


def refused(result, *words):
    """Exit code 2 and one line that holds ``words``."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.returncode == 2, (result.returncode, result.stderr[-1500:])
    assert "Traceback" not in result.stderr
    assert lines[-1].startswith("error: "), result.stderr
    assert not lines[:-1], lines[:-1]
    for word in words:
        assert word in lines[-1], lines[-1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny trained run: 6 steps on the digits."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    pytest.importorskip("tensorboardX")
    result = script(
        "train", *TINY, "--train_num_steps", 6, "--save_and_sample_every", 3, "--output_dir", folder, "--tensorboard"
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_teaches_without_loading_a_framework(name):
    result = script(name, "--help")
    assert result.returncode == 0
    assert f"python scripts/{name}.py" in result.stdout
    code = f"""
import runpy, sys
sys.argv = ["{name}.py", "--help"]
try:
    runpy.run_path({str(ROOT / "scripts" / f"{name}.py")!r}, run_name="__main__")
except SystemExit:
    pass
heavy = ("mindspore", "torch", "numpy", "PIL", "matplotlib", "scipy", "sklearn", "yaml")
print([m for m in heavy if m in sys.modules], file=sys.stderr)
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip()
    assert loaded == "[]"


HEAVY = ("mindspore", "torch", "numpy", "PIL", "matplotlib", "scipy", "sklearn", "yaml", "ms_ddpm.config")


def command(*arguments):
    """``ms-ddpm`` with ``arguments``, in a process of its own in an empty directory."""
    return subprocess.run([sys.executable, "-m", "ms_ddpm.cli", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_lists_what_it_can_do_at_once():
    """0.1 s on two cores of 2.6 GHz; what would make it slow is an import."""
    code = f"""
import sys
sys.argv = ["ms-ddpm", "--help"]
from ms_ddpm.cli.__main__ import console
try:
    console()
except SystemExit:
    print([name for name in {HEAVY} if name in sys.modules])
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.splitlines()
    assert lines[-1] == "[]"
    listed = [line.split()[0] for line in lines[lines.index("commands:") + 1 : -1]]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_its_script_by_another_name(name):
    """--help names nothing that stands in a clone alone, and names itself."""
    shown = command(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"usage: ms-ddpm {name} ")
    assert not re.findall(rf"python scripts/|\b(?:{'|'.join(COMMANDS)})\.py", shown.stdout)
    if (ROOT / "scripts" / f"{name}.py").exists():
        clone = script(name, "--help").stdout
        options = re.compile(r"^  (--[\w-]+)", re.MULTILINE)
        assert options.findall(shown.stdout) == options.findall(clone)
        assert clone.startswith(f"usage: {name}.py ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["'trian'", "did you mean train", "see ms-ddpm --help"]),
        (["quux"], ["'quux'", "expected one of: train, sample,"]),
        ([], ["no command", "compare"]),
        (["--verbose"], ["--verbose"]),
        (["train", "--dimm", "8"], ["--dimm", "see ms-ddpm train --help"]),
        (["verify", "."], ["no checkpoint in .", "of ms-ddpm train"]),
        (["train", "--config", "diggits"], ["--config diggits", "cifar10, corruption,"]),
        (["train", "--config", "configs/mnist.yaml"], ["configs/mnist.yaml", "recipe of that name is --config mnist"]),
    ],
)  # fmt: skip
def test_a_command_that_is_none_is_one_line(arguments, words):
    refused(command(*arguments), *words)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(COMMANDS, "parity", ("left_out.cli", ""))
    with pytest.raises(UserError, match=r"parity needs the package left_out, .* python scripts/parity\.py$"):
        command_main(["parity", "--help"])


def test_a_recipe_is_found_by_its_name_and_a_file_goes_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.resolve({}, "digits") == config.resolve({}, str(ROOT / "configs" / "digits.yaml"))
    (tmp_path / "digits").mkdir()  # a folder of images, say
    assert config.resolve({}, "digits").train_num_steps == 2400
    (tmp_path / "digits").rmdir()
    (tmp_path / "digits").write_text("train_num_steps: 7\n")
    assert config.resolve({}, "digits").train_num_steps == 7


def test_the_recipe_is_read_once(train_script, tmp_path, monkeypatch):
    """For the system whose options there are, and for its values."""
    read, recipe = [], tmp_path / "c.yaml"
    recipe.write_text("system: score\ntrain_num_steps: 0\n")
    read_text = untrusted.read_text
    monkeypatch.setattr(untrusted, "read_text", lambda path, *limit: read.append(path) or read_text(path, *limit))
    with pytest.raises(UserError, match="train_num_steps is 0"):
        train_script.main(["--config", str(recipe)])
    assert read == [recipe]


def test_a_run_leaves_what_the_readme_says(run):
    assert {"checkpoints", "samples", "log.jsonl", "config.yaml", "tensorboard"} <= set(os.listdir(run))
    assert list((run / "tensorboard").iterdir())
    assert {"real.png", "step-00000003.png", "step-00000006.png"} <= set(os.listdir(run / "samples"))
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 6
    assert {"loss", "lr", "grad_norm", "images_per_s", "peak_rss_mb"} <= set(records[-1])


def test_the_same_command_continues_and_a_finished_run_has_nothing_to_do(run):
    result = script("train", *TINY, "--train_num_steps", 6, "--save_and_sample_every", 3, "--output_dir", run)
    assert result.returncode == 0
    assert "resuming at step 6" in result.stdout


def test_pynative_mode_gives_the_graphs_numbers(run, tmp_path):
    result = script(
        "train", *TINY, "--train_num_steps", 6, "--save_and_sample_every", 6, "--output_dir", tmp_path, "--mode", 1
    )
    assert result.returncode == 0, result.stderr[-2000:]
    graph, pynative = (json.loads((f / "log.jsonl").read_text().splitlines()[-1]) for f in (run, tmp_path))
    assert pynative["grad_norm"] == pytest.approx(graph["grad_norm"], rel=1e-4)


def test_sampling_needs_nothing_but_the_directory(run, tmp_path):
    result = script(
        "sample", "--checkpoint", run, "--output_dir", tmp_path, "--num", 5, "--batch_size", 3, "--gif",
        "--sampling_steps", 3, "--eta", 0.5, "--interpolate", 4, "--interpolate_t", 3,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert {"grid.png", "samples.npz", "samples.gif", "interpolation.png"} <= set(os.listdir(tmp_path))
    with np.load(tmp_path / "samples.npz") as file:
        assert file["arr_0"].shape == (5, 8, 8, 1)
        assert file["arr_0"].dtype == np.uint8


def test_evaluation_writes_its_metrics_beside_the_samples(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "samples.npz", arr_0=noise)
    result = script("evaluate", "--samples", tmp_path, "--dataset", "digits")
    assert result.returncode == 0, result.stderr[-2000:]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["frechet_distance"] > 20
    assert sum(metrics["class_histogram"]) == 100


def test_weights_go_to_pytorch_and_back_unchanged(run, tmp_path):
    pytest.importorskip("torch")
    assert script("convert", "to-torch", run, "--output", tmp_path / "m.pt").returncode == 0
    result = script("convert", "from-torch", tmp_path / "m.pt", "--image_size", 8, "--output_dir", tmp_path / "back")
    assert result.returncode == 0, result.stderr[-2000:]
    before, after = (checkpoint.load(checkpoint.locate(folder)) for folder in (run, tmp_path / "back"))
    for group in ("model", "ema"):
        assert before.arrays[group].keys() == after.arrays[group].keys()
        for name, value in before.arrays[group].items():
            assert np.array_equal(value, after.arrays[group][name]), name


BAD_TRAINING = {
    "wrong device": (["--device_target", "TPU"], ["'TPU'", "CPU, GPU, Ascend"]),
    "size that cannot be halved": (["--image_size", "9", "--dim_mults", "1", "2"], ["9x9", "divisible by 2"]),
    "channels that do not match": (["--channels", "3"], ["channels"]),
    "unknown flag": (["--learning_rate", "1"], ["--learning_rate"]),
    "wrong type": (["--dim", "wide"], ["dim is 'wide'", "an integer"]),
    "negative steps": (["--train_num_steps", "-5"], ["train_num_steps", "-5"]),
    "sampling steps above T": (["--sampling_timesteps", "21"], ["sampling_timesteps is 21", "20"]),
    "missing dataset": (["--dataset", "/no/such/folder"], ["/no/such/folder"]),
    "missing config": (["--config", "/no/such.yaml"], ["/no/such.yaml"]),
    "impossible schedule": (["--beta_schedule", "linear"], ["linear", "20 steps"]),
    "more validation than images": (["--validation_images", "5000"], ["5000"]),
    "one beta": (["--adam_betas", "0.9"], ["betas"]),
    "no checkpoint to resume": (["--resume", "/no/such/run"], ["/no/such/run"]),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_bad_training_input_is_one_line_and_leaves_nothing(tmp_path, case):
    args, words = BAD_TRAINING[case]
    folder = tmp_path / "out"
    result = script("train", *TINY, "--train_num_steps", 6, "--output_dir", folder, *args)
    refused(result, *words)
    assert not (folder / "checkpoints").exists()
    assert not folder.exists(), os.listdir(folder)


def test_who_names_no_data_trains_the_digits_recipe_and_is_told(train_script, mindspore, monkeypatch, tmp_path, caplog):
    """The keys' own defaults are 36 M parameters for 100,000 steps, 14 hours on the 8x8 digits."""
    got = []

    def build_trainer(config, group):
        got.append(config)
        raise UserError("far enough")

    monkeypatch.setattr(train_script, "build_trainer", build_trainer)
    caplog.set_level("INFO", "ms_ddpm")
    for flags in (["--train_lr", "0.5"], ["--dataset", "digits", "--train_lr", "0.5"]):
        with pytest.raises(UserError, match="far enough"):
            train_script.main([*flags, "--output_dir", str(tmp_path / "run")])
    recipe, defaults = got
    assert (recipe.dim, recipe.train_num_steps, recipe.train_lr) == (16, 2400, 0.5)
    assert recipe.output_dir == str(tmp_path / "run")
    assert (defaults.dim, defaults.train_num_steps, defaults.train_lr) == (64, 100000, 0.5)
    line = f"no --config and no --dataset: running {ROOT / 'configs' / 'digits.yaml'} with the flags given"
    assert [record.getMessage() for record in caplog.records if record.name == "ms_ddpm"] == [line]


def test_other_systems_and_files_are_run_as_they_are_named(train_script):
    assert train_script.chosen_recipe({"system": "score"}, None) is None
    assert train_script.chosen_recipe({"system": "diffusion"}, None) == str(ROOT / "configs" / "digits.yaml")
    assert train_script.chosen_recipe({}, "mine.yaml") == "mine.yaml"


def test_a_script_without_its_recipes_says_what_to_name(train_script, monkeypatch):
    monkeypatch.setattr(train_script, "recipes", dict)
    with pytest.raises(
        UserError, match=r"^neither --config nor --dataset is given, .*digits.yaml, is not there; name a"
    ):
        train_script.main([])
    assert train_script.chosen_recipe({"dataset": "digits"}, None) is None


def test_an_unknown_configuration_key_is_named(tmp_path):
    (tmp_path / "c.yaml").write_text("dimm: 8\n")
    refused(
        script("train", "--config", tmp_path / "c.yaml", "--output_dir", tmp_path / "o"), "'dimm'", "did you mean dim"
    )


def test_an_empty_image_folder_is_named(tmp_path):
    (tmp_path / "images").mkdir()
    refused(
        script("train", *TINY, "--dataset", tmp_path / "images", "--output_dir", tmp_path / "o"),
        str(tmp_path / "images"),
    )


@pytest.mark.parametrize("name", ["train", "sample"])
def test_an_output_directory_that_cannot_be_made_is_named(tmp_path, run, name):
    (tmp_path / "file").write_text("")
    args = [*TINY, "--train_num_steps", 6] if name == "train" else ["--checkpoint", run]
    refused(script(name, *args, "--output_dir", tmp_path / "file" / "out"), "output directory", "Not a directory")


def copy_of(run, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("name", ["train", "sample"])
def test_a_checkpoint_short_of_one_byte_is_named(run, tmp_path, name):
    folder = copy_of(run, tmp_path)
    file = folder / "checkpoints" / "step-00000006" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    before = sorted(os.listdir(folder))
    args = [*TINY, "--train_num_steps", 9, "--output_dir", folder] if name == "train" else ["--checkpoint", folder]
    refused(script(name, *args), "model.safetensors", "bytes, expected")
    assert sorted(os.listdir(folder)) == before


def test_a_checkpoint_of_another_architecture_is_named(run, tmp_path):
    folder = copy_of(run, tmp_path)
    args = [*TINY, "--train_num_steps", 9, "--output_dir", folder, "--dim", 16]
    refused(script("train", *args), "dim was 8, now 16")
    state = folder / "checkpoints" / "step-00000006" / "state.json"
    content = json.loads(state.read_text())
    content["config"]["dim_mults"] = [1, 3]
    content["sha256"] = checkpoint.state_digest(content)
    state.write_text(json.dumps(content))
    refused(script("sample", "--checkpoint", folder), "another architecture")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--sampling_steps", "21"], ["sampling_timesteps is 21"]),
        (["--num", "0"], ["--num is 0"]),
        (["--sampler", "ddpm", "--sampling_steps", "5"], ["all 20 steps"]),
        (["--eta", "2"], ["eta is 2.0"]),
        (["--interpolate", "2"], ["--interpolate is 2"]),
        (["--device_target", "GPUU"], ["'GPUU'"]),
    ],
)
def test_bad_sampling_input_is_one_line_and_leaves_nothing(run, tmp_path, args, words):
    refused(script("sample", "--checkpoint", run, "--output_dir", tmp_path / "o", *args), *words)
    assert not (tmp_path / "o").exists()


def test_a_missing_checkpoint_is_named(tmp_path):
    refused(script("sample", "--checkpoint", tmp_path), str(tmp_path), "no checkpoint")


def test_missing_samples_are_named(tmp_path):
    refused(script("evaluate", "--samples", tmp_path / "s.npz"), "s.npz")


@pytest.mark.parametrize("form", ["pickle", "torch.save"])
def test_a_pt_file_with_a_pickled_payload_is_refused_unrun(tmp_path, form):
    torch = pytest.importorskip("torch")
    import pickle

    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "it_ran"),))

    content = {"model": {"w": torch.zeros(1)}, "extra": Payload()}
    if form == "pickle":
        (tmp_path / "evil.pt").write_bytes(pickle.dumps({"model": Payload()}))
    else:
        torch.save(content, tmp_path / "evil.pt")
    result = script("convert", "from-torch", tmp_path / "evil.pt", "--image_size", 8, "--output_dir", tmp_path / "o")
    refused(result, "evil.pt", "refused")
    assert not (tmp_path / "it_ran").exists()
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("number", "mode"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_signals_save_and_exit(tmp_path, number, mode):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *TINY, "--train_num_steps", "100000", "--log_every", "1",
         "--mode", str(mode), "--output_dir", str(tmp_path / "run")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 240
    while not (log.exists() and log.read_text().count("\n") >= 3):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()[-2000:]
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    # MindSpore answers Ctrl-C inside a graph by sending the process SIGTERM (2.10), so that code is right too.
    assert process.returncode in (128 + number, 128 + signal.SIGTERM), (process.returncode, err[-2000:])
    assert "Traceback" not in err
    assert "stopped at step" in out
    found = checkpoint.load(checkpoint.locate(tmp_path / "run"))
    assert f"stopped at step {found.step}" in out
