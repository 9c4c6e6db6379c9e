"""Other libraries: which are installed, lucidrains' classes as a leg, and every difference that is meant.

A difference stands in `DIFFERENCES` with its size; test_peers.py measures it, so that none is claimed that is not
there and none grows unseen. docs/differences.md is `differences_markdown()`, its Chinese twin is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import NamedTuple
from unittest import mock

import numpy as np

from portparity.backends import installed as is_there
from portparity.case import Arrays, Case

MODULES = {
    "diffusers": "diffusers",
    "transformers": "transformers",
    "denoising-diffusion-pytorch": "denoising_diffusion_pytorch",
    "ema-pytorch": "ema_pytorch",
}


def installed(package: str) -> bool:
    """Whether ``package`` (a key of `MODULES`) can be imported, and PyTorch with it."""
    return all(is_there(name) for name in ("torch", MODULES[package]))


def of_installed(peers: Mapping[tuple[str, ...], Callable], seed: int) -> Iterator[Case]:
    """The cases of those packages that are all here; ``peers``: packages -> what makes their cases."""
    for packages, make in peers.items():
        if all(map(installed, packages)):
            yield from make(seed)


def missing_peers() -> list[str]:
    """One line for the report for every peer that is not here, whose cases are therefore not run."""
    return [
        f"{package} is not installed: its cases were not run (pip install {package})"
        for package in MODULES
        if not installed(package)
    ]


# --- lucidrains' classes in the place of torch_ref's ---------------------------------------------------------------


def _tuples(arguments: Mapping) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def _classes() -> dict[str, Callable]:
    """denoising-diffusion-pytorch's Unet and GaussianDiffusion and ema-pytorch's EMA with torch_ref's signatures."""
    import torch
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch as theirs
    from ema_pytorch import EMA

    class Diffusion(theirs.GaussianDiffusion):
        def __init__(self, model, *, dtype, loss_type="l2", **arguments):
            super().__init__(model, **arguments)

        def p_sample(self, x, t, noise, x_self_cond=None):
            rows = []
            for i, time in enumerate(t.tolist()):
                hint = None if x_self_cond is None else x_self_cond[i, None]
                with mock.patch("torch.randn_like", return_value=noise[i, None]):
                    rows.append(super().p_sample(x[i, None], time, hint))
            return tuple(torch.cat(column) for column in zip(*rows, strict=True))

        def forward(self, img, t, noise, self_cond=False, offset_noise=None):
            coin = mock.patch.object(theirs, "random", return_value=0.0 if self_cond else 1.0)
            with coin, mock.patch("torch.randn", return_value=offset_noise):
                return super().forward(img, times=t, noise=noise.clone())

    class Average(EMA):
        calls = property(lambda self: int(self.step))
        average = property(lambda self: dict(self.ema_model.named_parameters()))

        def swapped(self):
            return nullcontext()

    return {
        "Unet": lambda **arguments: theirs.Unet(**_tuples(arguments)), "GaussianDiffusion": Diffusion, "EMA": Average,
    }  # fmt: skip


@contextmanager
def lucidrains_installed() -> Iterator[None]:
    """Inside, torch_ref's Unet, GaussianDiffusion and EMA are the libraries' own."""
    import torch_ref

    with mock.patch.multiple(torch_ref, **_classes()):
        yield


def _chain(spec: Mapping, inputs: Arrays) -> Arrays:
    """Its own sampling loop, which draws x_T and every noise from the tape."""
    import torch
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch as theirs

    from portparity.on_torch import load

    from .backends.shared_torch import model_of

    model, arguments = model_of(spec), spec.get("arguments", {})
    load(model, inputs, "float32")
    diffusion = theirs.GaussianDiffusion(
        model, **spec["diffusion"], sampling_timesteps=arguments.get("steps"),
        ddim_sampling_eta=arguments.get("eta", 0.0),
    )  # fmt: skip
    tape = iter([*map(torch.from_numpy, inputs["tape"]), torch.zeros(inputs["tape"].shape[1:])])
    quiet = mock.patch.object(theirs, "tqdm", lambda times, **kwargs: times)
    with quiet, mock.patch("torch.randn", side_effect=tape), mock.patch("torch.randn_like", side_effect=tape):
        images = diffusion.sample(inputs["tape"].shape[1], return_all_timesteps=True)
    return {"chain": np.ascontiguousarray(images.transpose(0, 1).numpy())}


