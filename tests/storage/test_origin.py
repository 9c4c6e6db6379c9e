"""evaluate.py measures samples against what their model was trained on: what that is, and what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from ms_ddpm import evaluation, images, origin, registry
from ms_ddpm.cli import evaluate
from ms_ddpm.config import Config, to_dict
from ms_ddpm.data import open_images
from ms_ddpm.errors import UserError


@pytest.fixture(scope="module")
def main():
    """evaluate.py, in this process."""
    return evaluate.main


def shirts(count=70, side=28):
    """Grey pictures that are no digits."""
    drawn = np.zeros((count, 1, side, side), np.float32)
    drawn[:, :, side // 4 :, side // 4 : -side // 4] = np.linspace(0.3, 1, count)[:, None, None, None]
    return drawn


@pytest.fixture
def fashion(tmp_path):
    """A folder of twelve such pictures."""
    from PIL import Image

    (tmp_path / "fashion").mkdir()
    for number, pixels in enumerate(images.to_uint8(shirts(12))[..., 0]):
        Image.fromarray(pixels).save(tmp_path / "fashion" / f"{number:02}.png")
    return tmp_path / "fashion"


@pytest.fixture
def fid(monkeypatch):
    """What evaluate_fid is given, in place of its network."""
    calls = []

    def judged(samples, reference, weights=None):
        calls.append((samples, reference))
        return {"metric": "fid", "frechet_distance": 1.0, "samples": len(samples), "reference_images": len(reference),
                "memorisation": evaluation.memorisation(samples, reference)}  # fmt: skip

    monkeypatch.setattr(evaluation, "evaluate_fid", judged)
    return calls


def write_run(folder, **values):
    """What train.py leaves of a configuration in an output directory."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(Config(**values))))
    return folder


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


# ---- where it is known from --------------------------------------------------------------------------------------


def test_samples_say_themselves_what_their_model_was_trained_on(tmp_path, fashion, monkeypatch):
    monkeypatch.chdir(fashion.parent)
    config = Config(dataset="fashion", background="black")
    images.save_npz(shirts(3), tmp_path / "s.npz", trained_on=origin.Origin.of(config).as_array())
    monkeypatch.chdir(tmp_path.parent)
    assert origin.find(tmp_path / "s.npz") == origin.Origin(str(fashion), "black")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as archive:
        assert archive.files == ["arr_0", "trained_on"]
    assert images.load_labelled_npz(tmp_path / "s.npz")[1] is None


@pytest.mark.parametrize("place", [".", "samples-6"])
def test_samples_of_an_older_run_lie_beside_its_configuration(tmp_path, place):
    run = write_run(tmp_path / "run", dataset="digits28", image_size=28)
    images.save_npz(shirts(3), run / place / "samples.npz")
    assert origin.find(run / place / "samples.npz") == origin.Origin("digits28")
    assert origin.find(tmp_path / "elsewhere.npz") is None


def test_or_beside_its_checkpoints(tmp_path):
    from ms_ddpm import checkpoint

    arrays = {name: {"w": np.zeros(1, np.float32)} for name in ("model", "ema", "optimizer")}
    state = {"config": to_dict(Config(dataset="/data/mnist")), "training": {}}
    path = checkpoint.save(tmp_path / "run" / "checkpoints", 6, arrays, state)
    for place in (tmp_path / "run" / "samples-6", path / "samples-6", tmp_path / "run"):
        images.save_npz(shirts(3), place / "samples.npz")
        assert origin.find(place / "samples.npz") == origin.Origin("/data/mnist")
    ported = {**state, "config": to_dict(Config()), "source": "model-100.pt"}  # by convert.py: trained elsewhere
    assert origin.Origin.of_checkpoint(ported, path) is None
    ported["config"]["dataset"] = "/data/mnist"  # its --config says so
    assert origin.Origin.of_checkpoint(ported, path) == origin.Origin("/data/mnist")
    state["config"] = None  # a Trainer's that was given none
    checkpoint.save(tmp_path / "library" / "checkpoints", 6, arrays, state)
    assert origin.find(tmp_path / "library" / "samples.npz") is None


@pytest.mark.parametrize("place", [".", ".."])
def test_what_lies_beside_samples_may_be_another_programs(main, tmp_path, fashion, fid, place):
    """Others have a config.yaml and a folder "checkpoints", too; with --dataset the README's line works there."""
    folder = tmp_path / "somebody" / "samples"
    folder.mkdir(parents=True)
    (folder / place / "config.yaml").write_text("model: {target: unet}\n")
    (folder / place / "checkpoints").mkdir()
    images.save_npz(shirts(), folder / "samples.npz")
    assert origin.find(folder / "samples.npz") is None
    assert main(["--samples", str(folder / "samples.npz"), "--dataset", str(fashion)]) == 0


@pytest.mark.parametrize("note", [b"", b"[]", b"{", b'{"background": 3}', b"\xff", b'{"dataset": "digits", "x": 1}'])
def test_a_damaged_note_is_no_note(tmp_path, note):
    images.save_npz(shirts(3), tmp_path / "s.npz", trained_on=np.frombuffer(note, np.uint8))
    found = origin.find(tmp_path / "s.npz")
    assert found == (origin.Origin("digits") if b"digits" in note else None)


# ---- what is measured, and what is refused -----------------------------------------------------------------------


def test_shirts_are_measured_against_shirts(main, tmp_path, fashion, fid):
    run = write_run(tmp_path / "run", dataset=str(fashion), image_size=28)
    images.save_npz(shirts(), run / "samples.npz")
    assert main(["--samples", str(run)]) == 0
    ((samples, reference),) = fid
    assert (samples.shape, reference.shape) == ((70, 28, 28, 1), (12, 28, 28, 1))
    np.testing.assert_array_equal(reference, images.to_uint8(shirts(12)))
    assert metrics(run)["metric"] == "fid"


