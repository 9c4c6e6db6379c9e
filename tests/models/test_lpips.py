"""LPIPS and what stands in for it: weights from files, what the distance is, bad input."""

import subprocess
import sys

import numpy as np
import pytest

from ms_ddpm.config import Config
from ms_ddpm.errors import UserError
from ms_ddpm.storage import tensorfile
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def squeeze(mindspore):
    """(ours, PyTorch's) with equal random weights."""
    import torch

    from ms_ddpm.models.lpips import LPIPS
    from torch_ref.systems.latent.lpips import LPIPS as Reference

    ours, theirs = LPIPS("squeeze", rng=0), Reference("squeeze")
    state = {name: torch.from_numpy(p.asnumpy().copy()) for name, p in ours.parameters_and_names()}
    theirs.load_state_dict(state, strict=True)  # and so every name and shape is the published one
    return ours, theirs


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return rng.random((2, 1, 28, 28), dtype=np.float32), rng.random((2, 1, 28, 28), dtype=np.float32)


def distance(mindspore, lpips, x, y):
    return lpips(mindspore.Tensor(x), mindspore.Tensor(y)).asnumpy()


def test_an_image_is_at_distance_0_of_itself_and_the_order_does_not_matter(mindspore, squeeze, pair):
    x, y = pair
    assert np.array_equal(distance(mindspore, squeeze[0], x, x), np.zeros(2))
    there = distance(mindspore, squeeze[0], x, y)
    assert (there > 0).all()
    assert np.array_equal(there, distance(mindspore, squeeze[0], y, x))


def test_a_grey_image_is_one_of_three_equal_channels(mindspore, squeeze, pair):
    grey = distance(mindspore, squeeze[0], *pair)
    rgb = distance(mindspore, squeeze[0], *(np.repeat(image, 3, 1) for image in pair))
    assert np.allclose(grey, rgb, rtol=1e-5)


def test_the_gradient_is_finite_where_all_features_are_0(mindspore):
    from ms_ddpm.models.lpips import unit_length

    x = np.zeros((1, 3, 2, 2), np.float32)
    x[0, :, 0, 0] = 1

    def total(x):
        return unit_length(x).sum()

    gradient = mindspore.grad(total)(mindspore.Tensor(x)).asnumpy()
    assert np.isfinite(gradient).all()
    assert np.allclose(unit_length(mindspore.Tensor(x)).asnumpy()[0, :, 0, 0], 3**-0.5)


def test_a_distance_that_is_no_number_is_not_hidden(mindspore, squeeze, pair):
    """MindSpore's own ReLU of NaN is 0 on a CPU."""
    x = pair[0].copy()
    x[1, 0, 13, 13] = np.nan
    found = distance(mindspore, squeeze[0], x, pair[1])
    assert np.isfinite(found[0])
    assert np.isnan(found[1])
    fire = squeeze[0].features[3]
    seen = np.zeros((1, 64, 4, 4), np.float32)
    seen[0, 0, 0, 0] = np.nan
    squeezed = fire(mindspore.Tensor(seen)).asnumpy()
    assert np.isnan(squeezed[0, :, 0, 0]).all()
    assert np.isfinite(squeezed[0, :, 3, 3]).all()


def test_nothing_of_it_is_trained(squeeze):
    assert squeeze[0].trainable_params() == []


def save_published(folder, theirs):
    """The two files in which the weights are published, of ``theirs``."""
    import torch

    state = theirs.state_dict()
    network = {name: value for name, value in state.items() if name.startswith("features.")}
    network |= {"classifier.1.weight": torch.zeros(10, 512, 1, 1), "classifier.1.bias": torch.zeros(10)}
    torch.save(network, folder / "squeezenet.pth")
    torch.save({name: value for name, value in state.items() if name.startswith("lin")}, folder / "squeeze.pth")
    return folder / "squeezenet.pth", folder / "squeeze.pth"


def convert(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "convert.py", "lpips", *map(str, arguments)], capture_output=True, text=True
    )


def test_the_published_files_become_one_that_training_reads(mindspore, squeeze, pair, tmp_path):
    import torch

    from ms_ddpm.models.lpips import load_lpips

    output = tmp_path / "lpips.safetensors"
    done = convert(*save_published(tmp_path, squeeze[1]), "--output", output)
    assert done.returncode == 0, done.stderr
    loaded = load_lpips(output)
    truth = squeeze[1](*(torch.from_numpy(image) for image in pair)).numpy()
    assert np.allclose(distance(mindspore, loaded, *pair), truth, rtol=1e-5)


