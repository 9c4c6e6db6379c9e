"""The measures of sample quality: known distances, known copies, and errors a user can mend."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ms_ddpm import evaluation
from ms_ddpm.errors import UserError
from ms_ddpm.metrics import copies
from ms_ddpm.metrics.copies import memorisation, nearest_distance
from ms_ddpm.metrics.evaluation import (
    class_histogram,
    describe,
    digits_features,
    evaluate_digits,
    evaluate_fid,
    frechet_distance,
    write_metrics,
)


@pytest.fixture(scope="module")
def digits():
    """(1797, 64) in [0, 1] and the labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.data / 16.0, found.target


@pytest.fixture(scope="module")
def features(digits):
    return digits_features(digits[0])


def as_samples(x: np.ndarray) -> np.ndarray:
    return np.rint(x * 255).astype(np.uint8).reshape(-1, 8, 8, 1)


# Fréchet distance


def test_real_half_against_real_half_scores_0_20(features):
    distance = frechet_distance(features[::2], features[1::2])
    assert distance == pytest.approx(0.20, abs=0.03), distance


def test_1000_real_images_against_all_score_0_12(features):
    draws = [np.random.default_rng(seed).choice(len(features), 1000) for seed in range(10)]
    distances = [frechet_distance(features[draw], features) for draw in draws]
    assert np.mean(distances) == pytest.approx(0.12, abs=0.02), distances


def test_uniform_noise_scores_43(features):
    noise = np.random.default_rng(0).random((1000, 64))
    distance = frechet_distance(digits_features(noise), features)
    assert distance == pytest.approx(43.0, abs=1.5), distance


def test_distance_of_known_gaussians():
    """Diagonal covariances: d² = |mu1 - mu2|² + sum (sigma1 - sigma2)²."""
    # Eight points of exact mean 0 and exact covariance the identity
    z = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * np.sqrt(7 / 8)
    a = z * [1.0, 2.0, 0.5] + [3.0, 0.0, -1.0]
    b = z * [2.0, 2.0, 3.0] + [1.0, 0.5, -1.0]
    expected = (4.0 + 0.25) + (1.0 + 0.0 + 6.25)
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, abs=1e-9)


def distance_without_matrix_root(a: np.ndarray, b: np.ndarray) -> float:
    """tr (S1 S2)^½ is the sum of the singular values of A B^T, A^T A = S1, B^T B = S2: no root of a singular matrix."""
    halves = [np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), mode="r") for x in (a, b)]
    trace = np.linalg.svd(halves[0] @ halves[1].T, compute_uv=False).sum()
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + sum(np.sum(half**2) for half in halves) - 2 * trace


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("modes", [1, 2, 3, 10, 200])
def test_distance_is_right_for_singular_covariances(features, modes):
    """Samples collapsed to a few modes, and the dead units of the features."""
    collapsed = features[np.random.default_rng(0).integers(0, modes, 500)]
    expected = distance_without_matrix_root(collapsed, features)
    assert frechet_distance(collapsed, features) == pytest.approx(expected, abs=1e-4)


def test_equal_sets_are_at_distance_0(features):
    assert 0.0 <= frechet_distance(features, features[::-1]) < 1e-6


def test_distance_rises_with_blur_and_with_missing_classes(digits, features):
    x, labels = digits
    blurred = (0.8 * x + 0.2 * np.roll(x.reshape(-1, 8, 8), 1, axis=2).reshape(-1, 64))[::2]
    one_class_short = features[::2][labels[::2] != 3]
    good = frechet_distance(features[::2], features)
    found = [frechet_distance(digits_features(blurred), features), frechet_distance(one_class_short, features)]
    assert min(found) > 3 * good, (good, found)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), r"\(5, 3\) and \(5, 4\)"),
        (np.zeros((1, 3)), np.zeros((5, 3)), r"\(1, 3\)"),
        (np.zeros(5), np.zeros(5), r"\(5,\)"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "NaN"),
    ],
)
def test_features_that_have_no_distance_are_refused(a, b, said):
    with pytest.raises(UserError, match=said):
        frechet_distance(a, b)