@pytest.mark.parametrize("digits", ["digits", "digits28"])
def test_shirts_are_no_digits_whoever_says_so(main, tmp_path, fashion, digits):
    run = write_run(tmp_path / "run", dataset=str(fashion), image_size=28)
    images.save_npz(shirts(), run / "samples.npz")
    with pytest.raises(UserError) as refused:
        main(["--samples", str(run), "--dataset", digits])
    assert str(refused.value) == (
        f"--dataset {digits} measures handwritten digits, but the model of {run / 'samples.npz'} was trained on "
        f"{fashion}; leave --dataset out, or give the path of real images"
    )
    assert not (run / "metrics.json").exists()


def test_samples_that_nobody_knows_need_a_data_set(main, tmp_path):
    images.save_npz(shirts(), tmp_path / "s.npz")
    with pytest.raises(
        UserError, match=r"s\.npz does not say what its model was trained on, .* give --dataset: digits"
    ):
        main(["--samples", str(tmp_path / "s.npz")])
    assert not (tmp_path / "metrics.json").exists()


def test_a_data_set_that_is_gone_is_asked_for(main, tmp_path):
    run = write_run(tmp_path / "run", dataset="/no/such/place", image_size=28)
    images.save_npz(shirts(), run / "samples.npz")
    with pytest.raises(
        UserError, match=r"was trained on /no/such/place, which is not there; give the path .* --dataset"
    ):
        main(["--samples", str(run)])


def test_digits_are_measured_as_digits_of_both_sizes(main, tmp_path):
    for name, side in (("digits", 8), ("digits28", 28)):
        run = write_run(tmp_path / name, dataset=name, image_size=side)
        real = open_images(name, image_size=(side, side), channels=1)
        images.save_npz(real.batch(range(200)) / np.float32(255), run / "samples.npz")
        assert main(["--samples", str(run)]) == 0
        assert metrics(run)["metric"] == "digits-frechet"
        assert metrics(run)["frechet_distance"] < 2
    known = metrics(run)
    (run / "config.yaml").unlink()  # now they are somebody's, who says what they are, by either name
    for name in ("digits", "digits28"):
        assert main(["--samples", str(run), "--dataset", name]) == 0
        assert metrics(run) == known


@pytest.mark.parametrize(("name", "side"), [("digits", 28), ("digits28", 8), ("digits", 16)])
def test_digits_scaled_to_another_size_are_not_those_that_are_known(main, tmp_path, name, side):
    run = write_run(tmp_path / "run", dataset=name, image_size=side)
    images.save_npz(shirts(side=side), run / "samples.npz")
    for asked in ([], ["--dataset", "digits"]):
        with pytest.raises(
            UserError, match=f"is of {name} scaled to {side}x{side}x1, and the digits metric knows {name}"
        ):
            main(["--samples", str(run), *asked])


def test_other_real_images_may_be_given_and_are_read_as_the_runs_were(main, tmp_path, fashion, fid):
    from PIL import Image

    run = write_run(tmp_path / "run", dataset=str(fashion), image_size=28, background="black")
    images.save_npz(shirts(), run / "samples.npz")
    other = tmp_path / "other"
    other.mkdir()
    for number in range(2):
        Image.new("LA", (28, 28), (200, 0)).save(other / f"{number}.png")
    assert main(["--samples", str(run), "--dataset", str(other)]) == 0
    assert fid[0][1].tolist() == np.zeros((2, 28, 28, 1)).tolist()


def test_float_images_are_compared_as_bytes(main, tmp_path, fid):
    real = shirts(9)
    np.savez(tmp_path / "real.npz", real)
    images.save_npz(shirts(), tmp_path / "s.npz")
    assert main(["--samples", str(tmp_path / "s.npz"), "--dataset", str(tmp_path / "real.npz")]) == 0
    np.testing.assert_array_equal(fid[0][1], images.to_uint8(real))


def test_labels_of_samples_have_the_names_that_others_use(tmp_path):
    pixels = images.to_uint8(shirts(3))
    np.savez(tmp_path / "s.npz", pixels, np.array([2, 0, 1]))  # arr_0 and arr_1, as guided-diffusion writes them
    assert images.load_labelled_npz(tmp_path / "s.npz")[1].tolist() == [2, 0, 1]


# ---- its siblings ------------------------------------------------------------------------------------------------


def test_compare_measures_by_the_data_set_too(tmp_path, fashion, fid):
    from ms_ddpm_bench.compare.run import quality

    real = open_images("digits28", image_size=(28, 28), channels=1).batch(range(100)) / np.float32(255)
    found = quality(real, Config(dataset="digits28", image_size=28))
    assert found["metric"] == "digits-frechet"
    assert "scaled to 28x28" in quality(real, Config(dataset="digits", image_size=28))["missing"]
    assert quality(shirts(), Config(dataset=str(fashion), image_size=28))["reference_images"] == 12
    assert "does not exist" in quality(shirts(), Config(dataset="/no/such/place", image_size=28))["missing"]


def test_pictures_between_real_images_of_floats_are_in_0_1(mindspore, tmp_path):
    from ms_ddpm.systems.diffusion import pictures

    real = shirts(4)
    np.savez(tmp_path / "real.npz", real)
    config = Config(dataset=str(tmp_path / "real.npz"), image_size=28)
    run = SimpleNamespace(config=config, system=registry.of(config), args={"dataset": None})
    ends = pictures.interpolation_ends(run)
    np.testing.assert_array_equal(ends, real.reshape(2, 2, 1, 28, 28))
