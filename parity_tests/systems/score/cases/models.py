"""Score models, tiers 0, 1, 4 and 5: SDEs, one step of every sampler, losses and training, chains, likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product

import numpy as np

from parity_tests.make import cases, computation
from portparity.arrays import normal
from portparity.backends import leg
from portparity.case import Arrays, Case

from .nets import score_weights

SDES = {
    "ve": {"sde": "ve", "sde_arguments": {"sigma": 25.0}},
    "vp": {"sde": "vp", "sde_arguments": {"beta_min": 0.1, "beta_max": 20.0}},
    "subvp": {"sde": "subvp", "sde_arguments": {"beta_min": 0.1, "beta_max": 20.0}},
}
OTHER = {  # no default in sight
    "ve_7": {"sde": "ve", "sde_arguments": {"sigma": 7.0}},
    "vp_slow": {"sde": "vp", "sde_arguments": {"beta_min": 0.3, "beta_max": 11.0}},
    "subvp_slow": {"sde": "subvp", "sde_arguments": {"beta_min": 0.3, "beta_max": 11.0}},
}
FUNCTIONS = ("marginal_prob_coeff", "marginal_prob_std", "drift_coeff", "diffusion_coeff")
TIMES = (1e-5, 1e-3, 0.03, 0.5, 1.0)
CHANNELS, SIZE, CLASSES, BATCH = 2, (3, 4), 3, 3
STANDIN = {"channels": CHANNELS, "size": SIZE}
PRECONDITION = {"precondition": {"sigma_data": 0.4, "data_mean": 0.3}}
CONDITIONAL = {**STANDIN, "num_classes": CLASSES}
AROUND, AROUND_CONDITIONAL = {**STANDIN, **PRECONDITION}, {**CONDITIONAL, **PRECONDITION}
STEPS = ("euler", "pc_image", "pc_batch", "heun", "flow", "denoise")
MODES = ("graph", "pynative")


def standin_weights(rng: np.random.Generator, classes: int = 0) -> Arrays:
    """Weights of the stand-in whose score points at the data, so that chains do not explode."""
    shape = (1, CHANNELS, 1, 1)
    found = {"weight.gain": 1 + 0.2 * normal(rng, *shape), "weight.bias": 0.5 * normal(rng, *shape)}
    found["weight.mix"] = 0.4 * normal(rng, *shape)
    if classes:
        found["weight.table"] = 0.5 * normal(rng, classes + 1, CHANNELS)
    return {name: value.astype(np.float32) for name, value in found.items()}


def step_inputs(rng: np.random.Generator, classes: int) -> Arrays:
    """x, noises, a probe, and classes where there are any."""
    found = standin_weights(rng, classes)
    found |= {name: normal(rng, BATCH, CHANNELS, *SIZE) for name in ("noise", "corrector_noise", "probe")}
    found["x"] = 1.5 * normal(rng, BATCH, CHANNELS, *SIZE)
    return found | ({"labels": np.array([2, 0, 1], np.int32)} if classes else {})


def tier0(seed: int = 0) -> Iterator[Case]:
    """The SDEs' functions, near t = 0 too."""
    for (name, sde), mode in product({**SDES, **OTHER}.items(), MODES):
        inputs = partial(lambda rng, times: {"t": np.array(times, np.float32)}, times=TIMES)
        made = computation(
            f"maths/sde_{name}-{mode}", "sde", sde, inputs, truth="numpy", mode=mode, seed=seed, neighbours=0
        )
        stem = f"maths/sde_{name}"
        yield from cases("0", made, *((f"{stem}-{f}-{mode}", (f"{f}*",)) for f in FUNCTIONS), mode=mode)