# The classifier


def test_features_are_the_hidden_layer_the_classifier_decides_by(digits, features):
    x, _ = digits
    model = evaluation._classifier()
    logits = features @ model.coefs_[1] + model.intercepts_[1]
    np.testing.assert_array_equal(logits.argmax(axis=1), model.predict(x))
    assert features.shape == (1797, 64)
    assert features.min() == 0.0


def test_images_and_rows_have_the_same_features(digits):
    x = digits[0][:70].astype(np.float32)
    np.testing.assert_array_equal(digits_features(x.reshape(-1, 1, 8, 8)), digits_features(x))


def test_classifier_knows_digits_it_has_not_seen(digits):
    x, labels = digits
    right = np.mean(evaluation._classifier().predict(x[1300:]) == labels[1300:])
    assert right > 0.9, right


def test_classifier_is_fitted_once():
    assert evaluation._classifier() is evaluation._classifier()


def test_histogram_counts_the_classes(digits):
    x, labels = digits
    sevens = x[:1300][labels[:1300] == 7]
    assert class_histogram(sevens) == [0, 0, 0, 0, 0, 0, 0, len(sevens), 0, 0]


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((4, 63)), r"\(4, 63\)"),
        (np.zeros((4, 8, 8, 1)), r"\(4, 8, 8, 1\)"),
        (np.zeros((0, 64)), r"\(0, 64\)"),
        (np.zeros((4, 64), np.uint8), "uint8"),
        (np.full((4, 64), -1.0), r"\[-1, -1\]"),
        (np.full((4, 64), 16.0), r"\[16, 16\]"),
        (np.full((4, 64), np.nan), "nan"),
    ],
)
def test_what_are_no_digits_in_0_1_is_refused(x, said):
    with pytest.raises(UserError, match=said):
        digits_features(x)


# Copies


def brute_force(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a[:, None].astype(np.float64) - b[None]) ** 2).sum(axis=2)).min(axis=1)


@pytest.mark.parametrize("block_values", [64, 7 * 64, 2**22])
def test_nearest_distance_is_exact_whatever_the_blocks(digits, monkeypatch, block_values):
    monkeypatch.setattr(copies, "BLOCK_VALUES", block_values)
    x = digits[0]
    samples = np.random.default_rng(0).random((23, 64))
    np.testing.assert_allclose(nearest_distance(samples, x[:50]), brute_force(samples, x[:50]), rtol=1e-12)


def test_small_distances_are_not_lost_in_large_squares(digits):
    x = digits[0][:100]
    found = nearest_distance(x + 1e-9, x)
    np.testing.assert_allclose(found, 8e-9, rtol=1e-3)


def test_uint8_images_are_measured_in_0_1(digits):
    x = digits[0]
    np.testing.assert_allclose(nearest_distance(as_samples(x[:9]), as_samples(x[9:40])),
                               brute_force(x[:9], x[9:40]), atol=0.02)  # fmt: skip


def test_images_of_different_layout_are_refused(digits):
    with pytest.raises(UserError, match=r"\(5, 1, 8, 8\).*\(5, 8, 8, 1\)"):
        nearest_distance(np.zeros((5, 1, 8, 8)), np.zeros((5, 8, 8, 1)))


def test_copies_are_counted_and_new_images_are_not(digits):
    x = digits[0]
    training, unseen = x[::2], x[1::2]
    samples = np.concatenate([np.rint(training[:7] * 255) / 255, unseen[:100]])
    found = memorisation(samples, training)
    assert found["copies"] == 7, found
    assert found["nearest_min"] <= 0.5 / 255 * 8
    assert 0.8 < found["nearest_median"] / found["real_nearest_median"] < 1.25, found


