"""Command lines by the thousand: exit code 0, 1, 2, 3 or 128 + n, and for bad input one line that begins with "error:".

The scripts' ``main`` runs in this process up to the point where MindSpore or PyTorch would start; a few command lines
go through real processes.
"""

import contextlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ms_ddpm import cli, config
from ms_ddpm.errors import UserError
from ms_ddpm.systems import sizes
from parity_tests.conftest import RUN_ALL
from tests.conftest import ROOT
from tests.fuzz.damage import check_complaint, count, damaged, watched
from tests.processes import imported

LONG, NUL = "x" * 5000, "a\0b"
FILES = [
    "good.yaml", "bad.yaml", "empty", "binary", "folder", "images", "fifo", "loop", "dangling", "zero", "set.npz",
    "samples.npz", "m.pt", "m.safetensors", "results.json", "bundle", "run", "\udcff\udcfe", "new\nline", "no such",
]  # fmt: skip
WORDS = [
    "", " ", "-1", "0", "1", "8", "3", "1e9", "1000000000", "99999999999999999999", "1e400", "nan", "inf", "-inf",
    "true", "null", "None", "0x10", "1_000", "８", "1,2", "a=1", "=", "--", "-", "-h", "--help", "@good.yaml",
    "@/etc/passwd", "a\nb", "\x1b[31m", "\udcff", "é", "😀", LONG, "9" * 5000, NUL, "..", "../..", "/", "/dev/null",
    "/dev/zero", "/dev/random", "/proc/self/mem", "~", "~nobody/x", "*", "$(touch x)", ";touch x", "%s%n{0}", "CPU",
    "cpu", "TPU", "auto", "never", "digits", "ddim", "float32", "dim16", "16:1,2@8", "999999999:1@8", "list", "check",
    "report", "compare", "from-torch", "to-torch",
]  # fmt: skip

RECIPE = " ".join(f"--{name}" for name in config.FIELDS)
MACHINE = "--device_target --device_id --mode --threads"
OPTIONS = {
    "train": f"--config {RECIPE} --no-flip --no-tensorboard --dimm",
    "sample": "--checkpoint --which --weights --output_dir --sampler --sampling_steps --eta --num --batch_size --seed "
    f"--grid --gif --npz --interpolate --interpolate_t --dataset {MACHINE}",
    "evaluate": "--samples --dataset --output_dir --fid_weights --device_target",
    "convert": f"--output_dir --image_size --objective --config --output --weights {MACHINE}",
    "parity": "--tier --case --mode --dtype --seed --device_target --candidate --output_dir --bundle --mutants --quiet "
    "--framework --variants --seeds",
    "compare": f"--config --steps --num_samples --output_dir --layers --spoil {RECIPE}",
    "bench": "--sizes --batches --contestants --what --growth --layout --ddim_steps --seed --quick --threads --rounds "
    "--steps --budget --patience --json --markdown --html --from --quiet",
}
OPTIONS = {name: flags.split() for name, flags in OPTIONS.items()}
STARTS = {  # what makes a command line get far, so that not all end at the first missing word
    "train": ["", "--config good.yaml"],
    "sample": ["--checkpoint run", ""],
    "evaluate": ["--samples samples.npz", "--samples folder", ""],
    "convert": ["from-torch m.safetensors --output_dir out", "to-torch run --output a.pt", ""],
    "parity": ["check", "list", "record", "compare bundle bundle", "bisect x", "report results.json", ""],
    "compare": ["", "--config good.yaml"],
    "bench": ["", "--from results.json", "--quick"],
}
STARTS = {name: [words.split() for words in starts] for name, starts in STARTS.items()}


class Started(BaseException):
    """The command line was taken; here the work would begin."""


