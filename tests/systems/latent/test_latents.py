"""Files of latents: what they hold, whose they are, and what is no such file."""

import numpy as np
import pytest

from ms_ddpm import data, latents
from ms_ddpm.errors import UserError


@pytest.fixture
def values(rng):
    scale, offset = np.float32([0.5, 1, 4])[:, None, None], np.float32([-2, 0, 9])[:, None, None]
    return rng.standard_normal((40, 3, 2, 2), dtype=np.float32) * scale + offset


@pytest.fixture
def made(values):
    labels = (np.arange(40) % 10).astype(np.int32)
    return latents.Latents(values, labels, latents.Statistics.of(values), "a" * 64, "digits28", "d" * 64)


class Encoder:
    """Stands for an ImageAutoencoder: adds one, doubles the channels."""

    latent_shape = (2, 4, 4)
    calls = 0

    def encode(self, images, batch_size):
        Encoder.calls += 1
        assert len(images) <= batch_size
        return np.concatenate([data.as_float(images) + 1, -data.as_float(images)], axis=1)


@pytest.fixture
def encoder(monkeypatch):
    """An encoder whose fingerprint is the text in its ``net``."""
    pytest.importorskip("mindspore")
    from ms_ddpm import autoencoder

    monkeypatch.setattr(autoencoder, "fingerprint", lambda net: net)
    made = Encoder()
    made.net = "f" * 64
    return made


@pytest.fixture
def source(rng):
    images = rng.integers(0, 256, (37, 1, 4, 4), dtype=np.uint8)
    return data.array_source("images", images, np.arange(37) % 3)


def test_statistics_are_per_channel_and_of_all(values):
    found = latents.Statistics.of(values)
    for channel in range(3):
        assert found.mean[channel] == pytest.approx(values[:, channel].astype(np.float64).mean())
        assert found.std[channel] == pytest.approx(values[:, channel].astype(np.float64).std())
    assert found.scalar_std == pytest.approx(values.astype(np.float64).std())
    assert found.scalar_std > 2 * found.std[1]  # the channels' means are apart