def lucidrains(kind: str, spec: Mapping, inputs: Arrays) -> Arrays:
    """The leg of denoising-diffusion-pytorch and ema-pytorch: ``kind`` and ``spec`` are those of backend torch."""
    from .backends import on_torch

    if kind == "chain":
        return _chain(spec, inputs)
    with lucidrains_installed():
        return on_torch.KINDS[kind](spec, inputs)


# --- differences ------------------------------------------------------------------------------------------------


class Difference(NamedTuple):
    """What is done otherwise, and by how much.

    Args:
        peer: the library, with the release looked at.
        thing: what it is about.
        theirs, ours: what either does.
        magnitude: its size in words, with {} for ``size``.
        size: the number that the test must find again, within 10 % (None: it has no number).
        case: the test's name in test_peers.py's MEASURES ("": it can only be read off the source).
    """

    peer: str
    thing: str
    theirs: str
    ours: str
    magnitude: str
    size: float | None = None
    case: str = ""


DIFFUSERS, LUCIDRAINS, EMA_PYTORCH = "diffusers 0.42", "denoising-diffusion-pytorch 2.3", "ema-pytorch 0.8"
COSINE_SIM, OPENAI = "denoising-diffusion-pytorch 0.26.0 to 0.27.12", "openai/improved-diffusion"

