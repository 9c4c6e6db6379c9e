"""Old names of modules, for one release: importing one gives the module it has become, with a DeprecationWarning."""

from __future__ import annotations

import sys

from ms_ddpm._moved import OldNames

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


sys.meta_path.insert(0, OldNames({HERE + old: new for old, new in MOVED.items()}))
