"""Learning by corruption in every tier: kinds of noise, a step, pooling, BasicNet, training, sampling chains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product

import numpy as np

from parity_tests.make import by, cases, computation, only_mindspore
from portparity.arrays import normal, weights
from portparity.backends import backend, leg
from portparity.case import Arrays, Case, Computation

KINDS = ("uniform", "gaussian", "salt_and_pepper", "poisson", "multiplicative")
AMOUNTS = np.array([0, 2.0**-25, 1e-3, 0.3, 0.5, 1 - 2.0**-24, 1], np.float32)
SIDE, BATCH = 8, 2
NET = {"in_channels": 1, "out_channels": 1, "widths": [4, 6]}
RGB = {"in_channels": 3, "out_channels": 3, "widths": [3, 5]}


def draws(kind: str, rng: np.random.Generator, x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """What is random in noise of ``kind``: uniform, normal, or counts of photons of mean x / a^2."""
    if kind in ("uniform", "salt_and_pepper"):
        return rng.random(x.shape, dtype=np.float32)
    if kind == "poisson":
        a = np.maximum(amount.astype(np.float64), 2.0**-24).reshape(-1, 1, 1, 1)
        return rng.poisson(x / a**2).astype(np.float32)
    return normal(rng, *x.shape)


def noise_inputs(rng: np.random.Generator, kind: str) -> Arrays:
    """Images from black to white at every amount, and for the two that compare, draws on the very thresholds."""
    x = rng.random((len(AMOUNTS), 3, 4, 6), dtype=np.float32)
    x[:, 0, 0, :2] = 0, 1
    z = draws(kind, rng, x, AMOUNTS)
    if kind == "salt_and_pepper":
        z[:, 0, 1, 0], z[:, 0, 1, 1], z[:, 0, 1, 2] = AMOUNTS / 2, AMOUNTS, 0
    return {"x": x, "amount": AMOUNTS, "z": z}


def tier0(seed: int = 0) -> Iterator[Case]:
    """Every kind of noise at amounts from 0 to 1."""
    for kind, mode in product(KINDS, ("graph", "pynative")):
        made = computation(
            f"maths/noise_{kind}-{mode}", "noise", {"noise": kind}, partial(noise_inputs, kind=kind), truth="numpy",
            mode=mode, seed=seed, scales=leg("numpy", "noise_scales", {"noise": kind}),
        )  # fmt: skip
        yield from cases("0", made, mode=mode)


def net_weights(rng: np.random.Generator, net: Mapping) -> Arrays:
    """Weights of a trained network's magnitude; the last bias keeps most of the final ReLU open."""
    found = weights(backend("torch").weight_shapes("basic_net", net), rng)
    found["weight.up_layers.2.bias"] = np.abs(found["weight.up_layers.2.bias"]) + np.float32(0.5)
    return found


def image_inputs(rng: np.random.Generator, net: Mapping, kind: str, *shape: int) -> Arrays:
    """Weights, images, amounts and draws; ``shape`` comes before those of a batch."""
    img = rng.random((*shape, BATCH, net["in_channels"], SIDE, SIDE), dtype=np.float32)
    amount = rng.random((*shape, BATCH), dtype=np.float32)
    flat, channels = img.reshape(-1, *img.shape[-3:]), img.shape
    z = draws(kind, rng, flat, amount.ravel()).reshape(channels)
    return net_weights(rng, net) | {"img": img, "amount": amount, "z": z}


def _step_inputs(rng: np.random.Generator) -> Arrays:
    return net_weights(rng, RGB) | {"x": rng.random((BATCH, 3, SIDE, SIDE), dtype=np.float32)}