def test_the_authors_whole_state_is_read_too(squeeze):
    from ms_ddpm.models.lpips import LPIPS, lpips_of, published

    own = {name: p.asnumpy() for name, p in squeeze[0].parameters_and_names()}
    slices = {0: 1, 3: 2, 4: 2, 6: 3, 7: 3, 9: 4, 10: 5, 11: 6, 12: 7}

    def theirs(name):
        _, number, *rest = name.split(".")
        return f"net.slice{slices[int(number)]}.{number}.{'.'.join(rest)}"

    state = {theirs(name) if name.startswith("features.") else name: value for name, value in own.items()}
    state |= {
        "scaling_layer.shift": np.zeros((1, 3, 1, 1), np.float32),
        "lins.0.model.1.weight": own["lin0.model.1.weight"],
    }
    found = lpips_of(published([state]), "state")
    assert isinstance(found, LPIPS)
    assert all(np.array_equal(p.asnumpy(), own[name]) for name, p in found.parameters_and_names())


def test_half_of_the_weights_is_refused_by_name(squeeze, tmp_path):
    done = convert(save_published(tmp_path, squeeze[1])[0], "--output", tmp_path / "out.safetensors")
    assert done.returncode == 2
    assert "missing lin0.model.1.weight" in done.stderr
    assert done.stderr.count("error:") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_other_files_are_no_weights_of_lpips(mindspore, tmp_path):
    from ms_ddpm.models.lpips import load_lpips

    path = tmp_path / "other.safetensors"
    tensorfile.write(path, {"conv.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(UserError, match="no weights of LPIPS, there is no features"):
        load_lpips(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        load_lpips(path)


def test_lpips_without_weights_names_what_can_be_had_without(mindspore):
    from ms_ddpm.systems.autoencoder.perceptual import GradientLoss, build_perceptual

    config = Config(system="autoencoder", perceptual="lpips", image_size=28, channels=1)
    with pytest.raises(UserError, match="--perceptual gradient, a multi-scale gradient loss"):
        build_perceptual(config)
    assert isinstance(build_perceptual(Config(system="autoencoder", image_size=28, channels=1)), GradientLoss)
    assert build_perceptual(Config(system="autoencoder", image_size=28, channels=1, perceptual="none")) is None


def test_images_that_lpips_cannot_look_at_are_refused(squeeze, tmp_path):
    from ms_ddpm.systems.autoencoder.perceptual import PerceptualLoss, build_perceptual

    path = tmp_path / "lpips.safetensors"
    tensorfile.write(path, {name: p.asnumpy() for name, p in squeeze[0].parameters_and_names()})
    options = {"system": "autoencoder", "perceptual": "lpips", "lpips_weights": str(path)}
    assert isinstance(build_perceptual(Config(image_size=18, channels=3, **options)), PerceptualLoss)
    with pytest.raises(UserError, match="needs 17"):
        build_perceptual(Config(image_size=16, channels=3, **options))
    with pytest.raises(UserError, match="1 or 3 channels"):
        build_perceptual(Config(image_size=28, channels=4, **options))


def test_the_smallest_image_is_where_pytorch_still_has_features(mindspore):
    import torch

    from ms_ddpm.models.lpips import NETWORKS, smallest_side
    from torch_ref.systems.latent.lpips import LPIPS as Reference

    for net in NETWORKS:
        side = smallest_side(net)
        image = torch.rand(1, 3, side, side)
        reference = Reference(net)
        assert reference(image, image).shape == (1,)
        small = torch.rand(1, 3, side - 1, side - 1)
        with pytest.raises(RuntimeError, match=r"[Oo]utput size"):
            reference(small, small)


@pytest.mark.slow
def test_vgg_is_pytorchs(mindspore):
    import torch

    from ms_ddpm.models.lpips import LPIPS
    from torch_ref.systems.latent.lpips import LPIPS as Reference

    ours, theirs = LPIPS("vgg", rng=0), Reference("vgg")
    theirs.load_state_dict({name: torch.from_numpy(p.asnumpy().copy()) for name, p in ours.parameters_and_names()})
    rng = np.random.default_rng(0)
    x, y = (rng.random((2, 3, 32, 20), dtype=np.float32) for _ in range(2))
    truth = theirs.double()(torch.from_numpy(x).double(), torch.from_numpy(y).double()).numpy()
    assert np.allclose(distance(mindspore, ours, x, y), truth, rtol=1e-5)


def test_the_gradient_loss_sees_edges_and_not_brightness(mindspore):
    from ms_ddpm.systems.autoencoder.perceptual import GradientLoss

    loss = GradientLoss()
    x = np.zeros((1, 1, 16, 16), np.float32)
    x[..., 5:9, 5:9] = 1

    def of(y):
        return float(loss(mindspore.Tensor(x), mindspore.Tensor(y)).asnumpy())

    moved = np.roll(x, 1, axis=3)
    blurred = (np.roll(x, 1, 3) + x + np.roll(x, -1, 3)) / 3
    assert of(x) == 0
    assert of(x + np.float32(0.25)) < 1e-6
    assert of(moved) > of(blurred) > 0.01
