"""Old names of modules, for one release: importing one gives the module it has become, with a DeprecationWarning."""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.util import spec_from_loader
from types import ModuleType

SYSTEMS = "torch_ref.systems."
MOVED = {
    "torch_ref.autoencoder": SYSTEMS + "latent.autoencoder",
    "torch_ref.basic_net": SYSTEMS + "corruption.basic_net",
    "torch_ref.corruption": SYSTEMS + "corruption.model",
    "torch_ref.first_ddpm": SYSTEMS + "first_ddpm",
    "torch_ref.latent": SYSTEMS + "latent.model",
    "torch_ref.lpips": SYSTEMS + "latent.lpips",
    "torch_ref.schedulers": SYSTEMS + "schedulers",
    "torch_ref.score": SYSTEMS + "score.model",
    "torch_ref.score_likelihood": SYSTEMS + "score.likelihood",
    "torch_ref.score_samplers": SYSTEMS + "score.samplers",
    "torch_ref.score_unet": SYSTEMS + "score.unet",
    "torch_ref.sde": SYSTEMS + "score.sde",
    "torch_ref.transformer": SYSTEMS + "score.transformer",
}


class Finder(MetaPathFinder, Loader):
    """Finds old names, and puts the modules that have the new ones in their places."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """A spec for an old name; asked before folders are looked into."""
        return spec_from_loader(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """One module under two names: what is patched in one is patched in the other."""
        old, new = module.__name__, MOVED[module.__name__]
        warnings.warn(f"{old} is {new} now, and goes in the next release", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(new)


sys.meta_path.insert(0, Finder())
