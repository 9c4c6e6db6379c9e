"""Several workers: what they compute together, what they leave behind, and how a job ends that loses one."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ms_ddpm import checkpoint
from ms_ddpm.devices.distributed import Group, check_launch
from ms_ddpm.devices.watch import Watch
from ms_ddpm.errors import UserError
from tests.cli.test_cli import TINY, refused
from tests.conftest import ROOT
from tests.processes import script

STEPS, EVERY = 12, 6
RUN = [*TINY, "--dim_mults", "1", "--flip", "--train_num_steps", str(STEPS), "--save_and_sample_every", str(EVERY)]
# Only what two workers compute is compiled, in the fixture `two`; of how a job goes on and ends PyNative shows as much.
PYNATIVE = ["--mode", 1]
ENDLESS = ["--train_num_steps", 4000, "--save_and_sample_every", 4000]
MSRUN = str(Path(sys.executable).with_name("msrun"))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Job:
    """train.py under msrun with two workers, in a directory of its own."""

    def __init__(self, folder, *args, workers=2):
        self.folder, self.logs = folder, folder.with_name(f"{folder.name}-logs")
        command = [
            MSRUN, f"--worker_num={workers}", f"--local_worker_num={workers}", f"--master_port={free_port()}",
            "--join=True", f"--log_dir={self.logs}", str(ROOT / "scripts" / "train.py"), "--distribute", *RUN,
            *map(str, args), "--output_dir", str(folder),
        ]  # fmt: skip
        environment = {**os.environ, "MS_NODE_TIMEOUT": "6"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        self.terminal = folder.with_name(f"{folder.name}-terminal")
        with open(self.terminal, "w") as terminal:
            self.process = subprocess.Popen(command, env=environment, stdout=terminal, stderr=subprocess.STDOUT)

    def wait(self):
        """(exit code, everything that was said)."""
        code = self.process.wait(timeout=500)
        self.gone()
        logs = [self.terminal, *sorted(self.logs.glob("*.log"))]
        return code, "".join(path.read_text(errors="replace") for path in logs)

    def worker(self, rank):
        """Process number of a worker proper: the child of the process that msrun started."""
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = dict(pair.split("=", 1) for pair in environ.read_text().split("\0") if "=" in pair)
            except (OSError, UnicodeDecodeError):
                continue
            if (
                variables.get("MS_NODE_ID") == str(rank)
                and variables.get("MS_ROLE") == "MS_WORKER"
                and "MS_DDPM_SUPERVISOR" in variables
                and str(self.folder) in (environ.parent / "cmdline").read_text()
            ):
                return int(environ.parent.name)
        return None

    def gone(self):
        """Waits for the workers to end, which outlive msrun by what it takes to save."""
        while any(self.worker(rank) for rank in range(3)):
            time.sleep(0.05)
        for command in Path("/proc").glob("[0-9]*/cmdline"):  # msrun's `tail -f`, when msrun itself was killed
            with contextlib.suppress(OSError, IndexError):
                words = command.read_text().split("\0")
                if Path(words[0]).name == "tail" and str(self.logs) in words[2]:
                    os.kill(int(command.parent.name), signal.SIGKILL)

    def reach(self, step):
        """Waits until worker 0 has written the log line of ``step``."""
        log = self.folder / "log.jsonl"
        while not (log.exists() and any(f'"step": {n},' in log.read_text() for n in range(step, 10 * step + 10))):
            assert self.process.poll() is None, self.wait()[1][-3000:]
            time.sleep(0.02)


def arrays(folder, step=STEPS):
    loaded = checkpoint.load(folder / "checkpoints" / checkpoint.step_name(step))
    return {f"{group}.{name}": value for group, found in loaded.arrays.items() for name, value in found.items()}


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_run(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, atol=tolerance, rtol=0, err_msg=name)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run of two workers that nothing disturbed for `STEPS` steps; then worker 1 alone was told to stop."""
    folder = tmp_path_factory.mktemp("distributed") / "two"
    job = Job(folder, "--log_every", 1, *ENDLESS[:2], "--keep_checkpoint_max", 0)
    job.reach(STEPS + 1)
    os.kill(job.worker(1), signal.SIGTERM)
    _, said = job.wait()
    return folder, said


