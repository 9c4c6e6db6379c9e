"""Training an autoencoder on images, and using a trained one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from mindspore import Tensor, nn

from ... import data
from ...arrays import takes_arrays
from ...config import Config, image_sides
from ...devices.runtime import OwnGraphs
from ...errors import UserError, require_positive
from ...maths.random import Stream, stream
from ...models.autoencoder import AutoEncoder, latent_size
from ...samplers.chain import in_batches
from ...storage import checkpoint
from ...storage.fingerprint import remembers
from ...storage.tensorfile import digest
from ...storage.weights import set_parameters
from ...trainable import Trainable
from .config import AutoencoderConfig
from .perceptual import build_perceptual

log = logging.getLogger("ms_ddpm")

NET = "net."  # what the names of an `ImageAutoencoder`'s network begin with
BATCH = 256
ROUNDING = 1e-3  # by which floats may miss [0, 1]


@contextmanager
def evaluating(cell: nn.Cell) -> Iterator[None]:
    """Inside the ``with`` block ``cell`` is not training: batch normalisation reads its estimates and leaves them."""
    training = cell.training
    cell.set_train(False)
    try:
        yield
    finally:
        cell.set_train(training)


def of_batches(call: Callable, arrays: np.ndarray, batch_size: int = BATCH) -> np.ndarray:
    """``call`` of float32 ``arrays`` (N, ...), ``batch_size`` at a time; the last batch repeats its last array."""

    def of_batch(size: int, first: int) -> Tensor:
        batch = arrays[first : first + size]
        filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), 0)]) if len(batch) < size else batch
        return call(Tensor(np.ascontiguousarray(filled, np.float32)))

    return in_batches(of_batch, len(arrays), batch_size)


@remembers()
class ImageAutoencoder(Trainable):
    """Trains an `AutoEncoder`: ``cell(images)`` with images (B, C, H, W) in [0, 1] is the scalar loss.

    mean (x - x')^2 + perceptual_weight * perceptual(x, x'), x' the reconstruction. Nothing in it is random.

    The score article's loss (docs/systems.md) adds LPIPS of the batch and of a *global* x_hat (its ``lambda x, xhat``
    reads the variable of the training loop, which happens to be the same one), and gives LPIPS images in [0, 1] where
    it expects [-1, 1]. The running statistics of batch normalisation belong to the weights of the last step, not to
    averaged ones: train with ``ema_decay`` 0 and ``ema_update_every`` 1, or take the "model" weights.

    Args:
        net: the network; ``net.in_channels`` channels.
        image_size: side, or (height, width).
        perceptual: called as ``perceptual(x, x')`` for a scalar, or None; see `ms_ddpm.systems.autoencoder.perceptual`.
        perceptual_weight: what it is multiplied by.

    Raises:
        UserError: for an image size that the network does not give back.
    """

    def __init__(
        self,
        net: AutoEncoder,
        *,
        image_size: int | tuple[int, int],
        perceptual: nn.Cell | None = None,
        perceptual_weight: float = 1.0,
    ):
        super().__init__()
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.latent_shape = (net.widths[-1], *latent_size(self.image_size))
        self.channels = net.in_channels
        self.net = net
        self.perceptual = perceptual
        self.perceptual_weight = perceptual_weight
        self._calls = OwnGraphs()

    def draw(self, rng: np.random.Generator, batch: tuple[np.ndarray, ...]) -> tuple:
        """Nothing is random."""
        return ()

    @takes_arrays
    def loss(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """The loss of images and their reconstructions."""
        difference = x - reconstruction
        loss = (difference * difference).reshape(x.shape[0], -1).mean(axis=1).mean()
        if self.perceptual is not None:
            loss = loss + self.perceptual_weight * self.perceptual(x, reconstruction)
        return loss

    def construct(self, images: Tensor) -> Tensor:
        return self.loss(images, self.net(images))

    def _call(self, name: str) -> Callable:
        return self._calls.made(name, _CALLS[name], self.net)

    def _evaluated(self, name: str, arrays: np.ndarray, shape: tuple, what: str, batch_size: int) -> np.ndarray:
        arrays = np.asarray(arrays)
        if arrays.ndim != 4 or arrays.shape[1:] != shape or not len(arrays):
            raise UserError(f"{what} of shape {arrays.shape}, expected (N, {', '.join(map(str, shape))})")
        require_positive(batch_size=batch_size)
        with evaluating(self):
            return of_batches(self._call(name), data.as_float(arrays), batch_size)

    def encode(self, images: np.ndarray, batch_size: int = BATCH) -> np.ndarray:
        """Latents (N, *latent_shape) float32 of images (N, C, H, W), float in [0, 1] or uint8. Not normalised.

        Raises:
            UserError: another shape, values out of range or not finite, a batch size below 1.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 and images.size:
            low, high = float(images.min()), float(images.max())
            if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # false for NaN
                raise UserError(
                    f"the images' values reach from {low:g} to {high:g}, expected 0 to 1; divide pixels of 0 to 255 by "
                    "255, or give them as uint8"
                )
        return self._evaluated("encode", images, (self.channels, *self.image_size), "images", batch_size)

    def decode(self, latents: np.ndarray, batch_size: int = BATCH) -> np.ndarray:
        """Images (N, C, H, W) float32 in (0, 1) of latents (N, *latent_shape). Raises UserError for another shape."""
        return self._evaluated("decode", latents, self.latent_shape, "latents", batch_size)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """``decode(encode(images))``."""
        return self.decode(self.encode(images))

    def preview(self, images: np.ndarray) -> np.ndarray:
        """Each of images (N, C, H, W) above its reconstruction: (N, C, 2 H, W) float32."""
        return np.concatenate([data.as_float(np.asarray(images)), self.reconstruct(images)], axis=2)


def _encode_of(net: AutoEncoder) -> Callable:
    def encode(images):
        return net.encode(images)

    return encode


def _decode_of(net: AutoEncoder) -> Callable:
    def decode(latents):
        return net.decode(latents)

    return decode


_CALLS = {"encode": _encode_of, "decode": _decode_of}


def build_autoencoder(config: Config, *, training: bool = True) -> ImageAutoencoder:
    """The autoencoder of ``config`` with the initial weights of its seed; without its loss's networks if not training.

    Raises:
        UserError: for sizes that do not fit, LPIPS without its weights, and several workers.
    """
    if training and config.distribute:
        raise UserError(
            "an autoencoder trains in one process: its batch normalisation takes its statistics from the batch of one; "
            "set distribute to false"
        )
    if training and (config.ema_decay or config.ema_update_every != 1):
        log.warning(
            "the running statistics of an autoencoder's batch normalisation do not belong to averaged weights, which "
            "make the pictures and choose the best checkpoint: set ema_decay 0 and ema_update_every 1 (now %g and %d)",
            config.ema_decay, config.ema_update_every,
        )  # fmt: skip
    perceptual = build_perceptual(config) if training else None
    net = AutoEncoder(config.autoencoder_channels, in_channels=config.channels, rng=stream(config.seed, Stream.WEIGHTS))
    return ImageAutoencoder(
        net, image_size=image_sides(config), perceptual=perceptual, perceptual_weight=config.perceptual_weight
    )


def fingerprint(net: AutoEncoder) -> str:
    """SHA-256 of the network's weights and running statistics, by which latents know whose they are."""
    return digest({name: p.asnumpy() for name, p in net.parameters_and_names()})


def load_autoencoder(path: str | Path, weights: str = "model") -> ImageAutoencoder:
    """The autoencoder of a run of train.py (its directory, or a step-... in it), not training.

    With ``weights`` "model" those of the last step, "ema" averaged ones, to which the running statistics do not belong.

    Raises:
        UserError: no run, a run of another system, a damaged checkpoint, or one that does not fit its configuration.
    """
    from ..recipes import config_of

    found = checkpoint.locate(Path(path))
    config = config_of(found)
    if not isinstance(config, AutoencoderConfig):
        raise UserError(f"{path} is a run of system {config.system!r}, expected the output directory of an autoencoder")
    return _load(found, config, weights)


def _load(path: Path, config: Config, weights: str) -> ImageAutoencoder:
    loaded = checkpoint.load(path, ("model", "ema") if weights == "ema" else ("model",))
    arrays = dict(loaded.arrays["model"])
    if weights == "ema":
        arrays.update(loaded.arrays["ema"])
    try:
        cell = build_autoencoder(config, training=False)
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    # The network of LPIPS, which is not trained, belongs to the loss.
    own = {name: value for name, value in arrays.items() if name.startswith(NET)}
    set_parameters(cell, own, f"checkpoint {path}")
    return cell.set_train(False)
