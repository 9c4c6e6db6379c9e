"""How good are samples: a Fréchet distance, the classes they fall in, and whether they are copies of the data.

Two Fréchet distances share one formula. ``evaluate_digits`` needs nothing but scikit-learn: its features are a
classifier's hidden layer on the 1,797 real handwritten digits. ``evaluate_fid`` is the FID of the literature, through
the optional package torch-fidelity and its InceptionV3 weights on disk. Nothing is ever downloaded.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np

from .. import data
from ..devices import memory
from ..errors import UserError
from ..storage.files import atomic
from .copies import memorisation

DIGITS_TRAINING = 1300  # the classifier learns the first 1,300 of the 1,797 digits
HIDDEN = 64
INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
BAR = 40


# The digits metric


def digits_features(images01: np.ndarray) -> np.ndarray:
    """(N, 64) or (N, 1, 8, 8) float digits in [0, 1] -> (N, 64) float64 features.

    The features are the hidden layer, after its ReLU, of ``MLPClassifier((64,), max_iter=400, random_state=0)``
    fitted once per process on the first 1,300 scikit-learn digits. A few units are dead, so covariances are singular.

    Raises:
        UserError: another shape, not float, NaN, or values outside [0, 1].
    """
    x = _flat_digits(images01)
    return np.maximum(x @ _classifier().coefs_[0] + _classifier().intercepts_[0], 0.0)


def class_histogram(images01: np.ndarray) -> list[int]:
    """How many of the (N, 64) or (N, 1, 8, 8) digits in [0, 1] the same classifier takes for a 0, 1, ... 9.

    Raises:
        UserError: as ``digits_features``.
    """
    return np.bincount(_classifier().predict(_flat_digits(images01)), minlength=10).tolist()


def digits_from_28(images: np.ndarray) -> np.ndarray:
    """(N, 28, 28, 1) digits drawn as `data.open_images("digits28")` has them -> (N, 8, 8, 1), float64.

    The border of 2 is cropped and blocks of 3 x 3 are averaged, so real digits come back as they were.
    """
    inner = np.asarray(images, np.float64)[:, 2:-2, 2:-2]
    return inner.reshape(len(inner), 8, 3, 8, 3, 1).mean(axis=(2, 4))


def asked_digits(images01: np.ndarray, labels: np.ndarray) -> dict:
    """How many of the digits, (N, 64) in [0, 1], are taken for the one that was asked for, labels (N,) in 0 to 9.

    The judge is ``SVC(gamma=0.05, C=10)`` fitted on the first 1,300 real digits; it gets 96.6 % of the others right.

    Returns:
        Values that JSON can hold: mean, worst (both shares in [0, 1]) and by_digit, the share per digit (None: not
        asked for).

    Raises:
        UserError: labels of another number than the images, or outside 0 to 9.
    """
    from sklearn.svm import SVC

    x, labels = _flat_digits(images01), np.asarray(labels)
    if labels.shape != (len(x),) or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        raise UserError(f"labels {labels.dtype} {labels.shape} of {len(x)} digits, expected one of 0 to 9 for each")
    real, known = _real_digits()
    judge = SVC(gamma=0.05, C=10).fit(real[:DIGITS_TRAINING], known[:DIGITS_TRAINING])
    right = judge.predict(x) == labels
    shares = [float(right[labels == digit].mean()) if (labels == digit).any() else None for digit in range(10)]
    return {
        "mean": float(right.mean()), "worst": min(share for share in shares if share is not None), "by_digit": shares,
    }  # fmt: skip


def evaluate_digits(samples: np.ndarray, labels: np.ndarray | None = None) -> dict:
    """Judge 8x8 digit samples, or 28x28 ones (see `digits_from_28`), against the 1,797 real ones.

    Reference values of ``frechet_distance``, real against real: even- against odd-numbered images 0.20; 1,000 images
    drawn with replacement against all 0.12 (mean over 30 draws, each 0.06 to 0.17); 1,000 images of uniform noise
    against all 43. Fewer samples score worse whatever their quality (65 real images: 2.4), so compare equal numbers.

    Args:
        samples: (N, 8, 8, 1) or (N, 28, 28, 1) uint8, N >= 65.
        labels: (N,) the digits that were asked for, of a class-conditional model.

    Returns:
        Values that JSON can hold: metric, frechet_distance (lower is better), samples, reference_images,
        class_histogram (see ``class_histogram``), memorisation (see ``memorisation``), and with labels asked_digits.

    Raises:
        UserError: another shape or dtype, or fewer than 65 samples.
    """
    samples = _uint8_images("samples", samples)
    if samples.shape[1:] not in ((8, 8, 1), (28, 28, 1)):
        raise UserError(f"samples of shape {samples.shape}; the digits metric judges (N, 8, 8, 1) and (N, 28, 28, 1)")
    if len(samples) <= HIDDEN:
        raise UserError(
            f"{len(samples)} samples; a Fréchet distance of {HIDDEN} features needs at least {HIDDEN + 1}, better 1,000"
        )
    x = (digits_from_28(samples) if samples.shape[1] == 28 else samples).reshape(len(samples), -1) / 255.0
    real, _ = _real_digits()
    asked = {} if labels is None else {"asked_digits": asked_digits(x, labels)}
    return {
        "metric": "digits-frechet",
        "frechet_distance": frechet_distance(digits_features(x), digits_features(real)),
        "samples": len(x),
        "reference_images": len(real),
        "class_histogram": class_histogram(x),
        "memorisation": memorisation(x, real),
        **asked,
    }


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features, (N, D) and (M, D); lower is closer.

    d² = |mu1 - mu2|² + tr(S1 + S2 - 2 (S1 S2)^½), Heusel et al. 2017, https://arxiv.org/abs/1706.08500, eq. 6; as
    everywhere in the literature the number given is d².

    Raises:
        UserError: not two matrices of equal width, fewer than 2 rows, NaN or infinite values.
    """
    a, b = (np.asarray(features, np.float64) for features in (features_a, features_b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise UserError(f"features of shapes {a.shape} and {b.shape}, expected (N, D) and (M, D) with N, M >= 2")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("features hold NaN or infinite values")
    mu1, mu2 = a.mean(axis=0), b.mean(axis=0)
    s1, s2 = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (a, b))
    squared = np.sum((mu1 - mu2) ** 2) + np.trace(s1) + np.trace(s2) - 2.0 * _trace_of_root(s1 @ s2)
    return max(0.0, float(squared))  # rounding can leave -1e-7 for equal sets


# The FID of the literature


def evaluate_fid(samples: np.ndarray, reference: np.ndarray, weights: str | Path | None = None) -> dict:
    """FID by torch-fidelity (https://github.com/toshas/torch-fidelity), InceptionV3 weights read from disk.

    FID falls as the number of images grows; the literature compares 50,000 samples.

    Args:
        samples: (N, H, W, C) uint8, C 1 (shown to the network as RGB) or 3.
        reference: (M, H, W, C) uint8, the real images.
        weights: file of InceptionV3 weights in torch-fidelity's format; by default where torch-fidelity keeps it,
            ``~/.cache/torch/hub/checkpoints/weights-inception-2015-12-05-6726825d.pth`` (TORCH_HOME is heeded).

    Returns:
        Values that JSON can hold: metric, frechet_distance (lower is better), samples, reference_images, memorisation.

    Raises:
        UserError: package or weights missing (nothing is downloaded), or images of another dtype or shape.
    """
    samples, reference = _uint8_images("samples", samples), _uint8_images("reference", reference)
    if samples.shape[1:] != reference.shape[1:] or samples.shape[-1] == 4 or min(len(samples), len(reference)) < 2:
        raise UserError(
            f"samples {samples.shape} and reference {reference.shape}; FID needs at least 2 images each of one "
            "(H, W, C), C 1 or 3"
        )
    path = _inception_weights() if weights is None else Path(weights)
    missing = [] if importlib.util.find_spec("torch_fidelity") else ["the package torch-fidelity (not importable)"]
    missing += [] if path.is_file() else [f"InceptionV3 weights (looked for at {path})"]
    if missing:
        raise UserError(
            f"FID needs {' and '.join(missing)}; nothing is downloaded. "
            "samples.npz (arr_0, uint8, NHWC) can be given to any standard evaluator"
        )
    return {
        "metric": "fid",
        "frechet_distance": _torch_fidelity(samples, reference, path),
        "samples": len(samples),
        "reference_images": len(reference),
        "memorisation": memorisation(samples, reference),
    }


# Whichever fits the data set


def evaluate(
    samples: np.ndarray, labels: np.ndarray | None, dataset: str, *, background: str = "white",
    weights: str | Path | None = None,
) -> dict:  # fmt: skip
    """``evaluate_digits`` where ``dataset`` is "digits" or "digits28", otherwise ``evaluate_fid`` against its images.

    Args:
        samples: (N, H, W, C) uint8.
        labels: (N,) classes that were asked for, or None; digits alone are judged by them.
        dataset: what `data.open_images` takes.
        background: as the model's training images were read.
        weights: see ``evaluate_fid``.

    Raises:
        UserError: as these, and as `data.open_images`.
    """
    if dataset in ("digits", "digits28"):
        return evaluate_digits(samples, labels)
    _, height, width, channels = samples.shape
    source = data.open_images(dataset, image_size=(height, width), channels=channels, background=background)
    memory.require(len(source) * math.prod(source.shape), f"{dataset} as one array", "give fewer images")
    reference = np.empty((len(source), height, width, channels), np.uint8)
    for first in range(0, len(source), 256):
        rows = range(first, min(first + 256, len(source)))
        reference[first : rows.stop] = data.as_bytes(source.batch(rows)).transpose(0, 2, 3, 1)
    return evaluate_fid(samples, reference, weights=weights)


# The report


def write_metrics(metrics: dict, path: str | Path) -> None:
    """Write ``metrics`` as JSON, whole or not at all; parent folders are made.

    Raises:
        UserError: ``path`` cannot be written.
    """
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    with atomic(path) as file:
        file.write(text.encode())


def describe(metrics: dict) -> str:
    """``evaluate_digits``' or ``evaluate_fid``'s result as a few lines for a person, without a final newline."""
    copies = metrics["memorisation"]
    lines = [
        f"{metrics['metric']}: {metrics['frechet_distance']:.4g} (lower is better; "
        f"{metrics['samples']} samples against {metrics['reference_images']} real images)",
    ]
    if metrics["metric"] == "digits-frechet":
        lines.append("  for scale: 1,000 real digits 0.12, half of the real digits against the rest 0.20, noise 43")
    lines += [
        f"nearest training image: median {copies['nearest_median']:.3g}, closest {copies['nearest_min']:.3g} "
        f"(real images to each other: {copies['real_nearest_median']:.3g}, {copies['real_nearest_min']:.3g})",
        f"copies of training images: {copies['copies']} of {metrics['samples']} "
        f"(nearer than {copies['copy_threshold']:.2g})",
    ]
    if "asked_digits" in metrics:
        asked = metrics["asked_digits"]
        by_digit = " ".join(
            f"{digit}:{share:.0%}" for digit, share in enumerate(asked["by_digit"]) if share is not None
        )
        lines.append(
            f"taken for the digit that was asked for: {asked['mean']:.1%}, worst {asked['worst']:.0%} ({by_digit})"
        )
    if "class_histogram" in metrics:
        lines += ["classes, as a classifier of the real digits sees the samples:", *_bars(metrics["class_histogram"])]
    return "\n".join(lines)


def _bars(counts: list[int]) -> list[str]:
    most, total = max(*counts, 1), max(sum(counts), 1)
    return [
        f"  {label} {'#' * round(BAR * count / most):<{BAR}} {count:>6} {count / total:>4.0%}"
        for label, count in enumerate(counts)
    ]


@functools.cache
def _real_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError(
            "the digits metric needs scikit-learn, which is not installed; pip install scikit-learn"
        ) from None
    digits = load_digits()
    images = digits.data / 16.0
    images.flags.writeable = False
    return images, digits.target


@functools.cache
def _classifier():
    images, labels = _real_digits()
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((HIDDEN,), max_iter=400, random_state=0)
    return model.fit(images[:DIGITS_TRAINING], labels[:DIGITS_TRAINING])


def _flat_digits(images01: np.ndarray) -> np.ndarray:
    x = np.asarray(images01)
    if x.shape[1:] not in ((64,), (1, 8, 8)) or len(x) == 0 or x.dtype.kind != "f":
        raise UserError(f"digits of shape {x.shape}, {x.dtype}; expected (N, 64) or (N, 1, 8, 8) float in [0, 1]")
    if not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):  # also false for NaN
        raise UserError(f"digits with values in [{x.min():.4g}, {x.max():.4g}], expected [0, 1]")
    return x.reshape(len(x), -1).astype(np.float64)