# fmt: off
DIFFERENCES = (
    Difference(
        DIFFUSERS, "eps of a DDIM step whose x_0 was clipped",
        "stays what the network gave (`use_clipped_model_output=False`); for v and x_0 it comes from the unclipped x_0",
        "derived again from the clipped x_0, as in Glide and lucidrains 2.x; with `rederive_pred_noise=False` what the "
        "network gave, as in lucidrains' releases of 2022; `DDIMScheduler`: as theirs",
        "x differs by {} of its rms after one step 500 -> 400 in which half of the pixels were clipped", 0.205,
        "ddim_rederives",
    ),
    Difference(
        DIFFUSERS, "precision of the tables", "betas, cumulative product and every coefficient in float32",
        "float64, rounded once, in the schedulers too",
        "posterior variance off by up to a relative {} (cosine, T = 1000, t = 8)", 8.6e-4,
        "float32_tables",
    ),
    Difference(
        DIFFUSERS, "published sum of DDPM from add_noise, t = [1, 0]",
        "387.9466 +- 0.01: at t = 1 beta is 1 - abar_1 / abar_0 in float32",
        "387.9673; diffusers on float64 tables gives that too",
        "{} on the sum, twice the published tolerance", 0.0207, "published_noised",
    ),
    Difference(
        DIFFUSERS, "variance_type fixed_large_log", "takes the root of a logarithm",
        "`DDPMScheduler` exponentiates half of it: beta, as fixed_large",
        "{} % of the values are NaN at t = 500", 100.0,
        "fixed_large_log",
    ),
    Difference(
        DIFFUSERS, "variance_type learned", "takes the root of the network's raw output",
        "`DDPMScheduler` takes it for the log-variance, as OpenAI's LEARNED gives it; `GaussianDiffusion` learns where "
        "between beta-tilde and beta the variance lies (their `learned_range`)",
        "{} % of the values are NaN where the output is negative", 100.0, "learned_negative",
    ),
    Difference(
        DIFFUSERS, "DDIM times by default", "`leading`: 980, 960, ..., 0 of 50 steps",
        "999, 979, ..., 19: their `trailing`; `DDIMScheduler`: as theirs",
        "the chain starts {} of 1000 steps below pure noise", 19.0,
        "leading_times",
    ),
    Difference(
        DIFFUSERS, "DDIM steps that do not divide T, `trailing` or `linspace`",
        "a step leads to t - T // S, which is not the next time of its own list",
        "every step leads to the next time; `DDIMScheduler`: as theirs",
        "{} of 30 steps (T = 1000, `trailing`)", 10.0, "misaligned_times",
    ),
    Difference(
        DIFFUSERS, "beta_schedule sigmoid", "betas on a sigmoid from 1e-4 to 0.02 (GeoDiff)",
        "abar on a sigmoid (Jabri et al., as lucidrains); in the schedulers as theirs",
        "abar at t = 500 differs by {}", 0.199, "sigmoid_schedule",
    ),
    Difference(
        DIFFUSERS, "beta_schedule linear", "1e-4 ... 0.02 whatever T is",
        "times 1000 / T (as lucidrains), unless beta_start and beta_end are given; in the schedulers as theirs",
        "betas differ by a factor of {} at T = 50", 20.0, "linear_unscaled",
    ),
    Difference(
        DIFFUSERS, "posterior variance at t = 0", "clamped to 1e-20", "0 in the table of variances, 1e-20 in that of "
        "logarithms, as lucidrains; `DDPMScheduler`: as theirs", "{}", 1e-20, "variance_at_zero",
    ),
    Difference(
        DIFFUSERS, "`trailing` times of n steps", "one time too many, -1, where T - n T / n rounds to more than 0",
        "n times", "{} of 1000 numbers of steps (61, 103, 121, ...)", 62.0, "trailing_times",
    ),
    Difference(
        DIFFUSERS, "`trailing` times of DPM-Solver with `lambda_min_clipped`",
        "-1 behind the last, where what is left of T is no multiple of the steps' distance", "no time is below 0",
        "{} of 400 numbers of steps (scaled_linear at zero SNR, -5.1: 69, 70, 71, ...)", 39.0, "clipped_times",
    ),
    Difference(
        DIFFUSERS, "flow matching (`use_flow_sigmas`, `use_dynamic_shifting`) and `solver_p` of schedulers", "there",
        "an error that names the argument", "{} arguments", 4.0, "absent_arguments",
    ),
    Difference(
        DIFFUSERS, "epsilon at zero terminal SNR", "x_0 = (x - eps) / 0, clipped to 1 and -1 where it is clipped",
        "an error that names v_prediction", "{} % of x_0 are infinite at t = 999 without clipping", 100.0,
        "epsilon_at_zero_snr",
    ),
    Difference(
        DIFFUSERS, "third order of `sde-dpmsolver++`",
        "the curvature's weight has 1/2 with the wrong sign: about -alpha where it should vanish with the step",
        "the integral's sign", "a step with h = 0.01 weighs it {} times alpha", -1.0, "third_order_sde",
    ),
    Difference(
        DIFFUSERS, "UniPC with `bh1`, ending at sigma 0", "its last step multiplies 0 by infinity",
        "the last answer, as with `bh2`", "{} % of the last sample are NaN", 100.0, "unipc_bh1_to_zero",
    ),
    Difference(
        DIFFUSERS, "`add_noise` of DPM-Solver and UniPC before `set_timesteps`",
        "looks the noise level up from the wrong end of the table", "the level of the time",
        "at time 999 the image keeps {} of its size, where 0.0064 is right", 0.99995, "noise_from_the_wrong_end",
    ),
    Difference(
        DIFFUSERS, "`get_velocity` of Euler", "takes a step's place in the chain for its time",
        "the velocity of the time", "at time 999 of 1000 steps abar is off by {}", 0.99986, "velocity_of_a_place",
    ),
    Difference(
        DIFFUSERS, "half precision", "abar is cast to the sample's dtype in `add_noise`, and a step computes in it",
        "the schedulers compute in float32 and round once",
        "float16 samples get no noise at all at the first {} times (linear, T = 1000)", 2.0, "half_precision_noise",
    ),
    Difference(
        DIFFUSERS, "values of arguments", "an unknown variance_type acts as fixed_small; prediction_type and spacing "
        "fail when they are used; betas may leave (0, 1)", "an error when the scheduler is made", "none otherwise",
    ),
    Difference(
        DIFFUSERS, "DDIMScheduler's schedules and times", "no sigmoid, no laplace, no `timesteps` of one's own",
        "those of DDPMScheduler", "none otherwise",
    ),
    Difference(
        DIFFUSERS, "a DDIM step from a time that is not in `timesteps`", "taken",
        "an error that names the nearest of them, as in `DDPMScheduler`; where a step leads to is as theirs",
        "none otherwise",
    ),
    Difference(
        LUCIDRAINS, "ends of the sigmoid schedule", "sigmoid(start / tau) and sigmoid(end / tau) in float32", "float64",
        "alphas_cumprod off by up to {} ulp at T = 1000", 274.0, "sigmoid_ends",
    ),
    Difference(
        LUCIDRAINS, "immiscible noise", "permuted for x_t, not for the target", "permuted before both",
        "the target is {} (rms) away from the noise in x_t", 1.4, "immiscible_target",
    ),
    Difference(
        LUCIDRAINS, "coefficients of a DDIM step", "from the float32 table, in float32", "float64, rounded once",
        "sqrt(1 - abar' - sigma^2) off by up to a relative {} (cosine, eta 1, step 1 -> 0)", 4.6e-4,
        "ddim_coefficients",
    ),
    Difference(
        LUCIDRAINS, "DDIM times", "torch.linspace in float32, truncated",
        "the same for every S, without PyTorch; numpy's float32 linspace is another",
        "numpy's linspace would differ for {} of 1000 S", 84.0, "ddim_times",
    ),
    Difference(
        LUCIDRAINS, "learned variance", "LearnedGaussianDiffusion takes the output for eps whatever the objective, "
        "leaves out loss_weight, and cannot sample by DDIM (NameError: partial)",
        "any objective, weighted, any sampler", "none for pred_noise without min-SNR by DDPM",
    ),
    Difference(
        LUCIDRAINS, "interpolate", "takes and gives images in [-1, 1]", "in [0, 1], like every other method",
        "a factor of 2 and a shift",
    ),
    Difference(
        LUCIDRAINS, "random numbers", "PyTorch's generators and Python's `random` for self-conditioning",
        "numpy Generators named by seed and purpose", "equal seeds give other images; equal noise gives equal ones",
    ),
    Difference(
        COSINE_SIM, "logits of full attention", "q and k normalised, scale 16 (from August 2022: 10)",
        "scaled by d^-1/2, as before and after", "outputs differ by {} of their rms (normal q and k, scale 10)", 0.94,
        "cosine_sim_attention",
    ),
    Difference(
        EMA_PYTORCH, "decay in the warm-up", "float32", "float64", "{} at most", 3.8e-8, "ema_decay",
    ),
    Difference(
        EMA_PYTORCH, "beta = 1", "the average is frozen after update_after_step", "the warm-up's decay goes on",
        "decay {} instead of 1 at call 111", 0.798, "ema_frozen",
    ),
    Difference(
        EMA_PYTORCH, "what is averaged", "every floating-point parameter and buffer", "what is trained",
        "none: the others do not change",
    ),
    Difference(
        OPENAI, "log of the posterior variance at t = 0", "that of t = 1", "log 1e-20, as lucidrains and diffusers",
        "{} on the lower end of a learned log-variance at t = 0 (linear, T = 1000)", 36.2, "log_variance_at_zero",
    ),
)
# fmt: on


def differences_markdown() -> str:
    """docs/differences.md."""
    lines = [
        "# Declared differences", "", "[简体中文](differences.zh.md)", "",
        "What other libraries do otherwise than this one, on purpose here or by a defect there, and by how much. "
        "Everything else is compared in tier `peers` of the parity harness and agrees. "
        "Every size in the table is measured again by the named test of `parity_tests/test_peers.py`.", "",
        "This file is `parity_tests.peers.differences_markdown()`.",
    ]  # fmt: skip
    for peer in dict.fromkeys(row.peer for row in DIFFERENCES):
        lines += ["", f"## {peer}", "", "| what | theirs | ours | size | measured by |", "|---|---|---|---|---|"]
        for row in (row for row in DIFFERENCES if row.peer == peer):
            size = row.magnitude if row.size is None else row.magnitude.format(f"{row.size:g}")
            case = f"`{row.case}`" if row.case else "read off the source"
            lines.append(f"| {row.thing} | {row.theirs} | {row.ours} | {size} | {case} |")
    return "\n".join(lines) + "\n"
