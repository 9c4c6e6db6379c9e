"""Are samples copies of the training images? Distances to the nearest one, beside those among real images."""

from __future__ import annotations

import numpy as np

from ..errors import UserError

COPY_FRACTION = 0.1
YARDSTICK_IMAGES = 2000
BLOCK_VALUES = 2**22  # values of an image block held as float64: 32 MiB


def nearest_distance(samples: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Euclidean distance of every sample to the nearest training image, pixels in [0, 1]: (N,) float64.

    Args:
        samples: (N, ...) float in [0, 1], or uint8, which is divided by 255.
        training: (M, ...), likewise, the images of the same shape as the samples'. Memory is bounded: at most a few
            blocks of 32 MiB are held beside the arguments.

    Raises:
        UserError: empty, or images of different shapes.
    """
    return _nearest(samples, training, own=None)


def memorisation(samples: np.ndarray, training: np.ndarray) -> dict:
    """Are samples copies? Their distance to the nearest training image beside what is usual among real images.

    Args:
        samples, training: as ``nearest_distance``; at least 2 training images.

    Returns:
        nearest_median, nearest_min: over the samples. real_nearest_median, real_nearest_min: from a training image
        to the nearest OTHER one, over at most 2,000 evenly chosen ones. copies: samples whose nearest training image
        is no farther than copy_threshold, a tenth of real_nearest_median (digits: 0.10, which rounding to 8 bits, at
        most 0.016, stays far below, as does every real pair, at least 0.33, above).

    Raises:
        UserError: as ``nearest_distance``, or fewer than 2 training images.
    """
    if len(training) < 2:
        raise UserError(f"{len(training)} training images; the yardstick, distances among them, needs at least 2")
    chosen = np.unique(np.linspace(0, len(training) - 1, min(len(training), YARDSTICK_IMAGES)).astype(int))
    real = _nearest(np.asarray(training)[chosen], training, own=chosen)
    ours = nearest_distance(samples, training)
    threshold = COPY_FRACTION * float(np.median(real))
    return {
        "nearest_median": float(np.median(ours)),
        "nearest_min": float(ours.min()),
        "real_nearest_median": float(np.median(real)),
        "real_nearest_min": float(real.min()),
        "copy_threshold": threshold,
        "copies": int(np.count_nonzero(ours <= threshold)),
    }


def _nearest(samples: np.ndarray, training: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    """``own[i]`` names the training image that is sample i itself and is left out of its comparison."""
    samples, training = np.asarray(samples), np.asarray(training)
    if samples.shape[1:] != training.shape[1:] or 0 in (samples.size, training.size):
        raise UserError(f"samples of shape {samples.shape}, training images of shape {training.shape}; must match")
    step = min(2048, max(1, BLOCK_VALUES // samples[0].size))
    distances = np.empty(len(samples))
    for start in range(0, len(samples), step):
        block = _unit_rows(samples[start : start + step])
        best, nearest = np.full(len(block), np.inf), np.zeros(len(block), int)
        for first in range(0, len(training), step):
            rows = _unit_rows(training[first : first + step])
            # |a - b|² less |a|², which does not change what is nearest
            squared = np.sum(rows**2, axis=1) - 2.0 * block @ rows.T
            if own is not None:
                column = own[start : start + step] - first
                inside = np.flatnonzero((column >= 0) & (column < len(rows)))
                squared[inside, column[inside]] = np.inf
            found = squared.argmin(axis=1)
            value = squared[np.arange(len(block)), found]
            nearest = np.where(value < best, first + found, nearest)
            best = np.minimum(value, best)
        # Subtracted before squaring: the expanded square loses the small distances, those of the copies.
        distances[start : start + step] = np.linalg.norm(block - _unit_rows(training[nearest]), axis=1)
    return distances


def _unit_rows(images: np.ndarray) -> np.ndarray:
    rows = images.reshape(len(images), -1).astype(np.float64)
    return rows / 255.0 if images.dtype == np.uint8 else rows
