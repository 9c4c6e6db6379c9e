"""Weights of every release of denoising-diffusion-pytorch: which layout, and what its Trainer takes back."""

import gzip
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from ms_ddpm import checkpoint
from ms_ddpm.config.layouts import LAYOUTS
from ms_ddpm.errors import UserError
from ms_ddpm.storage import torch_files
from ms_ddpm.systems.diffusion import torch_releases
from tests.conftest import ROOT, relative_rms
from tests.processes import imported

ANSWERS = load_file(ROOT / "tests" / "fixtures" / "torch_releases.safetensors")  # of releases, made by the releases
OF_NORM = {
    norm: [release for release in ANSWERS if torch_releases.row_of(torch_releases.read_version(release)).norm == norm]
    for norm in LAYOUTS
}
MACHINE = {"device_target": "CPU", "device_id": None, "mode": 0, "threads": None, "matmul_precision": "highest"}


@pytest.fixture(scope="module")
def convert_script():
    from ms_ddpm.cli import convert

    return convert


@pytest.fixture(scope="module")
def fixtures():
    pytest.importorskip("torch")
    return imported("tests/fixtures/make_torch_fixtures.py")


def downsample_of(release):
    return "conv" if torch_releases.read_version(release) <= torch_releases.CONV_DOWN[1] else "unshuffle"


# --- the arithmetic --------------------------------------------------------------------------------------------------


def test_every_layout_has_releases_that_were_run():
    assert all(OF_NORM.values()), OF_NORM
    newest = [OF_NORM[norm][-1] for norm in LAYOUTS]
    assert all(relative_rms(ANSWERS[a], ANSWERS[b]) > 1e-5 for a in newest for b in newest if a != b)


def reference_of(fixtures, norm, downsample):
    """torch_ref's network of a layout with the weights that the releases had, and these."""
    import torch

    import torch_ref

    net = torch_ref.Unet(**fixtures.SMALL, norm=norm, downsample=downsample)
    state = fixtures.weights_of({name: tuple(value.shape) for name, value in net.state_dict().items()})
    net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return net, state


@pytest.mark.parametrize("release", ANSWERS)
def test_the_reference_answers_what_the_release_answered(fixtures, release):
    import torch

    norm = torch_releases.row_of(torch_releases.read_version(release)).norm
    net, _ = reference_of(fixtures, norm, downsample_of(release))
    x, t, cond = fixtures.question()
    with torch.no_grad():
        y = net(*map(torch.from_numpy, (x, t.astype(np.int64), cond))).numpy()
    assert relative_rms(y, ANSWERS[release]) < 2e-6


@pytest.mark.parametrize("release", ["1.7.0", "1.7.2", "1.8.0"])
def test_mindspore_answers_what_the_release_answered(mindspore, fixtures, release):
    """The layouts that no parity case has: there it is the reference that ours is compared with."""
    from ms_ddpm import Unet, convert

    norm = torch_releases.row_of(torch_releases.read_version(release)).norm
    net = Unet(**fixtures.SMALL, norm=norm, rng=1)
    convert.from_torch(net, reference_of(fixtures, norm, "unshuffle")[1])
    y = net(*map(mindspore.Tensor, fixtures.question())).asnumpy()
    assert relative_rms(y, ANSWERS[release]) < 2e-6


def test_a_release_of_the_other_arithmetic_is_far_away():
    """What a file of 1.7.x became before its release was looked at."""
    for norm in ("group-1.7.0", "group-1.7.1", "group-1.7.2", "group-1.7.4"):
        assert relative_rms(ANSWERS["1.6.4"], ANSWERS[OF_NORM[norm][0]]) > 0.05


# --- which release ---------------------------------------------------------------------------------------------------

RMS = ("downs.0.0.block1.norm.g", "downs.1.0.block1.norm.g", "downs.0.3.1.weight", "mid_attn.mem_kv")
GROUP = ("downs.0.0.block1.norm.weight", "downs.1.0.block1.norm.weight")
WRAPPED = (*GROUP, "downs.0.2.fn.norm.g", "mid_attn.fn.norm.g")


