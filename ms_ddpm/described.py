"""The configuration of a Cell that was built in Python: what ``sample.py`` builds it from again.

The inverse of `recipes.build`, from what the Cells remember of their constructors. An argument without a configuration
key may only have its default: what a configuration cannot say is said, not guessed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mindspore import nn

from .autoencoder import ImageAutoencoder
from .config import FIELDS, Config, read_value, to_dict
from .corruption import Corruption
from .diffusion import GaussianDiffusion
from .errors import UserError, quoted
from .fingerprint import HOW_NOT_WHAT, arguments_of, plain_fact
from .latent import LatentDiffusion, OneClass
from .nets.autoencoder import AutoEncoder
from .nets.basic import BasicNet
from .nets.conditional_unet import ConditionalScoreUnet, LatentScoreUnet
from .nets.preconditioning import PreconditionedScore
from .nets.score_unet import ScoreUnet
from .nets.unet import Unet
from .perceptual import GradientLoss
from .score import ScoreModel
from .sde import SDES

NOT_FROM_A_PATH = "(given in Python)"  # the data set of a run that was not given its path

# Per class: argument -> configuration key, where the two are not called alike. None: it follows from other arguments.
KEYS: dict[type, dict[str, str | None]] = {
    GaussianDiffusion: {},
    Unet: {},
    ScoreModel: {"sampler": "score_sampler", "denoise": "sampling_denoise"},
    PreconditionedScore: {},
    OneClass: {},
    ScoreUnet: {
        "channels": "channel_widths", "in_channels": "channels", "skips": "score_net", "whole": "whole_images"
    },
    ConditionalScoreUnet: {
        "channels": "channel_widths", "in_channels": "channels", "null_class": None, "whole": "whole_images"
    },
    LatentScoreUnet: {"channels": "channel_widths", "null_class": None, "whole": None, "num_classes": None},
    Corruption: {},
    BasicNet: {"in_channels": "channels", "out_channels": "channels"},
    ImageAutoencoder: {},
    AutoEncoder: {"channels": "autoencoder_channels", "in_channels": "channels"},
    LatentDiffusion: {},
    GradientLoss: {},
    SDES["ve"]: {},
    SDES["vp"]: {"beta_min": "sde_beta_min", "beta_max": "sde_beta_max"},
    SDES["subvp"]: {"beta_min": "sde_beta_min", "beta_max": "sde_beta_max"},
}  # fmt: skip
SYSTEM_OF: dict[type, str] = {
    GaussianDiffusion: "diffusion", ScoreModel: "score", Corruption: "corruption", ImageAutoencoder: "autoencoder",
    LatentDiffusion: "latent",
}  # fmt: skip
NETWORKS = {  # what `recipes.build` puts into them; a network of one's own is no configuration
    GaussianDiffusion: (Unet,), ScoreModel: (ScoreUnet, ConditionalScoreUnet, PreconditionedScore),
    Corruption: (BasicNet,), ImageAutoencoder: (AutoEncoder,),
}  # fmt: skip


class _NoConfiguration(Exception):
    """Why there is none, in words."""


def configuration(cell: nn.Cell, given: Mapping[str, Any], dataset: str | None) -> dict[str, Any]:
    """The configuration by which `recipes.build` makes ``cell`` again, with what else is known of its run.

    Args:
        cell: of any system.
        given: the `Trainer`'s arguments.
        dataset: what `data.open_images` was given, or None.

    Raises:
        UserError: where no configuration makes such a Cell; the message says why.
    """
    try:
        values = {**_of_trainer(given), **_of_cell(cell)}
        values["dataset"] = NOT_FROM_A_PATH if dataset is None else dataset
        height, width = values["image_size"]
        values["image_size"] = height if height == width else [height, width]
        return to_dict(Config(**{name: read_value(name, value) for name, value in values.items()}))
    except _NoConfiguration as error:
        raise UserError(error) from None


def _of_trainer(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a Trainer that are configuration keys too, which have the same names."""
    called = {"augment_horizontal_flip": "flip", "results_folder": "output_dir"}
    named = {called.get(name, name): str(v) if name == "results_folder" else v for name, v in given.items()}
    named = {name: plain_fact(value) for name, value in named.items() if name in FIELDS and name != "dataset"}
    found = {}
    for name in named:
        try:
            found[name] = read_value(name, named[name])
        except UserError:  # a function for a schedule
            continue
    return found | {"accept_changes": None}  # said for one start alone


def _of_cell(cell: nn.Cell) -> dict[str, Any]:
    if type(cell) not in SYSTEM_OF:
        raise _NoConfiguration(f"{type(cell).__name__} is no model of ms_ddpm, such as GaussianDiffusion")
    values: dict[str, Any] = {"system": SYSTEM_OF[type(cell)]}
    if type(cell) is LatentDiffusion:
        inner = arguments_of(cell)
        latent = _Found()
        latent.take(inner["model"], networks=(LatentScoreUnet, OneClass, PreconditionedScore))
        images = _Found()
        images.take(inner["autoencoder"])
        for key in ("image_size", "channels"):  # of the latents
            latent.values.pop(key)
        images.values.pop("perceptual", None)
        images.values.pop("perceptual_weight", None)
        return values | latent.values | images.values
    found = _Found()
    found.take(cell)
    return values | found.values


class _Found:
    """Keys that several Cells said something about; they may not contradict each other."""

    def __init__(self):
        self.values: dict[str, Any] = {}

    def put(self, key: str, value: Any, who: str) -> None:
        if self.values.setdefault(key, value) != value:
            raise _NoConfiguration(f"its {who} has {key} {quoted(value)}, and another part {quoted(self.values[key])}")

    def take(self, thing: object, networks: tuple[type, ...] | None = None) -> None:
        """Adds what ``thing`` and the objects that it was given say."""
        kind, name = type(thing), type(thing).__name__
        if kind not in KEYS:
            raise _NoConfiguration(f"{name} is no part that a configuration knows")
        defaults = inspect.signature(kind.__init__).parameters
        networks = NETWORKS.get(kind) if networks is None else networks
        for argument, value in arguments_of(thing).items():
            key = KEYS[kind].get(argument, argument)
            if isinstance(value, nn.Cell) or type(value) in KEYS:
                if argument in ("model", "net") and networks is not None and type(value) not in networks:
                    raise _NoConfiguration(f"its network {type(value).__name__} is none that a configuration knows")
                self.take(value, networks)
            elif key in FIELDS:
                if value is not None or FIELDS[key].default is None:
                    self.put(key, read_value(key, value), name)
            elif key is not None and argument not in HOW_NOT_WHAT and value != plain_fact(defaults[argument].default):
                raise _NoConfiguration(f"a configuration cannot say {name}({argument}={quoted(value)})")
        self._more(thing)

    def _more(self, thing: object) -> None:
        """What a class says by being there."""
        name = next((name for name, kind in SDES.items() if kind is type(thing)), None)
        if name is not None:
            self.put("sde", name, "SDE")
        elif type(thing) is ConditionalScoreUnet:
            self.put("score_net", "transformer", "network")
        elif type(thing) is LatentScoreUnet and not arguments_of(thing)["whole"]:
            raise _NoConfiguration("a configuration cannot say LatentScoreUnet(whole=False)")
        elif type(thing) is GradientLoss:
            self.put("perceptual", "gradient", "loss")
        elif type(thing) is ImageAutoencoder and arguments_of(thing).get("perceptual") is None:
            self.put("perceptual", "none", "loss")