def test_the_yardstick_compares_no_image_with_itself(digits, monkeypatch):
    x = digits[0][:300]
    apart = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2)) + np.diag(np.full(300, np.inf))
    found = memorisation(x, x)
    assert found["real_nearest_median"] == pytest.approx(np.median(apart.min(axis=1)), rel=1e-12)
    assert found["real_nearest_min"] == pytest.approx(apart.min(), rel=1e-12)
    assert (found["nearest_median"], found["copies"]) == (0.0, 300)

    monkeypatch.setattr(copies, "YARDSTICK_IMAGES", 4)
    monkeypatch.setattr(copies, "BLOCK_VALUES", 70 * 64)
    few = apart.min(axis=1)[[0, 99, 199, 299]]
    assert memorisation(x, x)["real_nearest_median"] == pytest.approx(np.median(few), rel=1e-12)


def test_one_training_image_has_no_yardstick():
    with pytest.raises(UserError, match="1 training images"):
        memorisation(np.zeros((5, 64)), np.zeros((1, 64)))


# Digits, whole


@pytest.fixture(scope="module")
def real_metrics(digits):
    return evaluate_digits(as_samples(digits[0][::2]))


def test_real_digits_are_judged_real(real_metrics, features):
    assert real_metrics["metric"] == "digits-frechet"
    assert (real_metrics["samples"], real_metrics["reference_images"]) == (899, 1797)
    assert real_metrics["frechet_distance"] == pytest.approx(frechet_distance(features[::2], features), abs=5e-3)
    assert sum(real_metrics["class_histogram"]) == 899
    assert min(real_metrics["class_histogram"]) > 70, real_metrics["class_histogram"]
    assert real_metrics["memorisation"]["copies"] == 899


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((100, 1, 8, 8), np.uint8), r"\(100, 1, 8, 8\)"),
        (np.zeros((100, 16, 16, 1), np.uint8), r"\(N, 8, 8, 1\)"),
        (np.zeros((100, 8, 8, 3), np.uint8), r"\(N, 8, 8, 1\)"),
        (np.zeros((100, 8, 8, 1), np.float32), "float32"),
        (np.zeros((64, 8, 8, 1), np.uint8), "at least 65"),
    ],
)
def test_samples_the_digits_metric_cannot_judge_are_refused(samples, said):
    with pytest.raises(UserError, match=said):
        evaluate_digits(samples)


def test_without_scikit_learn_the_user_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    evaluation._real_digits.cache_clear()
    evaluation._classifier.cache_clear()
    with pytest.raises(UserError, match="pip install scikit-learn"):
        evaluate_digits(np.zeros((65, 8, 8, 1), np.uint8))


def test_65_samples_are_enough():
    noise = np.random.default_rng(0).integers(0, 256, (65, 8, 8, 1), dtype=np.uint8)
    assert evaluate_digits(noise)["frechet_distance"] > 30


# FID


@pytest.fixture
def rgb():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (6, 16, 12, 3), dtype=np.uint8), rng.integers(0, 256, (5, 16, 12, 3), dtype=np.uint8)


@pytest.fixture
def no_torch_fidelity(monkeypatch):
    find = evaluation.importlib.util.find_spec
    monkeypatch.setattr(
        evaluation.importlib.util, "find_spec", lambda name: None if name == "torch_fidelity" else find(name)
    )


@pytest.fixture
def fake_torch_fidelity(monkeypatch):
    """Stands for the package: reads what it is given as torch-fidelity does and remembers it."""
    calls = []

    def calculate_metrics(**arguments):
        from PIL import Image

        for name in "input1", "input2":
            files = sorted(Path(arguments[name]).glob("*.png"))
            arguments[name] = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]).transpose(
                0, 3, 1, 2
            )
        calls.append(arguments)
        return {"frechet_inception_distance": np.float64(12.5)}

    package = types.ModuleType("torch_fidelity")
    package.calculate_metrics = calculate_metrics
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setattr(evaluation.importlib.util, "find_spec", lambda name: package)
    return calls


def test_fid_says_on_one_line_all_that_is_missing_and_where_it_looked(rgb, no_torch_fidelity, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError) as refused:
        evaluate_fid(*rgb)
    message = str(refused.value)
    assert "\n" not in message
    where = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    for part in ("torch-fidelity", str(where), "samples.npz (arr_0"):
        assert part in message, message


