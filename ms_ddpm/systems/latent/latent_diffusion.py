"""Latent diffusion: a score model over an autoencoder's normalised latents.

Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models", https://arxiv.org/abs/2112.10752,
with the SDEs of `ms_ddpm.nn.sde`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ... import data
from ...arrays import TakesArrays, takes_arrays
from ...config import Config, image_sides, to_dict
from ...errors import UserError
from ...maths.random import Stream, stream
from ...models.autoencoder import AutoEncoder
from ...models.conditional_unet import LatentScoreUnet
from ...ops.assign import set_value
from ...storage import checkpoint
from ...storage.fingerprint import remembers
from ...storage.tensorfile import digest
from ...storage.weights import set_parameters
from ...trainable import Trainable
from ...training import resuming
from ..autoencoder.image_autoencoder import NET, ImageAutoencoder, load_autoencoder
from ..score.score_model import ScoreModel, build_sde, precondition, score_options
from . import latents

AUTOENCODER = "autoencoder."  # what the names of a `LatentDiffusion`'s autoencoder begin with


@remembers()
class OneClass(TakesArrays):
    """A conditional network of one class as an unconditional one: ``net(x, t)``."""

    whole_numbers = frozenset()

    def __init__(self, net: nn.Cell):
        super().__init__()
        self.net = net
        self.check_size = net.check_size

    def construct(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t, ops.zeros((x.shape[0],), ms.int32))


@remembers()
class LatentDiffusion(Trainable):
    """Trains ``model`` on latents, and makes images with it.

    ``cell(z, *labels, *draws)`` with latents z (B, C, h, w) as the encoder gave them is the scalar loss of ``model`` on
    (z - mean) / std, per channel; `draw` is the model's; `sample` turns its latents back and decodes them. The
    autoencoder and the statistics are parameters that are not trained, so that a checkpoint holds all that sampling
    needs; the autoencoder is never in training mode.

    Args:
        model: over latents of the autoencoder's ``latent_shape``.
        autoencoder: decodes.

    Raises:
        UserError: where the two do not fit.
    """

    whole_numbers = ScoreModel.whole_numbers
    of_its_data = (AUTOENCODER, "latent_mean", "latent_std")  # a run that begins with other weights keeps them

    def __init__(self, model: ScoreModel, autoencoder: ImageAutoencoder):
        super().__init__()
        shape = (model.channels, *model.image_size)
        if shape != autoencoder.latent_shape:
            raise UserError(f"the model is for latents {shape}, but the autoencoder's are {autoencoder.latent_shape}")
        self.channels = model.channels
        self.image_size = model.image_size
        self.conditional = model.conditional
        self.num_classes = model.num_classes
        self.model = model
        self.autoencoder = autoencoder
        for parameter in autoencoder.get_parameters():
            parameter.requires_grad = False
        per_channel = (1, model.channels, 1, 1)
        self.latent_mean = Parameter(np.zeros(per_channel, np.float32), name="latent_mean", requires_grad=False)
        self.latent_std = Parameter(np.ones(per_channel, np.float32), name="latent_std", requires_grad=False)
        self.opened: latents.Latents | None = None  # what `open_data` gave
        self._data_may_differ = self._latents_are_new = False  # see `open_data`

    def set_train(self, mode: bool = True) -> LatentDiffusion:
        """Training mode for everything but the autoencoder."""
        super().set_train(mode)
        self.autoencoder.set_train(False)
        return self

    def draw(self, rng: np.random.Generator, batch: tuple[np.ndarray, ...]) -> tuple:
        """The model's."""
        return self.model.draw(rng, batch)

    @takes_arrays
    def normalised(self, z: Tensor) -> Tensor:
        """Latents as the encoder gave them -> mean 0 and deviation 1 in every channel."""
        return (z - self.latent_mean) / self.latent_std

    def argument_names(self) -> tuple[str, ...]:
        """The model's, of latents."""
        return ("z", *self.model.argument_names()[1:])

    def construct(self, z: Tensor, *inputs: Tensor) -> Tensor:
        return self.model(self.normalised(z), *inputs)

    # --- data --------------------------------------------------------------------------------------------------------

    def use_autoencoder(self, trained: ImageAutoencoder) -> None:
        """Takes over the weights of ``trained``. Raises UserError where it is another kind of autoencoder."""
        own, theirs = ({name: p for name, p in cell.net.parameters_and_names()} for cell in (self.autoencoder, trained))
        facts = (
            ("autoencoder_channels", list(self.autoencoder.net.widths), list(trained.net.widths)),
            ("channels", self.autoencoder.channels, trained.channels),
            ("image_size", self.autoencoder.image_size, trained.image_size),
        )
        for name, mine, given in facts:
            if mine != given:
                raise UserError(
                    f"the autoencoder was trained with {name} {given}, but {name} is {mine}; set it to {given}"
                )
        for name, parameter in own.items():
            set_value(parameter, theirs[name].asnumpy())

    def use_statistics(self, statistics: latents.Statistics) -> None:
        """Takes the mean and deviation, per channel, by which latents are normalised."""
        set_value(self.latent_mean, statistics.mean.astype(np.float32))
        set_value(self.latent_std, statistics.std.astype(np.float32))

    def open_data(self, config: Config) -> data.ImageSource:
        """The latents of ``config.dataset`` by the autoencoder of the run ``config.autoencoder``.

        Where ``output_dir`` holds a checkpoint to continue, they are by the autoencoder in that, whatever has become
        of the other since. Autoencoder and statistics are the Cell's from then on. Latents are read from
        ``output_dir``/latents.npz where it is there; `keep_data` writes it. Where ``accept_changes`` takes other data,
        their latents are made anew, and normalised as those were that the weights were trained on.

        Raises:
            UserError: no autoencoder or one that does not fit, latents of another one, a checkpoint of another run, a
                data set that cannot be read.
        """
        path = resuming.find(Path(config.output_dir), config.resume)
        if path is None and config.autoencoder is None:
            raise UserError(
                "the system latent needs an autoencoder: train one (--system autoencoder) and give its output_dir as "
                "--autoencoder"
            )
        if config.flip:
            raise UserError(
                "flip mirrors images, and a mirrored latent is no latent of a mirrored image; set flip false"
            )
        renew = False
        if path is None:
            self.use_autoencoder(load_autoencoder(config.autoencoder))
        else:
            loaded, accept = checkpoint.load(path, ("model",)), config.accept_changes or ()
            # Whether the images are others, wherever they lie, their own digest says.
            free = ("gradient_accumulate_every", "dataset")
            resuming.check_same_config(loaded, to_dict(config), free, accept)
            renew, self._data_may_differ = resuming.accepts_data(loaded, accept)
            set_parameters(self.autoencoder, _of_autoencoder(loaded.arrays["model"]), f"checkpoint {path}")
        images = data.open_configured(config, image_size=self.autoencoder.image_size)
        file = Path(config.output_dir) / latents.FILE
        found = latents.prepare(file, self.autoencoder, images, config.dataset, renew=renew)
        self._latents_are_new = renew
        self.use_statistics(found.statistics)
        self.opened = found
        return found.source(images.class_names)

    def keep_data(self, folder: str | Path) -> None:
        """Writes what `open_data` gave to ``folder``/latents.npz, unless there is one. For whoever holds its lock."""
        path = Path(folder) / latents.FILE
        if self.opened is not None and (self._latents_are_new or not path.exists()):
            latents.write(path, self.opened)

    def check_loaded(self, arrays: Mapping[str, np.ndarray], what: str) -> None:
        """Raises UserError where the weights ``arrays`` of ``what`` are of other latents than `open_data` gave.

        ``arrays`` are all that the Cell has, by name: the autoencoder and the statistics in them must be those by
        which the latents were made and normalised.
        """
        if self.opened is None:
            return
        net = {name.removeprefix(NET): value for name, value in _of_autoencoder(arrays).items()}
        if digest(net) != self.opened.autoencoder:
            raise UserError(
                f"{what} is of another autoencoder than the latents that were opened (its fingerprint is "
                f"{digest(net)[:12]}, theirs {self.opened.autoencoder[:12]}); take another --output_dir to start afresh"
            )
        own = self.opened.statistics
        given = latents.Statistics(
            arrays["latent_mean"].reshape(-1).astype(np.float64), arrays["latent_std"].reshape(-1).astype(np.float64),
            own.scalar_mean, own.scalar_std,
        )  # fmt: skip
        if not self._data_may_differ and not given.close_to(own):
            raise UserError(
                f"{what} was trained on latents of other mean and deviation than those that were opened: the data set "
                "has changed since; give the former one, or another --output_dir to start afresh"
            )

    # --- images ------------------------------------------------------------------------------------------------------

    def to_images(self, z: np.ndarray) -> np.ndarray:
        """Latents (N, C, h, w), not normalised, decoded: (N, channels, H, W) float32 in (0, 1)."""
        return self.autoencoder.decode(z)

    def sample(self, batch_size: int = 16, **options) -> Tensor:
        """Images (B, C, H, W) in (0, 1), with ``return_all_timesteps`` the chain (B, states, C, H, W), decoded.

        Options are those of `ScoreModel.sample`; a ``noise`` tape holds arrays of the latents' shape.
        """
        z = self.model.sample(batch_size, **options).asnumpy() * self.latent_std.asnumpy() + self.latent_mean.asnumpy()
        images = self.to_images(z.reshape(-1, *z.shape[-3:]))
        return Tensor(images.reshape(*z.shape[:-3], *images.shape[1:]))

    def check_sample(self, **options) -> None:
        """Raises UserError where `sample` would refuse ``options``, before anything is drawn."""
        self.model.check_sample(**options)


