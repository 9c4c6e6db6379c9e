"""MindSpore checkpoints of other ports: found by names, loaded, and what is not a network here is called what it is."""

import numpy as np
import pytest

from ms_ddpm import checkpoint
from ms_ddpm.errors import UserError
from ms_ddpm.storage import torch_files
from tests.conftest import relative_rms

UNET = {"dim": 8, "dim_mults": (1, 2), "channels": 1, "norm": "group", "downsample": "conv"}
CONFIG = """
dim: 8
dim_mults: [1, 2]
channels: 1
image_size: [4, 6]
norm: group
downsample: conv
objective: pred_noise
timesteps: 20
beta_schedule: cosine
"""


def as_a_port_calls_it(name):
    """PyTorch's name as a port has it that is built from MindSpore's own GroupNorm."""
    last = {"weight": "gamma", "bias": "beta"}
    stem, _, end = name.rpartition(".")
    return f"{stem}.{last[end]}" if stem.endswith((".block1.norm", ".block2.norm")) else name


@pytest.fixture(scope="module")
def networks():
    """Two networks of the reference, the second for averaged weights."""
    torch = pytest.importorskip("torch")
    import torch_ref

    found = [torch_ref.Unet(**UNET, rng=seed) for seed in (1, 2)]
    generator = torch.Generator().manual_seed(0)
    for net in found:  # no gain of 1 and no bias of 0
        net.load_state_dict(
            {k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in net.state_dict().items()}
        )
    return found


@pytest.fixture(scope="module")
def saved(mindspore, networks, tmp_path_factory):
    """A checkpoint as such a port's trainer would write it: weights, averaged weights, moments, a step."""
    path = tmp_path_factory.mktemp("port") / "model-7.ckpt"
    entries = {}
    for prefix, net in (("model.", networks[0]), ("ema..model.", networks[1])):
        entries |= {prefix + as_a_port_calls_it(name): v.numpy() for name, v in net.state_dict().items()}
    entries |= {f"moment1.{name}": value * 0 for name, value in entries.items() if name.startswith("model.")}
    entries["global_step"] = np.array([7], np.int32)
    mindspore.save_checkpoint([{"name": n, "data": mindspore.Tensor(v)} for n, v in entries.items()], str(path))
    return path


def write(mindspore, path, arrays):
    mindspore.save_checkpoint([{"name": n, "data": mindspore.Tensor(v)} for n, v in arrays.items()], str(path))
    return path


def test_a_port_s_checkpoint_denoises_to_the_same_numbers(mindspore, saved, networks, tmp_path, monkeypatch):
    import torch

    from ms_ddpm import recipes
    from ms_ddpm.cli import convert as script

    (tmp_path / "c.yaml").write_text(CONFIG)
    args = {"file": str(saved), "config": str(tmp_path / "c.yaml"), "output_dir": str(tmp_path / "run")}
    machine = {"device_target": "CPU", "device_id": None, "mode": 0, "threads": None, "matmul_precision": "highest"}
    assert script.from_mindspore({**args, **machine}) == 0
    path = checkpoint.locate(tmp_path / "run")
    assert checkpoint.read_state(path)["step"] == 7
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((2, 1, 4, 6)).astype(np.float32), np.array([3, 17], np.int32)
    for weights, net in zip(("model", "ema"), networks, strict=True):
        with torch.no_grad():
            expected = net(torch.from_numpy(x), torch.from_numpy(t).long()).numpy()
        cell, _ = recipes.load(path, weights)
        y = cell.model(mindspore.Tensor(x), mindspore.Tensor(t)).asnumpy()
        assert relative_rms(y, expected) < 2e-6, weights
    with pytest.raises(UserError, match=r"is a MindSpore checkpoint, not a PyTorch file; run: .* from-mindspore"):
        torch_files.read(saved)


@pytest.fixture(scope="module")
def unet(mindspore):
    from ms_ddpm import Unet

    return Unet(**UNET, rng=5, use_kernels=False)