def tier1(seed: int = 0) -> Iterator[Case]:
    """One step of every sampler for every SDE; with guidance; in pynative for one SDE."""
    rows = [(sde, step, 1.0, "graph", STANDIN) for sde, step in product(SDES, STEPS)]
    rows += [(sde, step, 1.0, "graph", AROUND) for sde, step in product(SDES, ("euler", "flow"))]
    guided_rows = (("ve", "euler", 2.5), ("vp", "heun", 2.5), ("subvp", "pc_image", 0.0))
    rows += [(*row, "graph", CONDITIONAL) for row in guided_rows]
    rows += [("vp", "euler", 2.5, "graph", AROUND_CONDITIONAL)]
    rows += [("vp", step, 1.0, "pynative", STANDIN) for step in STEPS] + [("vp", "euler", 1.0, "pynative", AROUND)]
    rows += [("ve", "euler", 2.5, "pynative", CONDITIONAL)]
    for sde, step, scale, mode, net in rows:
        guided = scale != 1
        spec = {
            **SDES[sde], **net, "step": step, "times": [1.0, 0.4, 0.01, 0.001],
            "dt": 0.3 if step == "heun" else 0.02, "snr": 0.16, "scale": scale,
        }  # fmt: skip
        around = "preconditioned" if "precondition" in net else ""
        label = f"{sde}-{step}-{around}{f'guided{scale:g}' if guided else ''}"
        label += "" if around or guided else "plain"
        made = computation(
            f"step/score_{label}-{mode}", "score_step", spec, partial(step_inputs, classes=CLASSES if guided else 0),
            truth="numpy", mode=mode, seed=seed,
        )  # fmt: skip
        named = [(made.key, ("x_next*",))]
        if step == "flow":
            named.append((f"step/score_divergence-{sde}{around and '-'}{around}-{mode}", ("divergence*",)))
        yield from cases("1", made, *named, mode=mode)


def loss_inputs(rng: np.random.Generator, classes: int, drops: bool, count: int | None = None) -> Arrays:
    """Images, times from both ends, noise; the stand-in's weights. ``count``: that many batches."""
    lead = (count,) if count else ()
    times = np.array([1e-5, 0.02, 0.3, 0.7, 1.0], np.float32)
    found = standin_weights(rng, classes)
    found["img"] = rng.random((*lead, len(times), CHANNELS, *SIZE), dtype=np.float32)
    found |= {"t": np.broadcast_to(times, (*lead, len(times))).copy(), "z": normal(rng, *found["img"].shape)}
    if classes:
        found["labels"] = rng.integers(0, classes, (*lead, len(times))).astype(np.int32)
    if drops:
        found["dropped"] = np.broadcast_to(np.array([0, 1, 0, 1, 0], np.int32), (*lead, len(times))).copy()
    return found


NETS: dict[str, tuple[str, Mapping, tuple[int, int], int]] = {  # name: network, arguments, image, classes
    "concat": ("score_unet", {"channels": [32, 32, 32, 32], "embed_dim": 16, "skips": "concat"}, (17, 18), 0),
    "transformer": (
        "conditional_score_unet",
        {
            "channels": [32, 32, 32, 32], "embed_dim": 16, "text_dim": 8, "num_classes": 4, "num_heads": 2,
            "null_class": True,
        }, (17, 18), 4,
    ),
}  # fmt: skip


def net_inputs(rng: np.random.Generator, name: str, count: int | None = None, batch: int = 2) -> Arrays:
    """A score network's weights, and batches with their draws."""
    kind, arguments, size, classes = NETS[name]
    lead = (count, batch) if count else (batch,)
    found = score_weights(kind, arguments, rng)
    found["img"] = rng.random((*lead, 1, *size), dtype=np.float32)
    found |= {"t": rng.uniform(0.05, 1, lead).astype(np.float32), "z": normal(rng, *found["img"].shape)}
    if classes:
        found["labels"] = rng.integers(0, classes, lead).astype(np.int32)
        found["dropped"] = (np.arange(np.prod(lead)).reshape(lead) % 2).astype(np.int32)
    return found


def net_spec(name: str) -> dict:
    """What the backends build for a network of `NETS`."""
    kind, arguments, size, classes = NETS[name]
    spec = {"net": kind, "arguments_of_net": arguments, "channels": 1, "size": size}
    return {**SDES["ve"], **spec, **({"num_classes": classes, "drops": True} if classes else {})}


TRAINING = {"adam": {"lr": 1e-3, "betas": [0.9, 0.999]}, "max_grad_norm": 1.0}