def _of_autoencoder(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of a `LatentDiffusion`'s arrays those of its autoencoder, by the names they have there."""
    return {name.removeprefix(AUTOENCODER): value for name, value in arrays.items() if name.startswith(AUTOENCODER)}


def build_latent(config: Config) -> LatentDiffusion:
    """The latent diffusion of ``config``, with the initial weights of its seed.

    The autoencoder in it holds no trained weights until a checkpoint is loaded or `LatentDiffusion.open_data` called.

    Raises:
        UserError: for sizes and widths that do not fit.
    """
    sides, widths = image_sides(config), tuple(config.channel_widths)
    net = AutoEncoder(config.autoencoder_channels, in_channels=config.channels, rng=0)
    autoencoder = ImageAutoencoder(net, image_size=sides)
    channels, height, width = autoencoder.latent_shape
    if len(widths) != 4 or widths[0] != channels:
        raise UserError(
            f"channel_widths is {list(widths)}; for latents of {channels} channels (the last of autoencoder_channels) "
            f"expected {channels} and three widths, such as {channels} 64 128 256"
        )
    sde = build_sde(config)
    guided = config.num_classes > 0 and config.class_dropout > 0
    score_net = LatentScoreUnet(
        sde.marginal_prob_std, widths, config.embed_dim, config.text_dim, max(config.num_classes, 1), config.num_heads,
        null_class=guided, fourier_scale=config.fourier_scale, whole=True,
        rng=stream(config.seed, Stream.WEIGHTS),
    )  # fmt: skip
    model = ScoreModel(
        precondition(score_net if config.num_classes else OneClass(score_net), sde, config),
        sde,
        image_size=(height, width),
        channels=channels,
        **score_options(config),
    )
    return LatentDiffusion(model, autoencoder)
