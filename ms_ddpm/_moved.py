"""Old names, for one release: ``import ms_ddpm.trainer`` gives `ms_ddpm.training.trainer`, and says so.

There is one module under two names, so that what is patched in one is patched in the other. What moved alone out of a
module that stayed is in `NAMES`, and that module has ``__getattr__ = names_moved_from(__name__)``.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

MOVED = {
    "_datasets": "data.datasets",
    "_files": "data.reading",
    "_folders": "data.folders",
    "_readers": "config.readers",
    "_supervisor": "devices.supervisor",
    "_watch": "devices.watch",
    "amp": "training.amp",
    "autoencoder": "systems.autoencoder.image_autoencoder",
    "checkpoint": "storage.checkpoint",
    "colours": "config.colours",
    "config_systems": "config.limits",
    "convert": "storage.convert",
    "copies": "metrics.copies",
    "corruption": "systems.corruption.corruption",
    "corruption_pictures": "systems.corruption.pictures",
    "cuda_wheels": "devices.cuda_wheels",
    "data_identity": "data.identity",
    "described": "storage.described",
    "diffusion": "systems.diffusion.gaussian_diffusion",
    "distributed": "devices.distributed",
    "ema": "training.ema",
    "epochs": "training.epochs",
    "evaluation": "metrics.evaluation",
    "explain": "systems.corruption.explain",
    "figures": "pictures.figures",
    "files": "storage.files",
    "fingerprint": "storage.fingerprint",
    "first_ddpm": "systems.diffusion.first_ddpm",
    "foreign_files": "storage.foreign_files",
    "given": "data.given",
    "graph_errors": "training.graph_errors",
    "images": "pictures.images",
    "keys": "config.keys",
    "labels": "data.labels",
    "latent": "systems.latent.latent_diffusion",
    "latents": "systems.latent.latents",
    "layouts": "config.layouts",
    "likelihood": "nn.likelihood",
    "looking": "pictures.looking",
    "lr_schedules": "training.lr_schedules",
    "maths.likelihood": "nn.likelihood",
    "maths.sde": "nn.sde",
    "memory": "devices.memory",
    "mindir": "models.mindir",
    "mindspore_files": "storage.mindspore_files",
    "nets": "models",
    "nets.activations": "nn.activations",
    "nets.attention": "nn.attention",
    "nets.autoencoder": "models.autoencoder",
    "nets.basic": "models.basic",
    "nets.blocks": "nn.blocks",
    "nets.conditional_unet": "models.conditional_unet",
    "nets.contract": "nn.contract",
    "nets.embeddings": "nn.embeddings",
    "nets.layers": "nn.layers",
    "nets.lpips": "models.lpips",
    "nets.norms": "nn.norms",
    "nets.preconditioning": "nn.preconditioning",
    "nets.score_unet": "models.score_unet",
    "nets.transformer": "nn.transformer",
    "nets.unet": "models.unet",
    "nvidia": "devices.nvidia",
    "optim": "training.optim",
    "origin": "storage.origin",
    "perceptual": "systems.autoencoder.perceptual",
    "pipeline": "data.pipeline",
    "precision": "devices.precision",
    "published": "systems.corruption.published",
    "random": "maths.random",
    "recipes": "systems.recipes",
    "remaining": "training.remaining",
    "resuming": "training.resuming",
    "runs": "training.runs",
    "runtime": "devices.runtime",
    "sampling": "samplers.drawing",
    "schedules": "maths.schedules",
    "score": "systems.score.score_model",
    "score_likelihood": "samplers.likelihood",
    "score_pictures": "systems.score.pictures",
    "score_request": "samplers.request",
    "score_samplers": "samplers.score",
    "sde": "nn.sde",
    "sizes": "systems.sizes",
    "sources": "data.sources",
    "tensorfile": "storage.tensorfile",
    "torch_releases": "systems.diffusion.torch_releases",
    "train_step": "training.train_step",
    "trainer": "training.trainer",
    "untrusted": "storage.untrusted",
    "weights": "storage.weights",
}


NAMES = {  # module -> its names that stand elsewhere now, and where
    "ops.assign": {"set_parameters": "storage.weights"},
    "storage.convert": dict.fromkeys(
        ("infer_diffusion", "infer_unet", "parameter_order", "unet_names", "P2_WEIGHT"), "systems.diffusion.weights"
    ),
}


def names_moved_from(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of ``module``, its whole name, which gives the names in `NAMES` and says where they are."""
    package, _, inside = module.partition(".")
    moved = NAMES[inside]

    def find(name: str) -> Any:
        if name not in moved:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home = f"{package}.{moved[name]}"
        warnings.warn(
            f"{module}.{name} is {home}.{name} now; the old name goes in the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(home), name)

    return find


class OldNames:
    """Python's finder and loader of modules that have moved.

    Args:
        moved: old name -> new name, both whole. What is below a package moved with it.
    """

    def __init__(self, moved: Mapping[str, str]):
        self.moved = moved

    def new_name(self, name: str) -> str:
        """What the module ``name`` is called now; "" where that is its name."""
        old, below = name, ""
        while old and old not in self.moved:
            old, dot, last = old.rpartition(".")
            below = f"{dot}{last}{below}"
        return self.moved[old] + below if old else ""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """A spec for an old name; asked before folders are looked into."""
        return ModuleSpec(name, self) if self.new_name(name) else None

    def create_module(self, spec: ModuleSpec) -> None:
        """An empty one will do, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Puts the module of the new name in the place of ``module``, and says so."""
        old, new = module.__name__, self.new_name(module.__name__)
        warnings.warn(f"{old} is {new} now; the old name goes in the next release", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(new)

    def get_code(self, name: str) -> CodeType:
        """What ``python -m`` runs."""
        return compile(f"import runpy\nrunpy.run_module({self.new_name(name)!r}, None, '__main__', True)", name, "exec")


def install() -> None:
    """From now on old names are found, before Python looks for files."""
    sys.meta_path.insert(0, OldNames({f"{__package__}.{old}": f"{__package__}.{new}" for old, new in MOVED.items()}))
