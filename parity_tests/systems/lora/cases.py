"""LoRA: tier 0 the weights with adapters in them, tier 2 new adapters and trained ones, tier 6 their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from parity_tests.make import cases, computation
from portparity.arrays import normal, weights
from portparity.case import Arrays, Case

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
# No rank is its alpha, no scale is 1, and the two adapters have layers in common and apart.
STYLE = {"rank": 3, "alpha": 5.0, "scale": 0.7, "targets": ATTENTION, "seed": 1}
POKEMON = {"rank": 2, "alpha": 1.5, "scale": -1.3, "targets": ("conv1", "proj_in", "to_v"), "seed": 2}
ROWS: dict[str, Mapping] = {
    "attention": {"style": STYLE},
    "two_adapters": {"style": STYLE, "pokemon": POKEMON},
    "off": {"style": {**STYLE, "scale": 0.0}, "pokemon": POKEMON},
}
PRODUCTS = {"lora_network": "", "lora_new": "", "lora_merged": ""}


def _images(rng: np.random.Generator) -> Arrays:
    return {"x": normal(rng, 2, 3, 6, 10), "context": normal(rng, 2, 4, 7), "cotangent": normal(rng, 2, 15, 5)}


def _inputs(spec: Mapping, trained: bool, rng: np.random.Generator) -> Arrays:
    from .on_torch import lora_shapes  # which needs PyTorch

    shapes = lora_shapes(spec)
    base = {name: shape for name, shape in shapes.items() if not name.startswith(tuple(spec["adapters"]))}
    return weights(shapes if trained else base, rng) | _images(rng)


def tier0(seed: int = 0) -> Iterator[Case]:
    """The weights with one adapter and with two."""
    for name in ("attention", "two_adapters"):
        spec = {"adapters": ROWS[name]}
        made = computation(
            f"maths/lora_merged-{name}-pynative", "lora_merged", spec, lambda rng, spec=spec: _inputs(spec, True, rng),
            mode="pynative", seed=seed,
        )  # fmt: skip
        yield from cases("0", made, mode="pynative")


def tier2(seed: int = 0) -> Iterator[Case]:
    """New adapters, which change nothing, and trained ones: outputs and gradients."""
    spec = {"adapters": {"style": {**STYLE, "scale": 1.0}}}
    made = computation(
        "layers/lora_new-pynative", "lora_new", spec, lambda rng: _inputs(spec, False, rng), mode="pynative", seed=seed,
        rule="layers",
    )  # fmt: skip
    yield from cases("2", made, mode="pynative")
    for name, adapters in ROWS.items():
        for mode in ("pynative", "graph") if name == "two_adapters" else ("pynative",):
            spec = {"adapters": adapters}
            made = computation(
                f"layers/lora_{name}-{mode}", "lora_network", spec, lambda rng, spec=spec: _inputs(spec, True, rng),
                mode=mode, seed=seed, rule="layers",
            )  # fmt: skip
            yield from cases("2", made, mode=mode)


def tier6(seed: int = 0) -> Iterator[Case]:
    """Two adapters into files, out of them, into the weights and out again: every number as it was."""
    spec = {"adapters": ROWS["two_adapters"]}
    made = computation(
        "state/lora_files", "lora_files", spec, lambda rng: _inputs(spec, True, rng), truth="numpy", mode="pynative",
        rule="exact", neighbours=0, seed=seed,
    )  # fmt: skip
    yield from cases("6", made, mode="pynative")