def test_two_workers_train_as_one_with_twice_the_batches(two, tmp_path):
    """The same images, flips, draws; gradients and weights differ by the order of a sum."""
    folder, _ = two
    alone = tmp_path / "alone"
    options = [*PYNATIVE, "--log_every", 1, "--gradient_accumulate_every", 2]
    assert script("train", *RUN, *options, "--output_dir", alone).returncode == 0
    assert_same_run(arrays(folder), arrays(alone), 2e-6)
    for ours, theirs in zip(log_of(folder)[:STEPS], log_of(alone), strict=True):
        for key in ("loss", "grad_norm"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5)
    half = tmp_path / "half"
    one = [*PYNATIVE, "--train_num_steps", 1, "--save_and_sample_every", 1]
    assert script("train", *RUN, *one, "--output_dir", half).returncode == 0
    assert log_of(half)[0]["loss"] != pytest.approx(log_of(folder)[0]["loss"], rel=1e-3)


def test_worker_0_alone_writes(two):
    folder, said = two
    assert sorted(os.listdir(folder)) == [".lock", "checkpoints", "config.yaml", "log.jsonl", "samples"]
    assert [record["step"] for record in log_of(folder)[:STEPS]] == list(range(1, STEPS + 1))
    assert said.count("stopped at step") == 2  # in worker 0's log and, by msrun, on the terminal
    assert "2 workers" in said


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_goes_on_with_another_number_of_workers(two, tmp_path, workers):
    """From step 6 of two workers; with 1 worker and twice the batches it is the run that two had finished."""
    folder = tmp_path / "resumed"
    options = [*PYNATIVE, "--resume", two[0] / "checkpoints" / checkpoint.step_name(EVERY)]
    if workers == 1:
        result = script("train", *RUN, *options, "--gradient_accumulate_every", 2, "--output_dir", folder)
        assert result.returncode == 0, result.stderr
        assert_same_run(arrays(folder), arrays(two[0]), 2e-6)
        return
    code, said = Job(folder, *options, workers=3).wait()
    assert code == 0, said[-3000:]
    assert "is of 2 worker(s), now there are 3: 3 batches of 4 a step instead of 2" in said
    state = checkpoint.read_state(folder / "checkpoints" / checkpoint.step_name(STEPS))["training"]
    assert (state["workers"], state["batches_seen"]) == (3, 2 * EVERY + 3 * (STEPS - EVERY))


def test_a_lost_worker_ends_the_job_with_a_message_and_a_checkpoint(two, tmp_path):
    """kill -9 of worker 1 between two checkpoints; the run that is continued is the run that lost nobody."""
    folder = tmp_path / "lost"
    options = [*PYNATIVE, "--log_every", 1, *ENDLESS]
    job = Job(folder, *options)
    job.reach(3)
    os.kill(job.worker(1), signal.SIGKILL)
    code, said = job.wait()
    assert code != 0
    assert "worker 1 of 2 was lost" in said
    (step,) = checkpoint.steps(folder / "checkpoints")
    assert f"the last checkpoint is {folder}/checkpoints/{checkpoint.step_name(step)}" in said
    done = [record["step"] for record in log_of(folder)]
    assert step in (done[-1], done[-1] + 1), "the checkpoint is of the last step that all workers did"
    last = str(step + 3)
    ends = [
        *PYNATIVE,
        "--log_every",
        1,
        "--train_num_steps",
        last,
        "--save_and_sample_every",
        last,
        "--gradient_accumulate_every",
        2,
    ]
    for name, args in (("lost", ()), ("never-lost", ())):
        result = script("train", *RUN, *ends, *args, "--output_dir", tmp_path / name)
        assert result.returncode == 0, result.stderr
    assert_same_run(arrays(folder, int(last)), arrays(tmp_path / "never-lost", int(last)), 1e-5)


def stopped_together(folder, said):
    step = checkpoint.steps(folder / "checkpoints")[-1]
    assert f"stopped at step {step}; the same command continues from there" in said
    assert log_of(folder)[-1]["step"] == step
    assert "was lost" not in said
    return step


def test_sigterm_to_a_worker_stops_all_after_the_same_step_with_a_checkpoint(two):
    assert stopped_together(*two) > STEPS


@pytest.mark.slow
def test_sigterm_to_msrun_does_too(tmp_path):
    job = Job(tmp_path / "stopped", "--log_every", 1, *ENDLESS)
    job.reach(3)
    os.kill(job.process.pid, signal.SIGTERM)
    stopped_together(job.folder, job.wait()[1])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["init_from", "accept_changes"])