def test_weights_are_looked_for_in_the_users_cache(monkeypatch):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    expected = "/home/somebody/.cache/torch/hub/checkpoints/weights-inception-2015-12-05-6726825d.pth"
    assert str(evaluation._inception_weights()) == expected


def test_named_weights_must_exist(rgb, fake_torch_fidelity, tmp_path):
    with pytest.raises(UserError, match=r"absent\.pth") as refused:
        evaluate_fid(*rgb, tmp_path / "absent.pth")
    assert "package" not in str(refused.value)
    assert fake_torch_fidelity == []


def test_fid_gives_torch_fidelity_the_images_and_never_a_reason_to_download(rgb, fake_torch_fidelity, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    found = evaluate_fid(*rgb, weights)
    (call,) = fake_torch_fidelity
    for name, images in zip(("input1", "input2"), rgb, strict=True):
        np.testing.assert_array_equal(call[name], images.transpose(0, 3, 1, 2))
    assert call["feature_extractor_weights_path"] == str(weights)
    assert (call["fid"], call["cache"], call["cuda"]) == (True, False, False)
    assert {name: found[name] for name in ("metric", "frechet_distance", "samples", "reference_images")} == {
        "metric": "fid",
        "frechet_distance": 12.5,
        "samples": 6,
        "reference_images": 5,
    }
    assert found["memorisation"]["copies"] == 0
    json.dumps(found)


def test_fid_shows_grey_images_as_rgb(rgb, fake_torch_fidelity, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    grey = [images[..., :1] for images in rgb]
    evaluate_fid(*grey, weights)
    shown = fake_torch_fidelity[0]["input1"]
    assert shown.shape == (6, 3, 16, 12)
    for channel in range(3):
        np.testing.assert_array_equal(shown[:, channel], grey[0][..., 0])


@pytest.mark.parametrize("broken", ["size", "channels", "dtype", "single"])
def test_images_fid_cannot_compare_are_refused(rgb, broken):
    samples, reference = rgb
    samples = {"size": samples[:, :8], "channels": samples[..., :1], "dtype": samples / 255, "single": samples[:1]}[
        broken
    ]
    with pytest.raises(UserError, match="samples"):
        evaluate_fid(samples, reference)


# The report


def test_metrics_file_is_the_metrics(real_metrics, tmp_path):
    write_metrics(real_metrics, tmp_path / "new" / "metrics.json")
    text = (tmp_path / "new" / "metrics.json").read_text()
    assert json.loads(text) == real_metrics
    assert text.startswith('{\n  "metric": "digits-frechet",\n')
    assert text.endswith("}\n")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["metrics.json"]


def test_metrics_that_json_cannot_hold_leave_no_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_metrics({"frechet_distance": float("nan")}, tmp_path / "metrics.json")
    assert list(tmp_path.iterdir()) == []


def test_description_shows_the_distance_the_copies_and_a_bar_per_class(real_metrics):
    metrics = {**real_metrics, "frechet_distance": 1.234, "samples": 150}
    metrics["class_histogram"] = [100, 50, 0, 0, 0, 0, 0, 0, 0, 0]
    lines = describe(metrics).splitlines()
    assert lines[0] == "digits-frechet: 1.234 (lower is better; 150 samples against 1797 real images)"
    assert any(line.startswith("copies of training images: 899 of 150") for line in lines)
    bars = lines[-10:]
    assert [bar.count("#") for bar in bars] == [40, 20, 0, 0, 0, 0, 0, 0, 0, 0]
    assert bars[0].split() == ["0", "#" * 40, "100", "67%"]
    assert max(map(len, lines)) <= 120


def test_description_of_fid_has_no_digits_in_it(rgb):
    metrics = {"metric": "fid", "frechet_distance": 12.5, "samples": 6, "reference_images": 5,
               "memorisation": memorisation(*rgb)}  # fmt: skip
    text = describe(metrics)
    assert text.startswith("fid: 12.5 ")
    assert "digits" not in text
