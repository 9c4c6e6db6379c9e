"""``ms_ddpm.export``: a file that runs where ms_ddpm is not, and computes what the Cell does."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from ms_ddpm.errors import UserError

pytestmark = pytest.mark.graph

# Of a process that knows MindSpore alone: from a directory without ms_ddpm, with no path to it.
ELSEWHERE = """
import sys
import numpy as np
import mindspore as ms
for name in sys.argv[1:]:
    inputs = np.load(name + ".npz")
    network = ms.nn.GraphCell(ms.load(name + ".mindir"))
    np.save(name + ".npy", network(*(ms.Tensor(inputs[key]) for key in sorted(inputs.files))).asnumpy())
assert "ms_ddpm" not in sys.modules
"""


@pytest.fixture(scope="module")
def unet(mindspore):
    """The default, with its kernels where they are there, and weights that no constructor gives."""
    from ms_ddpm import Unet
    from ms_ddpm.ops.assign import set_value

    network = Unet(8, dim_mults=(1, 2), channels=1, rng=0)
    for parameter in network.trainable_params():
        set_value(parameter, parameter.asnumpy() * 1.01 + 0.01)
    return network


UNET_INPUTS = (np.random.default_rng(0).standard_normal((2, 1, 8, 12)).astype(np.float32), np.array([3, 700], np.int32))


def exported_to(folder, network, name, inputs):
    """(the Cell's output before its export, and after it; whether its graphs were there then)."""
    from mindspore.graph.api import _cell_graph_executor

    import ms_ddpm
    from ms_ddpm.training.train_step import to_inputs

    before = network(*to_inputs(inputs)).asnumpy()
    assert ms_ddpm.export(network, folder / name, *inputs) == folder / f"{name}.mindir"
    np.savez(folder / f"{name}.npz", *inputs)
    gc.collect()
    kept = [_cell_graph_executor.has_compiled(phase) for phase in network.compile_cache]
    return before, network(*to_inputs(inputs)).asnumpy(), kept


def run_elsewhere(folder, *names):
    """What the files give in a process that knows nothing of ms_ddpm."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, *names], capture_output=True, text=True, cwd=folder, env=environment,
        timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return [np.load(folder / f"{name}.npy") for name in names]


@pytest.fixture(scope="module")
def exported(unet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder")  # MindSpore itself takes no name with a space
    return folder, *exported_to(folder, unet, "unet", UNET_INPUTS)


def same(found, truth):
    """Other operators, other roundings: of float32, and not more."""
    return found.shape == truth.shape and np.abs(found - truth).max() < 3e-5 * np.abs(truth).max()


def test_the_file_computes_the_same_where_ms_ddpm_is_not(exported):
    folder, expected, *_ = exported
    assert same(*run_elsewhere(folder, "unet"), expected)


@pytest.mark.slow
def test_so_does_every_other_network(mindspore, tmp_path):
    from ms_ddpm import BasicNet, Unet
    from ms_ddpm.models.autoencoder import AutoEncoder
    from ms_ddpm.models.conditional_unet import ConditionalScoreUnet, LatentScoreUnet
    from ms_ddpm.models.score_unet import ScoreUnet
    from ms_ddpm.nn.sde import VESDE

    rng = np.random.default_rng(1)

    def images(channels, side):
        return rng.random((2, channels, side, side), dtype=np.float32)

    std, times, labels = VESDE(25.0).marginal_prob_std, np.array([0.1, 0.9], np.float32), np.array([0, 2], np.int32)
    steps, of_score = np.array([3, 700], np.int32), {"channels": (32, 32, 32, 32), "embed_dim": 8, "rng": 0}
    of_classes = {"text_dim": 8, "num_classes": 3, "null_class": False}
    networks = {
        "2022": (Unet(8, dim_mults=(1, 2), channels=1, norm="group", downsample="conv", rng=0), images(1, 8), steps),
        "self_condition": (Unet(8, dim_mults=(1,), self_condition=True, rng=0), images(3, 8), steps, images(3, 8)),
        "score": (ScoreUnet(std, **of_score), images(1, 28), times),
        "classes": (ConditionalScoreUnet(std, **of_score, **of_classes), images(1, 28), times, labels),
        "latent": (LatentScoreUnet(std, (4, 8, 8, 8), 8, **of_classes, rng=0), images(4, 10), times, labels),
        "basic": (BasicNet(1, 1, rng=0), images(1, 28)),
        "autoencoder": (AutoEncoder((2, 3, 2), rng=0).set_train(False), images(1, 28)),
    }
    expected = {}
    for name, (network, *inputs) in networks.items():
        before, after, _ = exported_to(tmp_path, network, name, inputs)
        assert np.array_equal(before, after), name
        expected[name] = before
    for name, found in zip(expected, run_elsewhere(tmp_path, *expected), strict=True):
        assert same(found, expected[name]), name


def test_the_cell_stays_as_it_is(exported, unet):
    from ms_ddpm.ops import kernels

    _, before, after, _ = exported
    assert np.array_equal(before, after)
    assert unet.by_kernels == (not kernels.why_not())


def test_an_export_keeps_the_graphs_of_the_cell(exported):
    """A copy of a Cell takes the first one's graphs along when it goes (MindSpore 2.10), and it compiles again."""
    assert exported[3] == [True]


def test_nothing_else_is_left_and_the_file_is_replaced(exported, unet, monkeypatch):
    import ms_ddpm

    folder = exported[0]
    path = folder / "unet.mindir"
    assert {p.name for p in folder.iterdir()} <= {"unet.mindir", "unet.npz", "unet.npy"}
    content = path.read_bytes()

    def fails(*args, **kwargs):
        raise RuntimeError("the first line\nthe second")

    monkeypatch.setattr("mindspore.export", fails)
    with pytest.raises(
        UserError, match=r"^cannot export Unet with the inputs Float32 \(2, 1, 8, 12\), .*the first line$"
    ):
        ms_ddpm.export(unet, path, *UNET_INPUTS)
    assert path.read_bytes() == content
    assert {p.name for p in folder.iterdir()} <= {"unet.mindir", "unet.npz", "unet.npy"}


def test_inputs_that_do_not_fit_are_one_line_and_leave_the_context_alone(mindspore, unet, tmp_path):
    import ms_ddpm

    before = mindspore.get_context("jit_syntax_level")
    with pytest.raises(UserError, match=r"^cannot export Unet with the inputs Float32 \(2, 5, 8, 8\): .+"):
        ms_ddpm.export(unet, tmp_path / "x", np.zeros((2, 5, 8, 8)))
    assert mindspore.get_context("jit_syntax_level") == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cell", "name", "inputs", "words"),
    [
        (None, "x", ["noise"], r"^input 1 is 'noise', expected a Tensor, an array, a number or None$"),
        (None, "x", [1.0, np.array(["a"])], r"^input 2 is an array of dtype <U1, expected numbers$"),
        (None, "file/x", [1.0], r"^cannot write .*file/x.mindir: (Not a directory|File exists)$"),
        (None, "folder.mindir", [1.0], r"^cannot write .*folder.mindir: it is a directory$"),
        (print, "x", [1.0], r"^export takes a Cell, not <built-in function print>; put a function"),
    ],
)
def test_what_cannot_be_exported_is_said(unet, tmp_path, cell, name, inputs, words):
    import ms_ddpm

    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mindir").mkdir()
    with pytest.raises(UserError, match=words):
        ms_ddpm.export(cell or unet, tmp_path / name, *inputs)


def test_too_many_weights_for_one_file(unet, tmp_path, monkeypatch):
    import ms_ddpm
    from ms_ddpm import mindir

    monkeypatch.setattr(mindir, "LARGEST", 1000)
    with pytest.raises(UserError, match=r"^the weights take \d+\.\d GiB, and one MINDIR file holds at most 1 GiB$"):
        ms_ddpm.export(unet, tmp_path / "x", 1.0)