@pytest.mark.parametrize(("value", "words"), [(1.5, "constant"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_a_channel_that_says_nothing_is_refused(values, value, words):
    values[:, 1] = value
    with pytest.raises(UserError, match=f"channel 1 of the latents is {words}"):
        latents.Statistics.of(values)


@pytest.mark.parametrize("labelled", [True, False])
def test_what_was_written_is_read(made, tmp_path, labelled):
    if not labelled:
        made = latents.Latents(made.values, None, made.statistics, made.autoencoder, "ein Ordner/ü", made.digest)
    latents.write(tmp_path / "latents.npz", made)
    found = latents.read(tmp_path / "latents.npz")
    assert np.array_equal(found.values, made.values)
    assert (found.autoencoder, found.images, found.digest) == (made.autoencoder, made.images, made.digest)
    assert np.array_equal(found.statistics.std, made.statistics.std)
    assert found.statistics.scalar_mean == made.statistics.scalar_mean
    assert np.array_equal(found.labels, made.labels) if labelled else found.labels is None


def test_training_reads_them_as_they_are(made):
    source = made.source()
    assert source.shape == (3, 2, 2)
    assert np.array_equal(data.as_float(source.batch([5, 0])), made.values[[5, 0]])
    assert source.labels.tolist()[:3] == [0, 1, 2]


def test_every_image_is_encoded_once_in_order(encoder, source):
    found = latents.encode(encoder, source, "images", batch_size=16)
    assert np.array_equal(found.values[:, 0], source.batch(range(37))[:, 0] / np.float32(255) + 1)
    assert found.labels.tolist() == (np.arange(37) % 3).tolist()
    assert found.labels.dtype == np.int32
    assert (found.autoencoder, found.images) == ("f" * 64, "images")


def test_a_second_run_reads_the_file(encoder, source, tmp_path):
    path = tmp_path / "run" / latents.FILE
    first = latents.prepare(path, encoder, source, "images")
    assert not path.parent.exists()  # whether the directory is this run's is not known yet
    latents.write(path, first)
    before = Encoder.calls
    second = latents.prepare(path, encoder, source, "images")
    assert Encoder.calls == before
    assert np.array_equal(first.values, second.values)


def test_latents_of_another_autoencoder_or_data_set_are_refused_in_one_line(encoder, source, tmp_path):
    path = tmp_path / latents.FILE
    latents.write(path, latents.prepare(path, encoder, source, "images"))
    assert latents.prepare(path, encoder, source, "another/spelling").images == "images"
    with pytest.raises(UserError, match="holds latents of other images or labels"):
        latents.prepare(path, encoder, source.subset(range(5)), "images")
    encoder.net = "0" * 64
    with pytest.raises(UserError, match="of another autoencoder") as caught:
        latents.prepare(path, encoder, source, "images")
    assert "\n" not in str(caught.value)
    assert "ffffffffffff" in str(caught.value)


def test_a_data_set_is_known_by_its_pixels_and_labels(source):
    pixels, labels = source.batch(range(37)), source.labels
    digest = latents.digest_of(source)
    assert digest == latents.digest_of(data.array_source("elsewhere", pixels.copy(), labels.copy()))
    changed, swapped = pixels.copy(), labels.copy()
    changed[36, 0, 3, 3] ^= 1
    swapped[[0, 1]] = swapped[[1, 0]]
    others = [(changed, labels), (pixels, swapped), (pixels, None), (pixels[::-1], labels), (pixels[:36], labels[:36])]
    others.append((pixels.reshape(37, 1, 2, 8), labels))
    found = {latents.digest_of(data.array_source("another", *other)) for other in others}
    assert len(found | {digest}) == 7


def test_a_batch_size_of_0_is_refused(encoder, source):
    with pytest.raises(UserError, match="batch_size is 0, expected at least 1"):
        latents.encode(encoder, source, "images", batch_size=0)


def rewrite(path, **changes):
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays |= changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latents": None}, "it has no latents"),
        ({"autoencoder": None}, "it has no autoencoder"),
        ({"std": None}, "it has no std"),
        ({"digest": None}, "it has no digest"),
        ({"latents": np.zeros((40, 3, 2, 2))}, "float64"),
        ({"latents": np.zeros((40, 12), np.float32)}, "expected float32"),
        ({"latents": np.zeros((0, 3, 2, 2), np.float32)}, "expected float32"),
        ({"labels": np.zeros(39, np.int32)}, "labels"),
        ({"labels": np.zeros(40)}, "labels"),
        ({"mean": np.zeros(2)}, "mean"),
        ({"mean": np.zeros(3)}, "statistics are not those"),
        ({"scalar_std": np.float64(np.nan)}, "statistics are not those"),
        ({"latents": np.full((40, 3, 2, 2), np.nan, np.float32)}, "not finite"),
        ({"autoencoder": np.array(["a"])}, "expected text"),
        ({"images": np.array([255], np.uint8)}, "holds no latents"),
        ({"labels": np.array([object()] * 40)}, "holds no latents"),
    ],
)  # fmt: skip
def test_a_file_that_was_changed_is_refused_in_one_line(made, tmp_path, changes, words):
    path = tmp_path / "latents.npz"
    latents.write(path, made)
    rewrite(path, **changes)
    with pytest.raises(UserError, match=words) as caught:
        latents.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_files_are_refused(made, tmp_path):
    with pytest.raises(UserError, match="no file"):
        latents.read(tmp_path / "nothing.npz")
    with pytest.raises(UserError, match="cannot read"):
        latents.read(tmp_path)
    path = tmp_path / "latents.npz"
    latents.write(path, made)
    whole = path.read_bytes()
    for damaged in (whole[:-40], whole[: len(whole) // 2], b"", b"PK\x03\x04", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="holds no latents"):
            latents.read(path)


def test_nothing_half_written_stays(made, tmp_path):
    (tmp_path / "a file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        latents.write(tmp_path / "a file" / "latents.npz", made)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]