def _uint8_images(name: str, images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or images.size == 0:
        raise UserError(f"{name} is {images.dtype} {images.shape}, expected uint8 (N, H, W, C), C in {{1, 3, 4}}")
    return images


def _trace_of_root(product: np.ndarray) -> float:
    """tr (S1 S2)^½. Of a singular product the root may be reported as inexact, or be NaN; then a ridge is added."""
    import warnings

    from scipy.linalg import sqrtm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Matrix is singular": dead units, few samples. The trace is right to 1e-5.
        root = sqrtm(product)
        if not np.isfinite(root).all():
            root = sqrtm(product + 1e-6 * np.eye(len(product)))
    return float(np.trace(root).real)


def _inception_weights() -> Path:
    """Where torch.hub keeps what torch-fidelity would load."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser() / "hub" / "checkpoints" / INCEPTION_WEIGHTS


def _write_pngs(images: np.ndarray, folder: Path) -> str:
    """Lossless files of (N, H, W, C) uint8 images, grey ones as RGB, for a package that reads folders."""
    from PIL import Image

    folder.mkdir()
    for i, pixels in enumerate(images):
        picture = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())
        picture.save(folder / f"{i:06d}.png", compress_level=1)
    return str(folder)


def _torch_fidelity(samples: np.ndarray, reference: np.ndarray, weights: Path) -> float:
    """FID of two sets given as folders, so that no torch tensor is made here; on the CPU, always."""
    try:
        import torch_fidelity
    except (ImportError, OSError, RuntimeError) as error:  # the last where torch and torchvision do not match
        raise UserError(f"torch-fidelity is installed but cannot be imported: {error}") from error

    with tempfile.TemporaryDirectory() as folder:
        metrics = torch_fidelity.calculate_metrics(
            input1=_write_pngs(samples, Path(folder) / "samples"),
            input2=_write_pngs(reference, Path(folder) / "reference"),
            fid=True,
            cuda=False,
            feature_extractor_weights_path=str(weights),
            cache=False,
            verbose=False,
        )
    return float(metrics["frechet_inception_distance"])