def tier1(seed: int = 0) -> Iterator[Case]:
    """One step of the sampler, from the first to the last of 5 and of 40."""
    pairs = ((0, 5), (3, 5), (4, 5), (0, 40), (38, 40))
    for mode in ("graph", "pynative"):
        spec = {"basic_net": RGB, "side": SIDE, "steps": pairs}
        made = computation(
            f"step/corruption-{mode}", "corruption_step", spec, _step_inputs, truth="numpy", mode=mode, seed=seed,
            rule="layers",
        )  # fmt: skip
        named = ((f"step/corruption-{i}_of_{n}-{mode}", (f"*[[]step={i} of {n}]",)) for i, n in pairs)
        yield from cases("1", made, *named, mode=mode)


ROWS = {  # name: (layer, arguments, an image, by how much its sides grow)
    "conv5": ("conv2d", {"dim_in": 3, "dim_out": 8, "kernel_size": 5, "padding": 2}, (3, 8, 6), 1),
    "max_pool": ("max_pool", {}, (5, 6, 8), 0.5),
    "nearest_upsample": ("nearest_upsample", {}, (5, 4, 6), 2),
}


def _layer_inputs(rng: np.random.Generator, name: str, scale: float) -> Arrays:
    layer, arguments, (channels, height, width), grows = ROWS[name]
    found = weights(backend("torch").weight_shapes(layer, arguments), rng)
    found["x"] = np.float32(scale) * normal(rng, BATCH, channels, height, width)
    if name == "max_pool":  # equal values: the first of a square gets the gradient
        found["x"][0, 0, :2, :2], found["x"][0, 1, 0, 1] = scale, found["x"][0, 1, 1, 0]
        found["x"][0, 1, 0, 1] = found["x"][0, 1, 1, 0] = 5 * scale
    shape = (BATCH, arguments.get("dim_out", channels), int(height * grows), int(width * grows))
    return found | {"cotangent": normal(rng, *shape)}


def tier2(seed: int = 0) -> Iterator[Case]:
    """BasicNet's layers alone: forward and vector-Jacobian product, with and without the C++ kernels."""
    runs = (("graph", True), ("graph", False), ("pynative", True), ("pynative", False))
    for name, (mode, kernels), scale in product(ROWS, runs, (0.02, 1, 30)):
        layer, arguments, _, _ = ROWS[name]
        spec = {"layer": layer, "arguments": arguments, "calls": ("x",), "differentiable": [0]}
        stem = f"layers/{name}-scale{scale:g}{'-kernels' if kernels else ''}"
        made = computation(
            f"{stem}-{mode}", "layer", spec | by(kernels), partial(_layer_inputs, name=name, scale=scale), mode=mode,
            seed=seed, rule="layers", scales=leg("torch", "layer_scales", spec), other_kernels=True,
            neighbours=0 if name == "max_pool" else 2,  # the last digit would decide between equal values
        )  # fmt: skip
        named = ((f"{stem}-forward-{mode}", ("y",)), (f"{stem}-vjp-{mode}", ("grad.*",)))
        yield from cases("2", only_mindspore(made) if kernels else made, *named, mode=mode)


def _truth(kind: str, spec: Mapping):
    """Values by numpy, gradients by PyTorch in double."""
    exact, autograd = leg("numpy", kind, spec), leg("torch", kind, spec, dtype="float64")

    def truth(inputs: Arrays) -> Arrays:
        return {**autograd(inputs), **exact(inputs)}

    return truth


def _network_inputs(rng: np.random.Generator, net: Mapping) -> Arrays:
    x = rng.random((BATCH, net["in_channels"], SIDE, SIDE), dtype=np.float32)
    return net_weights(rng, net) | {"x": x, "cotangent": normal(rng, *x.shape)}


def tier3(seed: int = 0) -> Iterator[Case]:
    """The whole BasicNet: forward, gradient of the input, every parameter's gradient."""
    rows = (
        ("basic_net", NET, "graph", True), ("basic_net", NET, "pynative", False), ("basic_net", NET, "graph", False),
        ("basic_net_rgb", RGB, "pynative", True), ("basic_net_rgb", RGB, "pynative", False),
    )  # fmt: skip
    for name, net, mode, kernels in rows:
        spec = {"basic_net": net, "side": SIDE, **by(kernels)}
        stem = f"network/{name}{'-kernels' if kernels else ''}"
        made = computation(
            f"{stem}-{mode}", "basic_net", spec, partial(_network_inputs, net=net), truth=_truth("basic_net", spec),
            mode=mode, seed=seed, rule="layers", other_kernels=True,
        )  # fmt: skip
        named = (("forward", "y"), ("vjp_input", "grad.x"), ("vjp_weights", "grad.weight.*"))
        made = only_mindspore(made) if kernels else made
        yield from cases("3", made, *((f"{stem}-{part}-{mode}", (pattern,)) for part, pattern in named), mode=mode)