def test_two_workers_begin_or_go_on_with_what_was_changed_as_one_does(two, tmp_path, way):
    begun = {
        "init_from": ["--init_from", two[0], "--seed", 5],
        "accept_changes": [
            "--resume", two[0] / "checkpoints" / checkpoint.step_name(EVERY), "--adam_betas", 0.5, 0.9,
            "--accept_changes", "adam_betas",
        ],
    }[way]  # fmt: skip
    code, said = Job(tmp_path / "two", *begun, "--log_every", 1).wait()
    assert code == 0, said[-3000:]
    alone = tmp_path / "alone"
    result = script("train", *RUN, *begun, "--gradient_accumulate_every", 2, "--log_every", 1, "--output_dir", alone)
    assert result.returncode == 0, result.stderr
    assert_same_run(arrays(tmp_path / "two"), arrays(alone), 2e-6)
    differ = [name for name, value in arrays(two[0]).items() if not np.allclose(value, arrays(alone)[name], atol=1e-4)]
    assert differ, "the change changes nothing"


@pytest.mark.slow
def test_ten_kills_of_any_worker(tmp_path):
    """Workers are killed at random moments, 0 as well as 1; what is there can always be continued."""
    rng, folder = random.Random(0), tmp_path / "killed"
    options = ["--train_num_steps", 4000, "--save_and_sample_every", 40]
    before = 0
    for kill in range(10):
        job = Job(folder, *options)
        while not checkpoint.steps(folder / "checkpoints")[-1:] > [before]:
            assert job.process.poll() is None
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1))
        os.kill(job.worker(kill % 2), signal.SIGKILL)
        assert job.wait()[0] != 0
        before = checkpoint.load(checkpoint.locate(folder)).step
    last = before + 10
    job = Job(folder, "--train_num_steps", last, "--save_and_sample_every", 40)
    assert job.wait()[0] == 0
    alone = tmp_path / "alone"
    result = script(
        "train", *RUN, "--gradient_accumulate_every", 2, "--train_num_steps", last, "--save_and_sample_every", 4000,
        "--output_dir", alone,
    )  # fmt: skip
    assert result.returncode == 0
    assert json.loads((alone / "log.jsonl").read_text().splitlines()[-1])["step"] == last
    assert log_of(folder)[-1]["loss"] == pytest.approx(log_of(alone)[-1]["loss"], rel=0.2)  # hundreds of steps apart


# ---- without msrun ------------------------------------------------------------------------------------------------


def test_distribute_and_msrun_go_together(tmp_path, monkeypatch):
    refused(script("train", *TINY, "--distribute", "--output_dir", tmp_path / "x"), "msrun --worker_num 2")
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    with pytest.raises(UserError, match="without --distribute"):
        check_launch(distribute=False)
    check_launch(distribute=True)
    assert not (tmp_path / "x").exists()


def shared_gather(world):
    """`Group.gather` among threads."""
    barrier, numbers = threading.Barrier(world), {}

    def of(rank):
        def gather(mine):
            numbers[rank] = list(mine)
            barrier.wait()
            return [numbers[r] for r in range(world)]

        return gather

    return of


