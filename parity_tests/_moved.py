"""Old names of modules, for one release: importing one gives the module it has become, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.util import spec_from_loader
from types import CodeType, ModuleType

HERE, SYSTEMS = "parity_tests.", "parity_tests.systems."
MOVED = {  # name in this package -> new name; what is below a package moved with it
    "bundles": "portparity.bundles",
    "examples": "portparity.examples",
    "localise": "portparity.localise",
    "ports": "portparity.ports",
    "report": "portparity.report",
    "cases.corruption": SYSTEMS + "corruption.cases",
    "cases.first_ddpm": SYSTEMS + "first_ddpm.cases",
    "cases.latent": SYSTEMS + "latent.cases",
    "cases.maths": SYSTEMS + "core.cases.maths",
    "cases.nets": SYSTEMS + "core.cases.nets",
    "cases.peers": SYSTEMS + "core.peers",
    "cases.sampling": SYSTEMS + "core.cases.sampling",
    "cases.scheduler_peers": SYSTEMS + "schedulers.peers",
    "cases.schedulers": SYSTEMS + "schedulers.cases",
    "cases.score": SYSTEMS + "score.cases.models",
    "cases.score_nets": SYSTEMS + "score.cases.nets",
    "cases.training": SYSTEMS + "core.cases.training",
    "mutants.corruption": SYSTEMS + "corruption.mutants",
    "mutants.kernels": SYSTEMS + "core.mutants.kernels",
    "mutants.latent": SYSTEMS + "latent.mutants",
    "mutants.on_mindspore": SYSTEMS + "core.mutants.on_mindspore",
    "mutants.schedulers": SYSTEMS + "schedulers.mutants",
    "mutants.score_nets": SYSTEMS + "score.mutants.nets",
    "mutants.torch_maths": SYSTEMS + "core.mutants.torch_maths",
    "mutants.torch_nets": SYSTEMS + "core.mutants.torch_nets",
    "mutants.torch_score": SYSTEMS + "score.mutants.models",
    "mutants.torch_training": SYSTEMS + "core.mutants.torch_training",
    "oracle.corruption": SYSTEMS + "corruption.oracle",
    "oracle.latent": SYSTEMS + "latent.oracle",
    "oracle.schedulers": SYSTEMS + "schedulers.oracle",
    "oracle.score": SYSTEMS + "score.oracle.models",
    "oracle.score_nets": SYSTEMS + "score.oracle.nets",
}


def new_name(name: str) -> str:
    """What the module ``name`` is called now; "" where that is its name."""
    old, below = name.removeprefix(HERE), ""
    while old and name.startswith(HERE):
        if old in MOVED:
            return MOVED[old] + below
        old, _, last = old.rpartition(".")
        below = f".{last}{below}"
    return ""


class Finder(MetaPathFinder, Loader):
    """Finds old names, and puts the modules that have the new ones in their places."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """A spec for an old name; asked before folders are looked into."""
        return spec_from_loader(name, self) if new_name(name) else None

    def exec_module(self, module: ModuleType) -> None:
        """One module under two names: what is patched in one is patched in the other."""
        old, new = module.__name__, new_name(module.__name__)
        warnings.warn(f"{old} is {new} now, and goes in the next release", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(new)

    def get_code(self, name: str) -> CodeType:
        """What ``python -m`` runs."""
        return compile(f"import runpy\nrunpy.run_module({new_name(name)!r}, None, '__main__', True)", name, "exec")


sys.meta_path.insert(0, Finder())