STEPS = 6


def _train(name: str, kind: str, mode: str, kernels: bool, seed: int) -> Computation:
    spec = {
        "basic_net": NET, "side": SIDE, "noise": kind, "arguments": {"lr": 1e-3, "betas": [0.9, 0.999]}, **by(kernels)
    }  # fmt: skip
    inputs = partial(_training_inputs, kind=kind)
    return computation(
        f"training/{name}-{mode}", "corruption_train", spec, inputs, rule="envelope", mode=mode, seed=seed,
        neighbours=2, other_kernels=True,
    )  # fmt: skip


def _training_inputs(rng: np.random.Generator, kind: str) -> Arrays:
    return image_inputs(rng, NET, kind, STEPS)


def tier4(seed: int = 0) -> Iterator[Case]:
    """The loss and its gradients for every kind of noise, and some steps of training."""
    for kind in KINDS:
        mode = "graph" if kind == "uniform" else "pynative"
        spec = {"basic_net": NET, "side": SIDE, "noise": kind}
        inputs = partial(image_inputs, net=NET, kind=kind)
        stem = f"training/corruption_loss-{kind}"
        made = computation(
            f"{stem}-{mode}", "corruption_loss", spec, inputs, truth=_truth("corruption_loss", spec), mode=mode,
            seed=seed, rule="layers", other_kernels=True,
        )  # fmt: skip
        yield from cases(
            "4", made, (f"{stem}-value-{mode}", ("loss",)), (f"{stem}-gradient-{mode}", ("grad.*",)), mode=mode
        )
    for name, mode, kernels in (("corruption_run-kernels", "graph", True), ("corruption_run", "pynative", False)):
        made = _train(name, "uniform", mode, kernels, seed)
        named = ((f"training/{name}-loss-{mode}", ("loss",)), (f"training/{name}-weights-{mode}", ("weight.*",)))
        yield from cases("4", only_mindspore(made) if kernels else made, *named, mode=mode)


def _chain_inputs(rng: np.random.Generator, kind: str) -> Arrays:
    grey, whole = np.full((BATCH, 1, SIDE, SIDE), 0.5, np.float32), np.ones(BATCH, np.float32)
    return net_weights(rng, NET) | {"z": draws(kind, rng, grey, whole)}


def tier5(seed: int = 0) -> Iterator[Case]:
    """Sampling chains of 5 and 40 steps, and where the other kinds of noise start."""
    for kind, steps in (("uniform", 5), ("uniform", 40), ("gaussian", 5), ("salt_and_pepper", 5), ("poisson", 5),
                        ("multiplicative", 5)):  # fmt: skip
        spec = {"basic_net": NET, "side": SIDE, "noise": kind, "steps": steps}
        made = computation(
            f"sampling/corruption_{steps}-{kind}", "corruption_chain", spec, partial(_chain_inputs, kind=kind),
            truth="numpy", rule="envelope", seed=seed, other_kernels=True, mode="graph" if steps == 40 else "pynative",
        )  # fmt: skip
        named = ((f"{made.key}-{part}", (part,)) for part in ("states", "predictions"))
        yield from cases("5", made, *named, mode=made.spec["mode"])


WITHOUT_PRODUCTS = ("max_pool",)
SMALL_SET = (  # what parity_tests/bundles holds of it
    "step/corruption-pynative",
    "training/corruption_loss-poisson-pynative",
    "sampling/corruption_5-uniform",
)