def start(*_, **__):
    raise Started


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of everything a path may lead to; the working directory of these tests."""
    place = tmp_path_factory.mktemp("cli")
    (place / "good.yaml").write_text("dim: 8\ndim_mults: [1, 2]\n")
    (place / "bad.yaml").write_text("dim: [")
    (place / "empty").write_bytes(b"")
    (place / "binary").write_bytes(bytes(range(256)) * 10)
    (place / "folder").mkdir()
    (place / "images").mkdir()
    (place / "images" / "a.png").write_bytes(b"no image")
    os.mkfifo(place / "fifo")
    for name, target in (("loop", "loop"), ("dangling", "nowhere"), ("zero", "/dev/zero")):
        os.symlink(target, place / name)
    np.savez(place / "set.npz", images=np.zeros((5, 8, 8), np.uint8))
    np.savez(place / "samples.npz", arr_0=np.zeros((5, 8, 8, 1), np.uint8))
    for name in ("m.pt", "m.safetensors", "\udcff\udcfe", "new\nline"):
        (place / name).write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    (place / "results.json").write_text('{"format": 1, "cases": [], "rows": []}')
    (place / "bundle").mkdir()
    (place / "run" / "checkpoints" / "step-00000001").mkdir(parents=True)
    (place / "run" / "checkpoints" / "step-00000001" / "state.json").write_text("{}")
    return place


@pytest.fixture(scope="module")
def mains(place):
    """name -> main, stopped where a framework would start; run in ``place``."""
    from ms_ddpm import evaluation, runtime
    from ms_ddpm_bench.compare import cli as compare_cli
    from ms_ddpm_bench.compare import run as compare_run
    from ms_ddpm_bench.speed import cli as bench
    from parity_tests import cli as parity

    patch = pytest.MonkeyPatch()
    found = {"parity": parity.main, "compare": compare_cli.main, "bench": bench.main}
    for name in ("train", "sample", "evaluate", "convert"):
        found[name] = imported(f"scripts/{name}.py").main
    patch.setattr(runtime, "setup", start)
    patch.setattr(evaluation, "evaluate_digits", start)
    patch.setattr(evaluation, "evaluate_fid", start)
    patch.setattr(parity, "start", start)
    patch.setattr(compare_run, "check_frameworks", lambda: None)
    patch.setattr(compare_run, "compare", start)
    patch.setattr(bench, "_measure", start)
    patch.chdir(place)
    yield found
    patch.undo()


def listing(folder):
    return sorted(os.path.join(root, name) for root, folders, files in os.walk(folder) for name in (*folders, *files))


def call(main, argv):
    """(exit code or None where the work would begin, stdout, stderr), as `cli.run` has it."""
    out, err = io.StringIO(), io.StringIO()
    with watched(argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run(main, argv)
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()
        except Started:
            return None, out.getvalue(), err.getvalue()
    raise AssertionError("cli.run came back")


def check_call(main, argv):
    code, _, err = call(main, argv)
    assert code in (None, 0, 1, 2, 3, 130), code
    assert "Traceback" not in err
    if code in (2, 3):
        errors = [line for line in err.split("\n") if line]
        assert len(errors) == 1, err[:2000]
        assert errors[0].startswith("error: ")
        check_complaint(UserError(errors[0]), limit=3000)
        assert errors[0].isprintable()
    return code


def command_lines(name):
    values = st.one_of(st.sampled_from(WORDS), st.sampled_from(FILES), st.text(max_size=20), st.integers().map(str))
    flags = st.sampled_from(OPTIONS[name])
    pair = st.tuples(flags, values).map(list)
    joined = st.tuples(flags, values).map(lambda fv: ["=".join(fv)])
    loose = st.one_of(flags, values).map(lambda word: [word])
    words = st.lists(st.one_of(pair, pair, pair, joined, loose), max_size=4)
    return st.tuples(st.sampled_from(STARTS[name]), words).map(
        lambda parts: [*parts[0], *(word for words in parts[1] for word in words)]
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_any_command_line(mains, place, name):
    before = [path for path in listing(place) if "/folder/" not in path]
    taken = {None: 0, 0: 0, 2: 0}

    @settings(max_examples=count(20 if name == "parity" else 50, 1000 if name == "parity" else 4000))
    @given(command_lines(name))
    def run(argv):
        argv = [str(place / "folder") if word == "out" else word for word in argv]
        code = check_call(mains[name], argv)
        taken[code] = taken.get(code, 0) + 1

    run()
    assert taken[2] > 0, taken
    if name not in ("parity", "compare"):  # which make the output directory they are told to
        assert [path for path in listing(place) if "/folder/" not in path] == before
        assert not listing(place / "folder")


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_with_every_word(mains, place, name):
    """One option at a time, so that each is reached. In CI, a sample of it."""
    pairs = [(flag, word) for flag in OPTIONS[name] for word in [*WORDS, *FILES]]
    rng = np.random.default_rng(0)
    chosen = range(len(pairs)) if RUN_ALL else rng.choice(len(pairs), 25 if name == "parity" else 80, replace=False)
    for i in chosen:
        check_call(mains[name], [*STARTS[name][0], *pairs[i]])


@pytest.mark.parametrize("name", OPTIONS)
def test_null_bytes_are_refused_wherever_they_stand(mains, name):
    for argv in (["\0"], [*STARTS[name][0], OPTIONS[name][0], NUL], [NUL, "--help"]):
        assert check_call(mains[name], argv) == 2


def test_numbers_no_machine_can_hold(mains, place, tmp_path):
    """Refused before MindSpore starts."""
    for flag in (
        "dim",
        "channels",
        "image_size",
        "train_batch_size",
        "num_samples",
        "timesteps",
        "workers",
        "attn_heads",
    ):
        assert check_call(mains["train"], [f"--{flag}", "1000000000"]) == 2
    assert check_call(mains["train"], ["--threads", "1000000000"]) == 2
    for flag in ("grid", "interpolate"):
        assert check_call(mains["sample"], ["--checkpoint", "run", f"--{flag}", "1000000000"]) == 2
    with pytest.raises(UserError, match="make --num or --batch_size smaller"):
        sizes.check_sampling(config.Config(), 10**9, 250)
    with pytest.raises(UserError, match="make --num or --batch_size smaller"):
        sizes.check_sampling(config.Config(image_size=64), 10**6, 10**6)


def test_mutated_results_of_earlier_runs(mains, tmp_path):
    """scripts/parity.py report and scripts/bench.py --from render files that another machine made."""
    from portparity.report import schema

    file, out = tmp_path / "results.json", tmp_path / "out"
    document = {
        "format": schema.FORMAT, "command": "c", "seconds": 1.0, "candidate": "a", "reference": "b", "bundle": None,
        "environment": {}, "summary": {"agree": 0, "differ": 0, "broken": 0, "total": 0, "exit_code": 0}, "cases": [],
        "mutants": None, "rows": [], "date": "", "machine": {}, "settings": {}, "complete": True, "others": 0.0,
    }  # fmt: skip
    whole = json.dumps(document).encode()
    texts = [damaged(whole, seed) for seed in range(count(25, 2000))]
    texts += [
        json.dumps({**document, key: bad}).encode()
        for key in document
        for bad in (None, 3, "x", [], [3], {}, {"a": [1]})
    ]
    texts += [b"[" * 100000, b"", b"\xff", b"[]", b'{"format": 1}']
    for text in texts:
        file.write_bytes(text)
        check_call(mains["parity"], ["report", str(file), "--output_dir", str(out)])
        check_call(
            mains["bench"],
            ["--from", str(file), "--markdown", str(tmp_path / "m.md"), "--html", str(tmp_path / "h.html")],
        )
    assert {path.name for path in tmp_path.iterdir()} <= {"results.json", "out", "m.md", "h.html"}


PROCESSES = [
    ["train.py", "--config", "zero"], ["train.py", "--config", "fifo"],
    ["train.py", b"--output_dir=\xff\xfe\n", "--dim", "x"], ["sample.py", "--checkpoint", "loop"],
    ["evaluate.py", "--samples", "fifo"], ["evaluate.py", "--samples", "zero"],
    ["convert.py", "from-torch", "fifo", "--output_dir", "o"], ["train.py", "--image_size", "1000000000"],
]  # fmt: skip


@pytest.mark.parametrize("argv", PROCESSES if RUN_ALL else PROCESSES[1:4], ids=str)
def test_in_a_process_of_its_own(place, argv):
    before = listing(place)
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / argv[0]), *argv[1:]], cwd=place, capture_output=True, timeout=300
    )
    lines = result.stderr.decode().splitlines()
    assert result.returncode == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert listing(place) == before


# ---- where output goes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["fifo", "zero", "loop", "empty", "empty/x", "dangling/x", "/dev/null/x", "/proc/x", LONG, "d/" * 3000]
)
def test_an_output_directory_that_cannot_be_one(place, monkeypatch, name):
    from ms_ddpm import runs

    monkeypatch.chdir(place)
    before = listing(place)
    from pathlib import Path

    for make in (cli.output_directory, lambda path: runs.lock_directory(Path(path))):
        with watched(name), pytest.raises(UserError, match="output directory") as caught:
            make(name)
        check_complaint(caught.value)
    assert listing(place) == before


@pytest.mark.parametrize("name", ["\udcff\udcfe", "new\nline", "-rf", "%s", "a'b\"c", "\u202e", " "])
def test_strange_names_of_output_directories_are_names_like_any_other(tmp_path, name):
    import yaml

    folder = cli.output_directory(str(tmp_path / name))
    assert os.listdir(tmp_path) == [name]
    resolved = config.resolve({"output_dir": str(folder)}, None)
    text = yaml.safe_dump(config.to_dict(resolved), allow_unicode=True).encode()  # as train.py writes it
    (tmp_path / "c.yaml").write_bytes(text)
    assert config.resolve({}, str(tmp_path / "c.yaml")) == resolved
