"""Tier "peers": numbers that others have published, and other libraries where they are installed, step by step.

Published: huggingface/diffusers asserts sums over chains of its schedulers (tests/schedulers/test_scheduler_ddpm.py and
test_scheduler_ddim.py). Ours must reach them with our own mathematics; neither diffusers nor PyTorch is needed. Live:
diffusers itself is the reference, the oracle the truth. Where we differ on purpose stands in `parity_tests.peers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise, product
from typing import NamedTuple

import numpy as np

from parity_tests import oracle
from parity_tests.make import cases, computation
from parity_tests.peers import lucidrains, of_installed
from portparity.arrays import normal, perturbed
from portparity.backends import backend, leg
from portparity.case import Arrays, Case, Computation, Leg
from portparity.tolerances import tolerance

from .cases.maths import METHODS, OBJECTIVES, SHAPE, TIMES, T, step_inputs, tier0, tier1
from .cases.nets import tier3
from .cases.sampling import tape_inputs, tier5
from .cases.training import averages, losses

# --- published values --------------------------------------------------------------------------------------------
# Their batch (4, 3, 8, 8) is one image of 12 channels here: everything is elementwise, and outputs go by time.
PUBLISHED_SHAPE = (1, 12, 8, 8)


class Published(NamedTuple):
    """One chain of diffusers' tests: the model is x t / (t + 1), betas linear up to 0.02, T = 1000, x_0 clipped.

    sum_abs, mean_abs: of the result. noised: the sample is noised to the first of ``times`` first. final: the abar
    behind a DDIM chain's last step, "one" or "first" (abar_0). float32_tables: by how much their float32 tables move
    the sum, where that is more than the published tolerance: a declared difference, measured in test_peers.py.
    """

    sum_abs: float
    mean_abs: float
    sampler: str
    times: tuple[int, ...]
    objective: str = "pred_noise"
    beta_start: float = 1e-4
    noised: bool = False
    final: str = "one"
    float32_tables: float = 0.0


def leading_times(timesteps: int, steps: int, offset: int = 0) -> tuple[int, ...]:
    """diffusers' times in "leading" spacing, descending: multiples of T // S, plus ``offset``."""
    return tuple(int(i) * (timesteps // steps) + offset for i in reversed(range(steps)))


ALL_TIMES, TEN_TIMES = tuple(reversed(range(T))), leading_times(T, 10)
PUBLISHED = {
    "ddpm": Published(258.9606, 0.3372, "ddpm", ALL_TIMES),
    "ddpm-v": Published(202.0296, 0.2631, "ddpm", ALL_TIMES, "pred_v"),
    "ddpm-noised": Published(387.9466, 0.5051, "ddpm", (1, 0), noised=True, float32_tables=-0.0207),
    "ddim": Published(172.0067, 0.223967, "ddim", TEN_TIMES),
    "ddim-v": Published(52.5302, 0.0684, "ddim", TEN_TIMES, "pred_v"),
    "ddim-noised": Published(354.5418, 0.4616, "ddim", TEN_TIMES[8:], noised=True),
    "ddim-final_one": Published(149.8295, 0.1951, "ddim", TEN_TIMES, beta_start=0.01),
    "ddim-final_first": Published(149.0784, 0.1941, "ddim", TEN_TIMES, beta_start=0.01, final="first"),
}
CHAIN_TOLERANCES = {"sum_abs": 1e-2, "mean_abs": 1e-3}
DDPM_VARIANCES = {0: 0.0, 487: 0.00979, 999: 0.02}
DDIM_VARIANCES = {(0, 0): 0.0, (420, 400): 0.14771, (980, 960): 0.32460, (487, 486): 0.00979, (999, 998): 0.02}
VARIANCE_TOLERANCE = 1e-5


def torch_cpu_normals(seed: int, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """(count, *shape) float32: ``count`` torch.randn(shape) on the CPU after manual_seed(seed), without PyTorch.

    MT19937's words; uniforms are their low 24 bits; Box-Muller takes them in blocks of 16, (1 - u) of the first 8 with
    the last 8. ``shape`` holds a multiple of 16 numbers. PyTorch's own logarithm and cosine are float32: 1.2e-6 apart.
    """
    size = count * int(np.prod(shape))
    words = np.random.RandomState(seed).randint(0, 2**32, size, dtype=np.uint32)
    u = ((words & 0xFFFFFF) / 2**24).reshape(-1, 2, 8)
    radius, angle = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(count, *shape).astype(np.float32)


def published_sample(flipped: bool = False) -> np.ndarray:
    """The sample of diffusers' tests, arange(768) / 768 laid out (C, H, W, B); ``flipped`` is their noise."""
    values = np.arange(768, dtype=np.float32)
    laid_out = (values[::-1] if flipped else values).reshape(3, 8, 8, 4) / np.float32(768)
    return np.ascontiguousarray(laid_out.transpose(3, 0, 1, 2)).reshape(PUBLISHED_SHAPE)


def published_inputs(row: Published) -> Arrays:
    """The sample, and the noise of the forward process or of the steps where the chain has any."""
    inputs = {"x": published_sample()}
    if row.noised:
        inputs["noise"] = published_sample(flipped=True)
    if row.sampler == "ddpm":
        inputs["tape"] = torch_cpu_normals(0, len(row.times) - 1, PUBLISHED_SHAPE)
    return inputs


def gain_of(gain: float) -> Arrays:
    """The stand-in as x times ``gain``: with t / (t + 1), the model of diffusers' tests."""
    zero = np.zeros((1, PUBLISHED_SHAPE[1], 1, 1), np.float32)
    return {"weight.gain": zero + np.float32(gain), "weight.mix": zero, "weight.bias": zero}


def _method(framework: str, spec: Mapping, name: str, arguments: tuple[str, ...], outputs: tuple[str, ...]) -> Leg:
    return leg(framework, "method", {**spec, "method": name, "arguments": arguments, "outputs": outputs})


def plain_ddim_coefficients(spec: Mapping, time: int, time_next: int, eta: float) -> list[float]:
    """What multiplies x_0, eps and noise, from the oracle: our samplers have no DDIM step that keeps eps as it was."""
    diffusion = spec["diffusion"]
    betas = oracle.beta_schedule(diffusion["beta_schedule"], T, **diffusion.get("schedule_fn_kwargs", {}))
    if spec.get("final", "one") == "first":
        time_next = max(time_next, 0)
    of = oracle.ddim_coefficients(oracle.tables(betas)["alphas_cumprod"], np.array([time]), np.array([time_next]), eta)
    return [float(values[0]) for values in of]


def plain_ddim(
    framework: str, spec: Mapping, inputs: Arrays, time: int, time_next: int, eta: float
) -> tuple[np.ndarray, np.ndarray]:
    """(x at ``time_next``, x_0) by diffusers' default DDIM step: x_0 is clipped, eps stays as the network gave it."""
    predict = _method(framework, spec, "model_predictions", ("x", "t"), ("pred_noise", "pred_x_start"))
    rows = [predict({**inputs, "x": x[None], "t": np.array([time], np.int32)}) for x in inputs["x"]]
    eps, x_start = (np.stack([row[f"{name}[t={time}]"] for row in rows]) for name in ("pred_noise", "pred_x_start"))
    if spec.get("clip", True):
        x_start = np.clip(x_start, -1, 1)
    of_start, of_eps, of_noise = plain_ddim_coefficients(spec, time, time_next, eta)
    x_next = of_start * x_start + of_eps * eps
    return x_next + of_noise * inputs["noise"].astype(x_next.dtype) if of_noise else x_next, x_start


def run_published(framework: str, spec: Mapping, inputs: Arrays) -> np.ndarray:
    """The result of a chain of `PUBLISHED`, step by step through the framework's GaussianDiffusion."""
    x, times = inputs["x"], spec["times"]
    if "noise" in inputs:
        q_sample = _method(framework, spec, "q_sample", ("x_start", "t", "noise"), ("x_t",))
        given = {"x_start": x, "noise": inputs["noise"], "t": np.array(times[:1], np.int32)}
        x = q_sample({**gain_of(1), **given})[f"x_t[t={times[0]}]"][None]
    p_sample = _method(framework, spec, "p_sample", ("x", "t", "noise"), ("x_prev", "x_start"))
    silence = np.zeros(PUBLISHED_SHAPE, np.float32)
    for i, (time, time_next) in enumerate(pairwise((*times, -1))):
        given = {**gain_of(time / (time + 1)), "x": x, "noise": silence}
        if spec["sampler"] == "ddpm":
            if time > 0:
                given["noise"] = inputs["tape"][i]
            x = p_sample(given | {"t": np.array([time], np.int32)})[f"x_prev[t={time}]"][None]
        else:
            x, _ = plain_ddim(framework, spec, given, time, time_next, 0.0)
    return x


def _chain_leg(framework: str, spec: Mapping, inputs: Arrays) -> Arrays:
    magnitude = np.abs(run_published(framework, spec, inputs).astype(np.float64))
    return {"sum_abs": np.asarray(magnitude.sum()), "mean_abs": np.asarray(magnitude.mean())}


def _ddpm_variance_leg(framework: str, spec: Mapping, inputs: Arrays) -> Arrays:
    posterior = _method(framework, spec, "q_posterior", ("x_start", "x_t", "t"), ("mean", "variance", "log_variance"))
    found = posterior({**gain_of(1), **inputs})
    return {f"t={t}": np.exp(found[f"log_variance[t={t}]"].astype(np.float64).reshape(())) for t in DDPM_VARIANCES}


def _ddim_variance_leg(framework: str, spec: Mapping, inputs: Arrays) -> Arrays:
    """A step with eta 1 from x = 0 on a noise of ones is sigma."""
    step = leg(framework, "ddim_step", {**spec, "pairs": list(DDIM_VARIANCES), "eta": 1.0})
    found = step({**gain_of(0), **inputs})
    sigma = {pair: found[f"x_next[t={pair[0]}]"].astype(np.float64).flat[0] for pair in DDIM_VARIANCES}
    return {f"{pair[0]}, {pair[1]}": np.asarray(value**2) for pair, value in sigma.items()}


def diffusion_spec(objective: str, schedule: str = "linear", beta_start: float = 1e-4, timesteps: int = T) -> dict:
    """A GaussianDiffusion that diffusers has too: images in [-1, 1], linear betas that do not scale with T."""
    ends = {
        "linear": {"beta_start": beta_start, "beta_end": 0.02}, "cosine": {},
        "scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012},
    }[schedule]  # fmt: skip
    common = {"image_size": SHAPE[1], "objective": objective, "auto_normalize": False, "timesteps": timesteps}
    return common | {"beta_schedule": schedule, "schedule_fn_kwargs": ends}


def published_computation(key: str, run, spec: Mapping, inputs, values: Mapping, allowed: Mapping) -> Computation:
    """A computation whose truth is what was published.

    The reference stands off that by a K-th of the tolerance published with it, so that the ratio rule allows exactly
    that tolerance and no more.
    """
    truth = {name: np.asarray(value, np.float64) for name, value in values.items()}
    K = tolerance("float32").K
    edge = {name: value + allowed[name] / K for name, value in truth.items()}
    spec = {"affine": (PUBLISHED_SHAPE[1], PUBLISHED_SHAPE[1], False), **spec}
    return Computation(
        f"peers/published/{key}",
        inputs=inputs,
        truth=lambda inputs: truth,
        references=(lambda inputs: edge,),
        candidates={framework: partial(run, framework, spec) for framework in ("mindspore", "torch", "numpy")},
        spec={"kind": "published", "values": dict(values), "allowed": dict(allowed), **spec},
    )


def published_cases() -> Iterator[Case]:
    """Every number of diffusers' DDPM and DDIM tests that is not about diffusers' own options."""
    for name, row in PUBLISHED.items():
        spec = row._asdict() | {"diffusion": diffusion_spec(row.objective, beta_start=row.beta_start)}
        values = {output: spec.pop(output) for output in CHAIN_TOLERANCES}
        values["sum_abs"] -= row.float32_tables
        yield from cases("peers", published_computation(
            name, _chain_leg, spec, partial(published_inputs, row), values, CHAIN_TOLERANCES
        ))  # fmt: skip
    spec = {"diffusion": diffusion_spec("pred_noise")}
    ones, zeros = np.ones(PUBLISHED_SHAPE, np.float32), np.zeros(PUBLISHED_SHAPE, np.float32)
    each = np.array(list(DDPM_VARIANCES), np.int32)
    three = {"x_start": np.repeat(ones, len(each), 0), "x_t": np.repeat(ones, len(each), 0), "t": each}
    values = {f"t={t}": value for t, value in DDPM_VARIANCES.items()}
    allowed = dict.fromkeys(values, VARIANCE_TOLERANCE)
    made = published_computation("ddpm_variance", _ddpm_variance_leg, spec, lambda: three, values, allowed)
    yield from cases("peers", made)
    values = {f"{time}, {time_next}": value for (time, time_next), value in DDIM_VARIANCES.items()}
    allowed = dict.fromkeys(values, VARIANCE_TOLERANCE)
    inputs = {"x": zeros, "noise": ones}
    yield from cases("peers", published_computation(
        "ddim_variance", _ddim_variance_leg, spec, lambda: inputs, values, allowed
    ))  # fmt: skip


# --- diffusers, step by step -------------------------------------------------------------------------------------
PAIRS = ((999, 899), (500, 400), (2, 1), (1, 0), (0, -1))
ETAS = (0.0, 0.5, 1.0)
DIVISORS = [s for s in range(1, T + 1) if T % s == 0]


def _run_diffusers(kind: str, spec: Mapping, options: Mapping, inputs: Arrays) -> Arrays:
    return backend("diffusers").KINDS[kind](spec, inputs, **options)


def diffusers_leg(kind: str, spec: Mapping, **options) -> Leg:
    """The leg that runs ``kind`` of ``spec`` on diffusers, which is imported at the first call."""
    return partial(_run_diffusers, kind, spec, options)


def _against(made: Computation, kind: str, spec: Mapping, neighbours: int = 0) -> Computation:
    """``made`` with diffusers as the reference."""
    reference = diffusers_leg(kind, spec)
    references = (reference, *(perturbed(reference, i) for i in range(neighbours)))
    return replace(made, references=references, further=(), spec={**made.spec, "reference": "diffusers"})


def _compared(key: str, kind: str, spec: Mapping, inputs, seed: int, **options) -> list[Case]:
    made = computation(f"peers/diffusers/{key}", kind, spec, inputs, truth=options.pop("truth", "numpy"), seed=seed,
                       neighbours=0, **options)  # fmt: skip
    return cases("peers", _against(made, kind, spec, neighbours=2 if options.get("rule") == "envelope" else 0))


def _stand_in(learned: bool = False) -> tuple[int, int, bool]:
    return SHAPE[0], SHAPE[0] * (2 if learned else 1), False


def _reverse_steps(seed: int) -> Iterator[Case]:
    for objective, (schedule, learned), clip in product(
        OBJECTIVES, (("linear", False), ("cosine", False), ("linear", True)), (True, False)
    ):
        spec = {"affine": _stand_in(learned), "diffusion": diffusion_spec(objective, schedule)}
        if clip:
            spec |= {"method": "p_sample", "arguments": ("x", "t", "noise"), "outputs": ("x_prev", "x_start")}
        else:
            spec |= {"method": "p_mean_variance", "arguments": ("x", "t"), "constants": {"clip_denoised": False}}
            spec |= {"outputs": ("mean", "variance", "log_variance", "x_start")}
        label = f"ddpm-{objective}-{schedule}-{'learned' if learned else 'fixed'}-{'clip' if clip else 'free'}"
        inputs = partial(step_inputs, out_dim=spec["affine"][1], self_cond=False, times=TIMES)
        yield from _compared(label, "method", spec, inputs, seed)


def two_images(rng: np.random.Generator) -> Arrays:
    """x, noise and the stand-in's weights for two images at any time."""
    return step_inputs(rng, SHAPE[0], False, (0, 0))


def _plain_leg(framework: str, spec: Mapping, inputs: Arrays) -> Arrays:
    outputs = {}
    for time, time_next in spec["pairs"]:
        x_next, x_start = plain_ddim(framework, spec, inputs, time, time_next, spec["eta"])
        outputs |= {f"x_next[t={time}]": x_next, f"x_start[t={time}]": x_start}
    return outputs


def _ddim_steps(seed: int) -> Iterator[Case]:
    for objective, eta in product(OBJECTIVES, ETAS):
        spec = {"affine": _stand_in(), "diffusion": diffusion_spec(objective), "pairs": PAIRS, "eta": eta}
        yield from _compared(f"ddim-{objective}-eta{eta:g}-rederived", "ddim_step", spec, two_images, seed)
    plain = [(objective, eta, {}) for objective, eta in product(OBJECTIVES, ETAS)]
    plain += [(objective, 0.0, {"clip": False}) for objective in OBJECTIVES]
    plain += [("pred_noise", 0.0, {"final": "first"})]
    for objective, eta, options in plain:
        spec = {"affine": _stand_in(), "diffusion": diffusion_spec(objective), "pairs": PAIRS, "eta": eta}
        spec |= {"rederive": False, **options}
        label = "-".join(["ddim", objective, f"eta{eta:g}", "plain", *(f"{k}_{v}".lower() for k, v in options.items())])
        made = replace(
            computation(f"peers/diffusers/{label}", "ddim_step", spec, two_images, truth="numpy", seed=seed),
            truth=partial(_plain_leg, "numpy", spec),
            candidates={framework: partial(_plain_leg, framework, spec) for framework in ("mindspore", "torch")},
        )
        yield from cases("peers", _against(made, "ddim_step", spec))


def _chains(seed: int) -> Iterator[Case]:
    inputs = partial(tape_inputs, arrays=50, batch=2, out_dim=SHAPE[0])
    for objective in OBJECTIVES:
        spec = {"affine": _stand_in(), "diffusion": diffusion_spec(objective, timesteps=50), "sampler": "ddpm"}
        yield from _compared(f"chain-ddpm-{objective}", "chain", spec, inputs, seed, rule="envelope")
        for eta in ETAS[::2]:
            spec = {"affine": _stand_in(), "diffusion": diffusion_spec(objective), "sampler": "ddim"}
            spec |= {"arguments": {"steps": 50, "eta": eta}}
            yield from _compared(f"chain-ddim-{objective}-eta{eta:g}", "chain", spec, inputs, seed, rule="envelope")


def _forward_process(seed: int) -> Iterator[Case]:
    def inputs(rng: np.random.Generator) -> Arrays:
        found = {name: normal(rng, len(TIMES), *SHAPE) for name in ("x_start", "noise")}
        return found | {"t": np.array(TIMES, np.int32)}

    for schedule in ("linear", "scaled_linear", "cosine"):
        spec = {"affine": _stand_in(), "diffusion": diffusion_spec("pred_noise", schedule)}
        for theirs, ours in (("add_noise", "q_sample"), ("get_velocity", "predict_v")):
            arguments, outputs = METHODS[ours]
            of = {**spec, "method": ours, "arguments": arguments, "outputs": outputs}
            yield from _compared(f"{theirs}-{schedule}", "method", of, inputs, seed)
        made = computation(
            f"peers/diffusers/tables-{schedule}", "tables", spec, lambda rng: {}, truth="numpy", seed=seed
        )
        made = _against(made, "tables", spec)
        yield from cases("peers", made, (made.key, ("betas", "alphas_cumprod")))
    spec = {"timesteps": T, "steps": DIVISORS}
    yield from _compared("times-trailing", "times", spec, lambda rng: {}, seed, rule="exact",
                         truth=diffusers_leg("times", spec))  # fmt: skip


def diffusers_cases(seed: int = 0) -> Iterator[Case]:
    """Every case whose reference is diffusers, whether it is installed or not."""
    for make in (_forward_process, _reverse_steps, _ddim_steps, _chains):
        yield from make(seed)


# --- lucidrains: the other tiers' cases, with the library as the reference ------------------------------------------
def lucidrains_has(spec: Mapping) -> bool:
    """Whether denoising-diffusion-pytorch 2.3 (kind "ema": ema-pytorch) can do the computation of ``spec``."""
    unet, diffusion = spec.get("unet", {}), spec.get("diffusion", {})
    channels, out_dim, _ = spec.get("affine", (1, 1, False))
    ends_differ = ("sigmoid",) if spec["kind"] == "tables" else ()  # see DIFFERENCES
    return (
        spec["kind"] in ("tables", "method", "network", "loss", "ema", "chain")
        and "norm" not in unet
        and out_dim == channels  # its LearnedGaussianDiffusion is another class, see DIFFERENCES
        and diffusion.get("beta_schedule", "sigmoid") not in ("scaled_linear", *ends_differ)
        and not {"beta_start", "beta_end"} & set(diffusion.get("schedule_fn_kwargs", {}))
        and diffusion.get("loss_type", "l2") == "l2"
        and "p2_loss_weight_gamma" not in diffusion
        and not (unet and spec.get("sampler") == "ddpm")  # minutes of the library's 1000 steps
    )


def lucidrains_cases(seed: int = 0) -> Iterator[Case]:
    """Whatever of tiers 0, 1, 3, 4 and 5 the library can do, once for both modes, whether it is installed or not.

    Its tables are the truth of ours, within the ulp of rule "ulp".
    """
    done: dict[str, Computation] = {}
    for case in chain(tier0(seed), tier1(seed), tier3(seed), losses(seed), averages(seed), tier5(seed)):
        made, spec = case.computation, case.computation.spec
        stem = made.key.removesuffix(f"-{case.mode}")
        mode = done[stem].spec["mode"] if stem in done else spec["mode"]
        if not lucidrains_has(spec) or spec["mode"] != mode:
            continue
        if stem not in done:
            reference = partial(lucidrains, spec["kind"], spec)
            references = (reference, *(perturbed(reference, i) for i in range(len(made.references) - 1)))
            done[stem] = replace(
                made, key=f"peers/lucidrains/{stem}", references=references, further=(),
                spec={**spec, "reference": "lucidrains"},
                truth=reference if spec["kind"] == "tables" else made.truth,
            )  # fmt: skip
        outputs = ("average*",) if spec["kind"] == "ema" else case.outputs
        yield Case(f"peers/lucidrains/{case.id.removesuffix(f'-{case.mode}')}", "peers", done[stem], outputs, case.mode)


def tier_peers(seed: int = 0) -> Iterator[Case]:
    """Published values, and the libraries that are installed; `parity_tests.cases.absent_peers` has the others'."""
    yield from published_cases()
    yield from of_installed(LIBRARIES, seed)


LIBRARIES = {("diffusers",): diffusers_cases, ("denoising-diffusion-pytorch", "ema-pytorch"): lucidrains_cases}