def tier4(seed: int = 0) -> Iterator[Case]:
    """Losses and gradients, and a few free steps: the stand-in for every SDE, the networks for one."""
    rows = [*product(SDES, ("plain", "classes"), MODES), *product(SDES, ("preconditioned",), ("graph",))]
    rows += [("vp", "preconditioned", "pynative"), ("ve", "preconditioned_classes", "graph")]
    nets = {
        "plain": STANDIN, "classes": CONDITIONAL, "preconditioned": AROUND, "preconditioned_classes": AROUND_CONDITIONAL
    }  # fmt: skip
    for sde, kind, mode in rows:
        net, classes = nets[kind], CLASSES if kind.endswith("classes") else 0
        spec = {**SDES[sde], **net, "drops": bool(classes)}
        exact, autograd = leg("numpy", "score_loss", spec), leg("torch", "score_loss", spec, dtype="float64")

        def truth(inputs: Arrays, exact=exact, autograd=autograd) -> Arrays:
            return {**autograd(inputs), **exact(inputs)}

        stem = f"training/score_loss-{sde}-{kind}"
        made = computation(
            f"{stem}-{mode}", "score_loss", spec, partial(loss_inputs, classes=classes, drops=bool(classes)),
            truth=truth, mode=mode, seed=seed,
        )  # fmt: skip
        named = ((f"{stem}-value-{mode}", ("loss",)), (f"{stem}-gradient-{mode}", ("grad.*",)))
        yield from cases("4", made, *named, mode=mode)
    for name, around in [*((name, {}) for name in NETS), ("concat", PRECONDITION)]:
        stem = f"training/score_loss-{name}{'-preconditioned' if around else ''}"
        made = computation(
            f"{stem}-pynative", "score_loss", net_spec(name) | around, partial(net_inputs, name=name), mode="pynative",
            seed=seed, rule="layers", other_kernels=True,
        )  # fmt: skip
        named = ((f"{stem}-value-pynative", ("loss",)), (f"{stem}-gradient-pynative", ("grad.*",)))
        yield from cases("4", made, *named, mode="pynative")
    runs = {
        "standin": ({**SDES["vp"], **CONDITIONAL, "drops": True}, "graph"),
        "transformer": (net_spec("transformer"), "pynative"),
    }
    for name, (spec, mode) in runs.items():
        inputs = (
            partial(loss_inputs, classes=CLASSES, drops=True, count=8)
            if name == "standin"
            else partial(net_inputs, name=name, count=3)
        )
        made = computation(
            f"training/score_steps-{name}-{mode}", "score_train", {**spec, **TRAINING}, inputs, mode=mode, seed=seed,
            rule="layers", neighbours=4, other_kernels=True,
        )  # fmt: skip
        stem = f"training/score_steps-{name}"
        named = ((f"{stem}-loss-{mode}", ("loss", "grad_norm")), (f"{stem}-weights-{mode}", ("weight.*",)))
        yield from cases("4", made, *named, mode=mode)


def chain_inputs(rng: np.random.Generator, arrays: int, classes: int) -> Arrays:
    """The stand-in's weights, a tape, and classes where there are any."""
    found = standin_weights(rng, classes) | {"tape": normal(rng, arrays, BATCH, CHANNELS, *SIZE)}
    return found | ({"labels": np.array([2, 0, 1], np.int32)} if classes else {})


def tier5(seed: int = 0) -> Iterator[Case]:
    """Chains of every sampler on one tape for every SDE, guided ones, ones that denoise at the end; likelihood."""
    rows = [(sde, sampler, {}) for sde, sampler in product(SDES, ("euler", "pc", "heun", "ode"))]
    rows += [("ve", sampler, {"scale": 2.5}) for sampler in ("euler", "pc", "heun", "ode")]
    rows += [("vp", "euler", {"denoise": True}), ("subvp", "pc", {"scale": 0.0, "denoise": True})]
    rows += [(sde, "euler", {"preconditioned": 1}) for sde in SDES]
    for sde, sampler, options in rows:
        classes = CLASSES if "scale" in options else 0
        steps = 12
        label = "".join(f"-{name}{value:g}" for name, value in options.items()) or "-plain"
        net = AROUND if "preconditioned" in options else CONDITIONAL if classes else STANDIN
        options = {name: value for name, value in options.items() if name != "preconditioned"}
        spec = {
            **SDES[sde], **net, "drops": bool(classes), "sampler": sampler,
            "arguments": {**({} if sampler == "ode" else {"steps": steps}), **options},
        }  # fmt: skip
        if sampler == "pc":
            spec["arguments"]["snr"] = 0.2
        arrays = {"euler": steps, "pc": 2 * steps, "heun": 1, "ode": 1}[sampler]
        made = computation(
            f"sampling/score_{sampler}-{sde}{label}", "score_chain", spec,
            partial(chain_inputs, arrays=arrays, classes=classes), truth="numpy", seed=seed,
        )  # fmt: skip
        yield from cases("5", made, mode="graph")
    for sde in SDES:
        spec = {**SDES[sde], **STANDIN, "arguments": {"steps": 12, "eps": 1e-3}}
        made = computation(
            f"sampling/score_likelihood-{sde}", "score_likelihood", spec, partial(step_inputs, classes=0),
            truth="numpy", seed=seed,
        )  # fmt: skip
        yield from cases("5", made)