def watches(world):
    """A `Watch` per rank, each told of losses through a list of (rank, lost)."""
    gather, lost, found = shared_gather(world), [], {}

    def make(rank):
        found[rank] = Watch(rank, world, gather(rank), lambda other: lost.append((rank, other)))

    threads = [threading.Thread(target=make, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, lost


def test_a_watch_ends_when_all_have_said_goodbye_and_not_before():
    found, lost = watches(3)
    closing = {rank: threading.Thread(target=found[rank].close, daemon=True) for rank in found}
    for rank in (2, 0):
        closing[rank].start()
    time.sleep(0.2)
    assert closing[2].is_alive()
    assert closing[0].is_alive()
    closing[1].start()
    for thread in closing.values():
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert lost == []


@pytest.mark.parametrize(("gone", "told"), [(2, {(0, 2)}), (0, {(1, 0), (2, 0)})])
def test_a_closed_connection_is_a_lost_worker(gone, told):
    found, lost = watches(3)
    for _, peer in found[gone].peers:
        peer.shutdown(socket.SHUT_RDWR)
    while not told <= set(lost):
        time.sleep(0.01)
    assert {(rank, other) for rank, other in lost if rank != gone} == told


def test_a_worker_that_leaves_is_lost_to_the_others_and_watches_no_more():
    found, lost = watches(3)
    found[2].leave()
    found[1].leave()
    while len(lost) < 1:
        time.sleep(0.01)
    assert {rank for rank, _ in lost} == {0}


@pytest.fixture
def losing(monkeypatch):
    """Worker 0 of two without the other: (group, what was saved, exit codes)."""
    group, saved, codes = Group(), [], []
    group.world = 2
    group.on_loss(lambda: saved.append(True))
    monkeypatch.setattr(os, "_exit", codes.append)
    return group, saved, codes


@pytest.mark.parametrize("where", ["step", "_waiting"])
def test_worker_0_saves_wherever_it_waits_for_the_lost_one(losing, where):
    """In a step, and where weights are compared or the end is waited for."""
    group, saved, codes = losing
    with getattr(group, where)():
        group._lost(1)
    assert (saved, codes) == ([True], [1])


def test_a_worker_ends_even_where_nothing_can_be_said(losing, monkeypatch):
    """Its log is on the disk that is full."""
    group, _, codes = losing

    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        flush = write

    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(OSError, match="No space"), group.step():
        group._lost(1)
    assert codes == [1]


def test_a_stranger_is_not_taken_for_a_worker():
    world, gather, found = 2, shared_gather(2), {}
    ports = []

    def worker_1():
        mine = gather(1)

        def spied(numbers):
            everybody = mine(numbers)
            ports.append(everybody[0][1])
            with socket.create_connection(("127.0.0.1", ports[0])) as stranger:
                stranger.sendall(b"\0" * 12)
                assert stranger.recv(1) == b""  # turned away
            return everybody

        found[1] = Watch(1, world, spied, lambda other: None)

    thread = threading.Thread(target=worker_1)
    thread.start()
    found[0] = Watch(0, world, gather(0), lambda other: None)
    thread.join()
    assert [rank for rank, _ in found[0].peers] == [1]


def test_numbers_travel_exactly(monkeypatch):
    """48 bits and more through float32 sums."""
    numbers = {0: [2**63 + 12345, 0, 7], 1: [2**48 - 1, 65535, 2**64 - 1]}
    groups = {}
    for rank in numbers:
        group = groups[rank] = Group()
        group.rank, group.world = rank, 2
    sent = {}
    for rank, group in groups.items():
        monkeypatch.setattr(group, "_sum", lambda vector, rank=rank: sent.setdefault(rank, vector) * 0 + vector)
        group.gather(numbers[rank])
    for group in groups.values():
        monkeypatch.setattr(group, "_sum", lambda vector: sent[0] + sent[1])
        assert group.gather([0, 0, 0]) == [numbers[0], numbers[1]]


def test_a_barrier_is_a_sum_that_every_worker_must_come_to(monkeypatch):
    group = Group()
    group.barrier()  # alone there is nobody to wait for
    group.rank, group.world = 1, 2
    waited = []
    monkeypatch.setattr(group, "_sum", lambda vector: waited.append(len(vector)) or vector)
    group.barrier()
    assert len(waited) == 1


def test_workers_that_differ_are_refused_by_name():
    group = Group()
    group.gather = lambda numbers: [[5, 9], [5, 9], [5, 8]]
    with pytest.raises(UserError, match=r"worker 2 has another number of images than worker 0 \(8, 9\); same data"):
        group.agree({"step": 5, "number of images": 9}, "same data please")


SUPERVISED = """
import os, sys, signal, time
sys.path.insert(0, {root!r})
from ms_ddpm.devices.supervisor import supervise
supervise()
print("worker", os.getpid(), os.getsid(0) == os.getpid(), flush=True)
stopping = []
signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
while not stopping:
    time.sleep(0.02)
open({saved!r}, "w").write("saved")
sys.exit(143)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_worker_outlives_its_supervisor_and_saves(tmp_path, how):
    saved = tmp_path / "saved"
    code = tmp_path / "program.py"
    code.write_text(SUPERVISED.format(root=str(ROOT), saved=str(saved)))
    process = subprocess.Popen([sys.executable, str(code)], stdout=subprocess.PIPE, text=True)
    name, worker, alone = process.stdout.readline().split()
    assert (name, alone) == ("worker", "True")
    assert int(worker) != process.pid
    time.sleep(0.1)  # for the worker's signal handler
    process.send_signal(how)
    assert process.wait(timeout=60) == (143 if how != signal.SIGKILL else -9)
    while not saved.exists() or not saved.read_text():
        time.sleep(0.02)
