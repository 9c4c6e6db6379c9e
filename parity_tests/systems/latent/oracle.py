"""Autoencoder, perceptual losses and latents' statistics in float64.

Sources: batch normalisation, Ioffe & Szegedy 2015 (arXiv 1502.03167), Algorithm 1; LPIPS, Zhang et al. 2018 (arXiv
1801.03924), eq. 1; multi-scale gradients, Li & Snavely 2018 (arXiv 1804.00607), eq. 4, with a Charbonnier penalty.
Arrays are (B, C, H, W), weights are shaped as PyTorch's. Sums are taken another way than the frameworks take them:
slopes as matrices, transposed convolutions pixel by pixel, the sums of variances exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from parity_tests.oracle.layers import conv2d, conv_transpose2d, max_pool, part, sigmoid, silu
from parity_tests.oracle.process import as_float64

Array = np.ndarray


def channel_statistics(x: ArrayLike) -> tuple[Array, Array]:
    """Mean and biased variance of every channel, (C,), the sums exact (math.fsum)."""
    x = as_float64(x)
    columns = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    mean = np.array([math.fsum(column) / column.size for column in columns])
    variance = [math.fsum((column - m) ** 2) / column.size for column, m in zip(columns, mean, strict=True)]
    return mean, np.array(variance)


def batch_norm(
    x: ArrayLike, w: Mapping[str, ArrayLike], training: bool, momentum: float = 0.1, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """(y, running mean, running variance) after a batch; ``w`` holds weight, bias, running_mean, running_var."""
    x, w = as_float64(x), {name: as_float64(value) for name, value in w.items()}
    mean, variance = w["running_mean"], w["running_var"]
    if training:
        count = x.size / x.shape[1]
        mean, variance = channel_statistics(x)
        w["running_mean"] = (1 - momentum) * w["running_mean"] + momentum * mean
        w["running_var"] = (1 - momentum) * w["running_var"] + momentum * variance * count / (count - 1)
    columns = (None, slice(None), None, None)
    scaled = (x - mean[columns]) / np.sqrt(variance + eps)[columns]
    return scaled * w["weight"][columns] + w["bias"][columns], w["running_mean"], w["running_var"]


def autoencoder(x: ArrayLike, w: Mapping[str, ArrayLike], training: bool) -> tuple[Array, Array, dict[str, Array]]:
    """(latent, reconstruction, running statistics after the batch) of the autoencoder with weights ``w``."""
    running = {}

    def norm(h: Array, name: str) -> Array:
        y, mean, variance = batch_norm(h, part(w, name), training)
        running.update({f"{name}.running_mean": mean, f"{name}.running_var": variance})
        return y

    def layer(apply, h: Array, name: str, **options) -> Array:
        return apply(h, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    h = silu(norm(layer(conv2d, as_float64(x), "encoder.0"), "encoder.1"))
    h = silu(norm(layer(conv2d, h, "encoder.3", stride=2), "encoder.4"))
    latent = norm(layer(conv2d, h, "encoder.6"), "encoder.7")
    h = silu(norm(layer(conv_transpose2d, latent, "decoder.0"), "decoder.1"))
    h = silu(norm(layer(conv_transpose2d, h, "decoder.3", stride=2, output_padding=1), "decoder.4"))
    return latent, sigmoid(layer(conv_transpose2d, h, "decoder.6")), running


def _slopes(side: int) -> Array:
    """The matrix (side - 1, side) of differences of neighbours."""
    return np.eye(side - 1, side, 1) - np.eye(side - 1, side)


def _averages(side: int) -> Array:
    """The matrix (side // 2, side) of means of pairs; a last odd one is left out."""
    return np.kron(np.eye(side // 2), [[0.5, 0.5]]) if side % 2 == 0 else np.pad(_averages(side - 1), ((0, 0), (0, 1)))


def gradient_loss(x: ArrayLike, y: ArrayLike, scales: int = 4, eps: float = 1e-3) -> tuple[float, Array]:
    """The multi-scale gradient loss of two images, and its gradient with respect to y, by matrices and transposes."""
    r = as_float64(x) - as_float64(y)
    rows, columns = np.eye(r.shape[2]), np.eye(r.shape[3])  # what makes the image of this scale
    values, gradients = [], []
    while len(values) < scales and min(len(rows), len(columns)) >= 2:
        value, gradient = 0.0, np.zeros_like(r)
        for below, beside in ((rows, _slopes(len(columns)) @ columns), (_slopes(len(rows)) @ rows, columns)):
            d = below @ r @ beside.T
            root = np.sqrt(d**2 + eps**2)
            value += np.mean(root - eps)
            gradient -= below.T @ (d / root / d.size) @ beside
        values.append(value)
        gradients.append(gradient)
        rows, columns = _averages(len(rows)) @ rows, _averages(len(columns)) @ columns
    return float(np.mean(values)), np.mean(gradients, axis=0)


def unit_length(x: ArrayLike) -> Array:
    """Every pixel's channels divided by their Euclidean norm + 1e-10."""
    x = as_float64(x)
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-10)


def fire(x: ArrayLike, w: Mapping[str, ArrayLike]) -> Array:
    """SqueezeNet's module (Iandola et al. 2016, arXiv 1602.07360, sec. 3.2)."""

    def layer(h: Array, name: str, padding: int = 0) -> Array:
        return np.maximum(conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding), 0)

    h = layer(as_float64(x), "squeeze")
    return np.concatenate([layer(h, "expand1x1"), layer(h, "expand3x3", 1)], axis=1)


def lpips_squeeze(x: ArrayLike, y: ArrayLike, w: Mapping[str, ArrayLike]) -> Array:
    """LPIPS by SqueezeNet 1.1 of images (B, 1 or 3, H, W) in [0, 1]: (B,)."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])

    def seen(image: ArrayLike) -> list[Array]:
        h = np.broadcast_to(2 * as_float64(image) - 1, (len(image), 3, *np.shape(image)[2:]))
        h = (h - shift[:, None, None]) / scale[:, None, None]
        h = np.maximum(conv2d(h, w["features.0.weight"], w["features.0.bias"], stride=2), 0)
        found = [h]
        for i in range(2, 13):
            if i in (2, 5, 8):
                h = max_pool(h, 3, ceil=True)
            else:
                h = fire(h, part(w, f"features.{i}"))
                if i in (4, 7, 9, 10, 11, 12):
                    found.append(h)
        return found

    total = np.zeros(len(x))
    for i, (of_x, of_y) in enumerate(zip(seen(x), seen(y), strict=True)):
        squared = (unit_length(of_x) - unit_length(of_y)) ** 2
        total += np.einsum("bchw,c->b", squared, as_float64(w[f"lin{i}.model.1.weight"]).ravel()) / squared[0, 0].size
    return total
