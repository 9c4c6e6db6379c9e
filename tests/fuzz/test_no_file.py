"""What is no file, under the name of one: whatever reads what somebody else made refuses it in one line that names it.

A pipe would hang the reader and a device fill the memory, so nothing but regular files is opened.
"""

import os
import shutil
import socket

import pytest

from ms_ddpm import checkpoint, config, data, images, latents
from ms_ddpm.errors import UserError
from ms_ddpm.storage import tensorfile, torch_files
from ms_ddpm_bench.speed import results
from portparity import bundles
from portparity.errors import HarnessError
from portparity.report import schema
from tests import faults
from tests.conftest import ROOT
from tests.fuzz.damage import check_complaint, watched
from tests.fuzz.test_images import SAMPLES, read_all


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # an absolute one may be too long


def make_closed(path):
    """Which does not bind root: to whom it is a text like any other."""
    path.write_text("nobody may read this")
    path.chmod(0)


KINDS = {  # name: makes it at a path
    "nothing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: os.symlink("/etc/passwd", path),
    "closed": make_closed,
    "directory": os.mkdir,
    "fifo": os.mkfifo,
    "socket": make_socket,
    "device": lambda path: os.symlink("/dev/zero", path),
    "dangling": lambda path: os.symlink("nowhere", path),
    "loop": lambda path: os.symlink(path.name, path),
}
NAMES = ["/dev/zero", "/dev/null", "/dev/random", "/dev", "/proc/self/mem", "a\0b", "", "~nobody-at-all/x", "x" * 5000]


def alone(name, read):
    """A reader of one file called ``name``."""
    return lambda folder: (folder / name, lambda: read(folder / name))


def of_checkpoint(name):
    """The reader of a checkpoint, of whose files ``name`` is taken away."""

    def prepare(folder):
        path = faults.save(folder / "checkpoints", 7)
        (path / name).unlink()
        return path / name, lambda: checkpoint.load(checkpoint.locate(folder))

    return prepare


def of_bundle(name):
    """The reader of a bundle, of whose files ``name`` is taken away."""

    def prepare(folder):
        path = shutil.copytree(ROOT / "parity_tests" / "bundles" / "maths__q_sample-cosine-pynative", folder / "bundle")
        (path / name).unlink()
        return path / name, lambda: bundles.read(path)

    return prepare


def data_set(path):
    return data.open_images(path, image_size=(8, 8), channels=1)


def pytorch_file(path):
    return torch_files.read(path)


def scheduler(path):
    from ms_ddpm.schedulers.config import read

    return read(path)


READERS = {  # name: folder -> (where the file should be, what reads it)
    "configuration": alone("c.yaml", config.from_yaml),
    "idx": alone("train-images-idx3-ubyte", data_set),
    "cifar 10": alone("data_batch_1.bin", data_set),
    "cifar 100": alone("train.bin", data_set),
    "npz": alone("set.npz", data_set),
    "samples": alone("samples.npz", images.load_npz),
    "latents": alone("latents.npz", latents.read),
    "tensors": alone("x.safetensors", tensorfile.read),
    "scheduler": alone("scheduler_config.json", scheduler),
    "pt": alone("m.pt", pytorch_file),
    "safetensors": alone("m.safetensors", pytorch_file),
    "parity's results": alone("results.json", schema.load),
    "bench's results": alone("results.json", results.load),
    **{name: of_checkpoint(name) for name in ("state.json", *(f"{group}.safetensors" for group in faults.ARRAYS))},
    **{f"bundle's {name}": of_bundle(name) for name in ("manifest.json", "data.safetensors")},
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused(tmp_path, name):
    for kind, make in KINDS.items():
        (tmp_path / kind).mkdir()
        path, read = READERS[name](tmp_path / kind)
        make(path)
        if (name, kind) == ("configuration", "empty"):  # a recipe that changes nothing
            assert read() == {}
            continue
        with watched((name, kind)), pytest.raises((UserError, HarnessError)) as caught:
            read()
        check_complaint(caught.value, path, f"{path.parent} is no bundle")


@pytest.mark.parametrize("read", [config.from_yaml, data_set, images.load_npz, latents.read])
def test_names_of_what_is_no_file_are_refused(read):
    for name in NAMES:
        with watched(name), pytest.raises(UserError) as caught:
            read(name)
        check_complaint(caught.value, name.partition("\0")[0][:100])


@pytest.mark.parametrize("name", ["x.png", "train-images-idx3-ubyte", "data_batch_1.bin", "train.bin", "set.npz"])
def test_beside_images_it_is_left_alone(tmp_path, name):
    for kind, make in KINDS.items():
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "good.png").write_bytes(SAMPLES["png"]())
        make(tmp_path / kind / name)
        read_all(tmp_path / kind)


def test_a_pointer_to_a_checkpoint_that_is_no_file_names_nothing(tmp_path):
    for kind, make in KINDS.items():
        faults.save(tmp_path / kind, 7)
        for name in ("last", "best"):
            (tmp_path / kind / name).unlink(missing_ok=True)
            make(tmp_path / kind / name)
            with watched(kind):
                assert checkpoint.named_step(tmp_path / kind, name) is None, kind