def state(*names, tables=()):
    """The least of a state dict: names, with nothing in them."""
    return {**{f"model.{name}": np.zeros(1, np.float32) for name in names}, **dict.fromkeys(tables, np.zeros(1))}


CONV = state(*WRAPPED, "downs.0.3.weight", tables=["p2_loss_weight"])
P2 = state(*WRAPPED, "downs.0.3.1.weight", tables=["p2_loss_weight"])
SNR = state(*WRAPPED, "downs.0.3.1.weight", tables=["loss_weight"])
INSIDE = state(*GROUP, "downs.0.3.1.weight", tables=["loss_weight"])
MEMORY = state(*GROUP, "downs.0.3.1.weight", "mid_attn.mem_kv", tables=["loss_weight"])
NEW = state(*RMS, tables=["loss_weight"])
BIASED = {name.replace("model.", "denoise_fn."): value for name, value in CONV.items()} | {
    "denoise_fn.downs.0.2.fn.norm.b": np.zeros(1)
}


@pytest.mark.parametrize(
    ("arrays", "version", "norm"),
    [
        (P2, "1.0.0", "group"), (P2, "1.4.6", "group"), (SNR, "1.5.0", "group"), (SNR, "1.6.4", "group"),
        (SNR, "1.7.0", "group-1.7.0"), (SNR, "1.7.1", "group-1.7.1"), (SNR, "1.7.2", "group-1.7.2"),
        (SNR, "1.7.3", "group-1.7.2"), (SNR, "1.7.4", "group-1.7.4"), (SNR, "1.7.7", "group-1.7.4"),
        (INSIDE, "1.8.0", "group-1.8.0"), (INSIDE, "1.8.15", "group-1.8.0"), (MEMORY, "1.9.0", "group-1.9.0"),
        (MEMORY, "1.11.1", "group-1.9.0"), (NEW, "2.0.0", "rms"), (NEW, "2.3.4", "rms"), (NEW, "9.0.0", "rms"),
        # The names alone say enough, or the Trainer is somebody's own.
        (P2, None, "group"), (INSIDE, None, "group-1.8.0"), (MEMORY, None, "group-1.9.0"), (NEW, None, "rms"),
        (NEW, 3, "rms"), (state(*RMS, "downs.0.3.weight"), None, "rms"),
    ],
)  # fmt: skip
def test_a_file_is_of_the_layout_of_its_release(arrays, version, norm):
    assert torch_releases.norm_of(arrays, version, None, None, "m.pt") == norm