def test_a_cell_of_this_library_comes_back_from_its_own_ckpt(mindspore, unet, tmp_path):
    from ms_ddpm import convert
    from ms_ddpm.storage import mindspore_files

    mindspore.save_checkpoint(unet, str(tmp_path / "own.ckpt"))
    found = mindspore_files.states(mindspore_files.read(tmp_path / "own.ckpt"), unet, "own.ckpt")
    assert list(found) == ["model"]
    expected = convert.to_torch(unet)
    assert found["model"].keys() == expected.keys()
    assert all(np.array_equal(value, expected[name]) for name, value in found["model"].items())


def test_layers_of_mindspore_have_pytorch_s_names():
    from ms_ddpm.storage import mindspore_files

    names = {
        "a.norm.gamma": "a.norm.weight", "a.norm.beta": "a.norm.bias", "bn.moving_mean": "bn.running_mean",
        "bn.moving_variance": "bn.running_var", "e.embedding_table": "e.weight", "gamma": "weight",
        "gamma.weight": "gamma.weight", "beta1_power": "beta1_power",
    }  # fmt: skip
    assert {name: mindspore_files.as_torch_names(name) for name in names} == names


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (["conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"], "it is a UNet2DModel or UNet2DConditionModel"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "it is a U-Net of Stable Diffusion or guided-diffusion"),
        (["a", "b"], "it holds 2 arrays, named 'a', 'b', and names such as init_conv.weight were expected"),
        (["moment1"], "names such as init_conv.weight were expected"),  # an optimizer alone
        (["twice"], "holds 2 networks of this kind, under 'model.', 'old.'"),
        (["lacks one"], "missing final_conv.bias"),
    ],
)
def test_what_is_not_the_network_is_said_in_one_line(mindspore, unet, arrays, words):
    from ms_ddpm import convert
    from ms_ddpm.storage import mindspore_files

    value = np.zeros(1, np.float32)
    whole = dict.fromkeys(convert.torch_names(unet).values(), value)
    special = {
        "moment1": {f"moment1.{name}": value for name in whole},
        "twice": {f"{prefix}{name}": value for prefix in ("model.", "old.") for name in whole},
        "lacks one": {f"net.{name}": value for name in whole if name != "final_conv.bias"},
    }
    given = special.get(arrays[0], dict.fromkeys(arrays, value))
    with pytest.raises(UserError) as caught:
        mindspore_files.states(given, unet, "x.ckpt")
    assert words in str(caught.value), str(caught.value)
    assert "x.ckpt" in str(caught.value)


def test_a_damaged_or_foreign_file_is_one_line(mindspore, saved, tmp_path, capfd):
    from ms_ddpm.storage import mindspore_files

    data = saved.read_bytes()
    cases = {
        data[: len(data) // 2]: "is damaged", b"": "is an empty file, expected what mindspore.save_checkpoint writes",
        b"\x80\x02}q\x00.": "is a pickle of Python objects", b"{}": "is no MindSpore checkpoint",
    }  # fmt: skip
    for content, words in cases.items():
        (tmp_path / "x.ckpt").write_bytes(content)
        with pytest.raises(UserError) as caught:
            mindspore_files.read(tmp_path / "x.ckpt")
        assert words in str(caught.value), str(caught.value)
    with pytest.raises(UserError, match=r"no file .*gone\.ckpt"):
        mindspore_files.read(tmp_path / "gone.ckpt")
    printed = capfd.readouterr()
    assert "CRITICAL" not in printed.out + printed.err


def test_half_precision_is_read(mindspore, tmp_path):
    from ms_ddpm.storage import mindspore_files

    value = np.array([1.5, -2], np.float16)
    tensors = {"half": mindspore.Tensor(value), "brain": mindspore.Tensor(value).astype(mindspore.bfloat16)}
    mindspore.save_checkpoint([{"name": n, "data": v} for n, v in tensors.items()], str(tmp_path / "x.ckpt"))
    found = mindspore_files.read(tmp_path / "x.ckpt")
    assert all(found[name].dtype == np.float32 and found[name].tolist() == [1.5, -2] for name in tensors)