@pytest.mark.parametrize(
    ("arrays", "version", "release", "chosen", "words"),
    [
        (SNR, None, None, None, ["does not say its release", "1.5.0 to 1.7.7", "1.7.2 to 1.7.3", "--release 1.7.7"]),
        (CONV, None, None, None, ["0.26.5 to 0.31.1", "0.26.5 to 0.27.12 (does not convert)", "--release 0.31.1"]),
        (CONV, None, "0.27.5", None, ["release 0.27.5", "does not convert", "attention in the middle"]),
        (BIASED, None, None, None, ["0.0.1 to 0.26.4", "does not convert", "a bias"]),
        (SNR, "1.6.4", "1.7.0", None, ["says that it is of release 1.6.4", "--release is '1.7.0'"]),
        (SNR, "2.3.4", None, None, ["cannot be of release 2.3.4", "1.5.0 to 1.7.7"]),
        (NEW, None, "1.7.0", None, ["cannot be of release 1.7.0", "2.0.0 or later"]),
        (SNR, "1.7.5", None, "group", ["release 1.7.5", "norm: group-1.7.4", "norm: group;"]),
        (SNR, None, "newest", None, ["--release is 'newest'", "such as 2.3.4"]),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(arrays, version, release, chosen, words):
    with pytest.raises(UserError) as caught:
        torch_releases.norm_of(arrays, version, release, chosen, "m.pt")
    message = str(caught.value)
    assert all(word in message for word in ["m.pt"[: 0 if release == "newest" else 4], *words]), message


@pytest.mark.parametrize(
    ("arrays", "version", "release", "again"),
    [
        (P2, "1.4.1", None, False), (P2, "1.4.2", None, True), (P2, None, "1.0.0", False), (P2, None, None, True),
        (CONV, None, None, False), (NEW, None, None, True),
    ],
)  # fmt: skip
def test_ddim_goes_on_as_its_release_did(arrays, version, release, again):
    """1.4.2 was the first to derive the noise again where x_0 was clipped."""
    assert torch_releases.rederives(arrays, version, release) is again


@pytest.mark.parametrize(("arrays", "release", "norm"), [(SNR, "1.7.1", "group-1.7.1"), (CONV, "0.30", "group")])
def test_the_user_can_say_which_release(arrays, release, norm):
    assert torch_releases.norm_of(arrays, None, release, None, "m.pt") == norm


@pytest.mark.parametrize(
    ("norm", "downsample", "wanted", "release"),
    [
        ("rms", "unshuffle", None, "2.3.4"), ("group", "conv", None, "0.31.1"), ("group", "unshuffle", None, "1.4.6"),
        ("group", "unshuffle", "1.6.4", "1.6.4"), ("group-1.7.2", "unshuffle", None, "1.7.3"),
    ],
)  # fmt: skip
def test_a_network_goes_to_a_release_that_has_it(norm, downsample, wanted, release):
    assert torch_releases.release_like(norm, downsample, wanted) == release
    for other in ("1.7.0", "2.3.4" if norm != "rms" else "1.6.4", "0.31.1" if downsample != "conv" else "1.4.6", "x"):
        with pytest.raises(UserError, match=f"--release is '{other}', expected one with the network norm: {norm}"):
            torch_releases.release_like(norm, downsample, other)


def test_a_configuration_says_which_layout_where_the_file_does_not():
    assert torch_releases.norm_of(SNR, None, None, "group-1.7.2", "m.pt") == "group-1.7.2"
    assert torch_releases.newer_than_known("2.4.0") == "2.4.0"
    assert torch_releases.newer_than_known("2.3.4") == torch_releases.newer_than_known(None) == ""


def test_noise_schedules_and_weights_of_faulty_releases_are_named(mindspore):
    from ms_ddpm import schedules
    from ms_ddpm.systems.diffusion.weights import infer_diffusion

    betas = schedules.beta_schedule("sigmoid", 100)
    ends_in_noise = np.append(betas[:-1], 1.0)
    with pytest.raises(UserError, match=r"last beta is 1, .* 1\.6\.0 and 1\.6\.1"):
        infer_diffusion({"betas": ends_in_noise})
    abar = schedules.diffusion_tables(betas)["alphas_cumprod"]
    snr = abar / (1 - abar)
    with pytest.raises(UserError, match=r"pred_v with min_snr_loss_weight in releases 1\.5\.0 to 1\.5\.2"):
        infer_diffusion({"betas": betas, "loss_weight": np.maximum(snr, 5) / (snr + 1)})
    found = infer_diffusion({"betas": betas, "loss_weight": np.minimum(snr, 5) / (snr + 1)})
    assert found == {
        "timesteps": 100, "beta_schedule": "sigmoid", "objective": "pred_v", "min_snr_loss_weight": True
    }  # fmt: skip


# --- whole files -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def converted(mindspore, convert_script, fixtures, tmp_path_factory):
    """A Trainer's file of "release 1.7.6", as far as the library's Trainer writes one, and what it converts to."""
    import torch

    import torch_ref

    folder = tmp_path_factory.mktemp("releases")
    options = {**fixtures.SMALL, "self_condition": False, "norm": "group-1.7.4"}
    model, average = (
        torch_ref.GaussianDiffusion(torch_ref.Unet(**options, rng=seed), image_size=(4, 6), timesteps=20)
        for seed in (1, 2)
    )
    ema = {f"ema_model.{name}": value for name, value in average.state_dict().items()}
    ema |= {"initted": torch.tensor([True]), "step": torch.tensor([77])}
    whole = {"step": 70, "model": model.state_dict(), "ema": ema, "opt": {}, "scaler": None, "version": "1.7.6"}
    torch.save(whole, folder / "m.pt")
    args = {"file": str(folder / "m.pt"), "config": None, "image_size": ["4", "6"], "objective": None, "release": None}
    assert convert_script.from_torch({**args, "output_dir": str(folder / "run"), **MACHINE}) == 0
    return folder, model, average


def test_a_trainer_s_file_is_converted_by_its_version(converted):
    folder, model, average = converted
    found = checkpoint.load(checkpoint.locate(folder / "run"))
    assert found.state["config"]["norm"] == "group-1.7.4"
    assert (found.step, found.state["training"]["ema_calls"]) == (70, 77)
    for group, source in (("model", model), ("ema", average)):
        value = source.state_dict()["model.mid_attn.fn.fn.to_qkv.weight"].numpy()
        assert np.array_equal(found.arrays[group]["model.mid_attn.to_qkv.weight"], value)


@pytest.mark.parametrize("norm", ["rms", "group"])
def test_parameters_come_in_pytorch_s_order(mindspore, fixtures, norm):
    import torch_ref
    from ms_ddpm import GaussianDiffusion, Unet, convert
    from ms_ddpm.systems.diffusion.weights import parameter_order

    options = {**fixtures.SMALL, "norm": norm, "random_fourier_features": True}
    diffusion = GaussianDiffusion(Unet(**options, rng=1, use_kernels=False), image_size=8, timesteps=20)
    names = convert.torch_names(diffusion)
    order = [names[ours] for ours in parameter_order(diffusion)]
    reference = [f"model.{name}" for name, _ in torch_ref.Unet(**options).named_parameters()]
    # The library makes both ways before the middle, the reference in the order of use.
    way = ["init_conv", "time_mlp", "downs", "ups", "mid_block1", "mid_attn", "mid_block2", "final_res_block"]
    reference.sort(key=lambda name: [*way, "final_conv"].index(name.split(".")[1]))
    # Its PreNorm has its norm behind what it wraps, the reference before it.
    outer = [name for name in reference if name.endswith(".fn.norm.g")]
    assert [name for name in order if name not in outer] == [name for name in reference if name not in outer]
    for name in outer:
        before = order[order.index(name) - 1]
        assert before.startswith(name.removesuffix("norm.g") + "fn.to_out"), (before, name)
    assert len(outer) == (5 if norm == "group" else 0)


class Average:
    """ema-pytorch's module, as far as its state goes: ``single`` as before 0.4."""

    def __new__(cls, model, single):
        import copy

        import torch

        module = torch.nn.Module()
        module.online_model, module.ema_model = model, copy.deepcopy(model)
        module.register_buffer("initted", torch.Tensor([False]) if single else torch.tensor(False))
        module.register_buffer("step", torch.tensor([0]) if single else torch.tensor(0))
        return module


def test_a_trainer_loads_what_to_torch_writes(mindspore, converted, convert_script, fixtures, monkeypatch, tmp_path):
    """Step, weights, averaged weights, the optimizer's moments under each parameter: nothing is exchanged."""
    import torch

    import torch_ref
    from ms_ddpm import convert, recipes
    from ms_ddpm.systems.diffusion.weights import parameter_order

    folder, model, average = converted
    path = checkpoint.locate(folder / "run")
    found = checkpoint.load(path)
    rng = np.random.default_rng(0)
    moments = {name: rng.random(value.shape).astype(np.float32) for name, value in found.arrays["optimizer"].items()}
    moments["steps"] = np.full(1, 70, np.float32)
    kept = {key: value for key, value in found.state.items() if key not in ("files", "sha256", "step")}
    checkpoint.save(tmp_path / "checkpoints", 70, {**found.arrays, "optimizer": moments}, kept)
    output = tmp_path / "model-1.pt"
    args = {"checkpoint": str(tmp_path), "output": str(output), "weights": "ema", "release": None, **MACHINE}
    assert convert_script.to_torch(args) == 0

    content = torch.load(output, weights_only=True)
    assert set(content) == {"step", "model", "opt", "ema", "scaler", "version"}
    assert (content["step"], content["scaler"], content["version"]) == (70, None, "1.7.7")
    names = convert.torch_names(recipes.load(path)[0])
    ours = {theirs: name for name, theirs in names.items()}
    options = {**fixtures.SMALL, "self_condition": False, "norm": "group-1.7.4"}
    for single in (False, True):
        other = torch_ref.GaussianDiffusion(torch_ref.Unet(**options, rng=3), image_size=(4, 6), timesteps=20)
        other.load_state_dict(content["model"])
        ema = Average(other, single)
        ema.load_state_dict(content["ema"])
        assert (int(ema.step), bool(ema.initted)) == (77, True)
        for trained, source in ((other, model), (ema.ema_model, average)):
            for (name, value), expected in zip(trained.named_parameters(), source.parameters(), strict=True):
                assert torch.equal(value, expected), name
    parameters = dict(other.named_parameters())
    in_order = [parameters[names[name]] for name in parameter_order(recipes.load(path)[0])]
    optimizer = torch.optim.Adam(in_order, lr=1.0, betas=(0.5, 0.5))
    optimizer.load_state_dict(content["opt"])
    assert optimizer.param_groups[0]["lr"] == 1e-4
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    for name, parameter in parameters.items():
        moment = optimizer.state[parameter]
        assert moment["step"] == 70
        for key in ("exp_avg", "exp_avg_sq"):
            assert np.array_equal(moment[key].numpy(), moments[f"{key}.{ours[name]}"]), name
    # An optimizer that never stepped is a fresh one.
    assert convert_script.to_torch({**args, "checkpoint": str(folder / "run")}) == 0
    assert torch.load(output, weights_only=True)["opt"]["state"] == {}


# --- what a file is --------------------------------------------------------------------------------------------------


def test_what_a_file_is_its_beginning_tells_not_its_name(convert_script, tmp_path):
    torch = pytest.importorskip("torch")
    weights = {"module.w": np.arange(3, dtype=np.float32)}
    path = tmp_path / "really.pt"
    path.write_bytes(save(weights))
    assert np.array_equal(torch_files.read(path)["model"]["w"], weights["module.w"])
    path = tmp_path / "really.safetensors"
    torch.save({"w": torch.arange(3.0), "version": "1.7.0"}, path)
    read = torch_files.read(path)
    assert (read["version"], list(read["model"])) == ("1.7.0", ["w"])
    torch.save({"w": torch.arange(3.0)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert list(torch_files.read(tmp_path / "old.pt")["model"]) == ["w"]


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m.ckpt"])
def test_a_file_that_is_something_else_is_called_that(convert_script, tmp_path, name):
    import io
    import zipfile

    pytest.importorskip("torch")
    arrays, archive = io.BytesIO(), io.BytesIO()
    np.savez(arrays, w=np.zeros(2))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("model.bin", "x")
    named = b"\x0a\x06weight\x12\x10" + b"\x00" * 16  # a value of MindSpore's: its name, and its tensor
    kinds = {
        b"": "an empty file", gzip.compress(b"x"): "a gzip file; unpack it first",
        arrays.getvalue(): "a .npz file of numpy arrays", archive.getvalue(): "a zip archive that is no PyTorch file",
        b"PK\x03\x04cut short": "a damaged zip archive", b"<!DOCTYPE html><html>": "a web page",
        b"version https://git-lfs.github.com/spec/v1\n": "a Git LFS pointer",
        b"\x0a" + bytes([len(named)]) + named: "a MindSpore checkpoint, not a PyTorch file; run: convert.py from-mind",
        pickle.dumps({"w": print}, 2): "refused: it holds pickled objects, which could run code",
    }  # fmt: skip
    for content, words in kinds.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            torch_files.read(tmp_path / name)
        assert words in str(caught.value), str(caught.value)
        assert str(tmp_path / name) in str(caught.value)
        assert ("pickled" in str(caught.value)) == (b"print" in content)
