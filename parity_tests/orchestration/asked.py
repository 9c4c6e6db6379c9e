"""That samplers do what is asked of them, also where it is a zero or a no: `CHECKS`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

from .draws import SIDES, T, make_diffusion, network
from .probe import assert_same
from .sampling import SEED, make_score, noise
from .twin import stream

if TYPE_CHECKING:
    from mindspore import nn


def remembering(model, name: str) -> list[dict]:
    """Puts in place of the reverse step ``name`` of a diffusion one that notes what it is given, and halves x."""
    given = []

    def step(*arguments):
        values = [None if value is None else value.asnumpy() for value in arguments]
        given.append(values)
        return arguments[0] * 0.5, arguments[0] * 0.25

    model._reverse_steps[name] = step
    return given


def check_chain(folder: Path) -> None:
    """Each step gets the time, the noise and, self-conditioned, the estimate of x_0 of the step before; no other."""
    from ms_ddpm import samplers

    model = make_diffusion(network(self_condition=True))
    given = remembering(model, "p_sample")
    tape = [stream(1, i).standard_normal((2, 1, *SIDES), dtype=np.float32) for i in range(T)]
    samplers.ddpm(model, 2, noise=tape, progress=False)
    x, before = tape[0], np.zeros_like(tape[0])
    assert len(given) == T
    for i, (told_x, t, told_noise, estimate) in enumerate(given):
        assert_same(told_x, x, f"x of step {i}")
        assert list(t) == [T - 1 - i] * 2, f"times {t} in step {i}"
        assert_same(told_noise, tape[i + 1] if i < T - 1 else np.zeros_like(x), f"noise of step {i}")
        assert_same(estimate, before, f"estimate of x_0 in step {i}")
        x, before = x * 0.5, x * 0.25


def check_eta(folder: Path) -> None:
    """An eta of 0 is asked for, not left out; what is left out is as configured. Steps likewise."""
    from ms_ddpm import samplers

    model = make_diffusion(ddim_sampling_eta=0.7, sampling_timesteps=4)
    given = remembering(model, "ddim_step")
    for asked, eta in ((None, 0.7), (0.0, 0.0), (0.3, 0.3)):
        given.clear()
        samplers.sample_images(model, 2, seed=SEED, sampler="ddim", eta=asked, progress=False)
        times = samplers.ddim_times(T, 4)
        assert [row[1][0] for row in given] == times[:-1]
        rows = samplers.ddim_coefficients(model.tables["alphas_cumprod"], times, eta)
        assert_same(np.stack([row[2] for row in given]), rows, f"coefficients with eta {asked}")
        assert bool(rows[:-1, 2].any()) == (eta > 0)


def check_interpolation(folder: Path) -> None:
    """lam is the second image's share, also where it is not a half; ends are noised each by its own noise."""
    from ms_ddpm import samplers

    model = make_diffusion()
    given = remembering(model, "p_sample")
    x1, x2 = stream(1, 1).random((2, 2, 1, *SIDES), dtype=np.float32)
    tape = [stream(1, i).standard_normal(x1.shape, dtype=np.float32) for i in range(T + 1)]
    t = 3
    samplers.interpolate(model, x1, x2, t, 0.25, noise=tape, progress=False)
    abar = model.tables["alphas_cumprod"][t]
    ends = [np.sqrt(abar) * (2 * x - 1) + np.sqrt(1 - abar) * e for x, e in zip((x1, x2), tape, strict=False)]
    assert_same(given[0][0], 0.75 * ends[0] + 0.25 * ends[1], "the mixture")
    assert [int(step[1][0]) for step in given] == [2, 1, 0]


def conditional_score(**options) -> nn.Cell:
    """A conditional score model whose score depends on the class; the last row is "no class"."""
    from mindspore import Parameter, nn

    class OfClass(nn.Cell):
        num_classes, null_class = 2, True

        def __init__(self):
            super().__init__()
            self.shift = Parameter(np.array([1.0, -2.0, 4.0], np.float32), name="shift")

        def construct(self, x, t, y):
            return self.shift[y].reshape(-1, 1, 1, 1) - 0.3 * x

    return make_score(OfClass(), num_classes=2, class_dropout=0.5, **options)


def check_guidance(folder: Path) -> None:
    """A call with guidance is not that of the call before without, nor the other way round."""
    options = {"seed": SEED, "sampler": "heun", "steps": 2}
    fresh = {scale: conditional_score().sample(2, guidance_scale=scale, **options).asnumpy() for scale in (1.0, 3.0)}
    model = conditional_score()
    for scale in (1.0, 3.0, 1.0):
        told = model.sample(2, guidance_scale=scale, **options).asnumpy()
        assert_same(told, fresh[scale], f"guidance {scale} after other calls")
    assert np.abs(fresh[1.0] - fresh[3.0]).max() > 0.1
    scale_3 = conditional_score(guidance_scale=3.0)
    assert_same(scale_3.sample(2, **options).asnumpy(), fresh[3.0], "guidance as configured")
    assert_same(scale_3.sample(2, guidance_scale=1.0, **options).asnumpy(), fresh[1.0], "no guidance, asked for")
    classes = model.sample(2, guidance_scale=1.0, labels=[1, 0], **options).asnumpy()
    assert np.abs(classes - fresh[1.0]).max() > 0.1, "labels change nothing"
    later = model.sample(1, guidance_scale=1.0, first_image=1, **options).asnumpy()
    assert_same(later[0], fresh[1.0][1], "image 1 of class 1, alone")


def check_denoising(folder: Path) -> None:
    """denoise False is asked for, not left out."""
    for name in ("euler", "heun"):
        plain, denoising = make_score(), make_score(denoise=True)
        options = {"sampler": name, "seed": SEED}
        ends = {
            (configured, asked): model.sample(2, denoise=asked, **options).asnumpy()
            for configured, model in ((False, plain), (True, denoising))
            for asked in (None, False, True)
        }
        without, with_it = ends[False, None], ends[True, None]
        assert np.abs(without - with_it).max() > 1e-3, name
        for configured in (False, True):
            assert_same(ends[configured, False], without, f"{name}, denoise False")
            assert_same(ends[configured, True], with_it, f"{name}, denoise True")


def check_alone(folder: Path) -> None:
    """An image of a seed is the same whoever it was made with: every sampler of a score model that says so."""
    model = make_score(process="ve")  # whose corrector is not lamed by few steps
    for name in ("euler", "pc", "heun"):
        together = model.sample(3, sampler=name, seed=SEED).asnumpy()
        alone = model.sample(1, sampler=name, seed=SEED, first_image=1).asnumpy()
        assert_same(alone[0], together[1], f"image 1 of {name}, alone")


def check_script(folder: Path) -> None:
    """sample.py: the animation and the grid are of the same images, rows of an interpolation of one seed."""
    from ms_ddpm.cli import sample
    from ms_ddpm.config import Config
    from ms_ddpm.systems.diffusion import pictures

    model = make_diffusion(sampling_timesteps=3, ddim_sampling_eta=0.5)
    config = Config(image_size=list(SIDES), timesteps=T, sampling_timesteps=3, validation_images=0, dataset="pixels")
    ends = stream(1, 2).random((2, 2, 1, *SIDES), dtype=np.float32)
    arguments = ["--checkpoint", "run", "--num", "3", "--batch_size", "2", "--seed", "4", "--gif", "--eta", "0",
                 "--interpolate", "4", "--interpolate_t", "2", "--output_dir", str(folder)]  # fmt: skip
    with (
        mock.patch("ms_ddpm.storage.checkpoint.locate", return_value=folder),
        mock.patch.object(sample, "start_machine"),
        mock.patch("ms_ddpm.storage.checkpoint.read_state", return_value={"step": 9}),
        mock.patch("ms_ddpm.systems.sizes.check_sampling"),
        mock.patch("ms_ddpm.systems.recipes.config_of", return_value=config),
        mock.patch("ms_ddpm.systems.recipes.load", return_value=(model, config)) as load,
        mock.patch.object(pictures, "interpolation_ends", return_value=ends), mock.patch("builtins.print"),
        mock.patch("ms_ddpm.pictures.images.save_grid") as grid, mock.patch("ms_ddpm.pictures.images.save_gif") as gif,
        mock.patch("ms_ddpm.samplers.interpolate", side_effect=lambda d, a, b, *rest, **more: _mixed(a, b)) as mixed,
    ):  # fmt: skip
        assert sample.main(arguments) == 0
    assert load.call_args.args[1] == "ema"
    images, chain = grid.call_args_list[0].args[0], gif.call_args.args[0]
    assert images.shape == (3, 1, *SIDES)
    assert chain.shape == (3, 4, 1, *SIDES)
    assert_same(chain[:, -1], images, "the last frame of the animation")
    assert_same(chain[:, 0], np.clip((noise(3, seed=4) + 1) / 2, 0, 1), "its first frame")
    assert [call.args[3:] for call in mixed.call_args_list] == [(2, 1 / 3), (2, 2 / 3)]
    assert all(call.kwargs.get("seed") == 4 for call in mixed.call_args_list), mixed.call_args_list
    with np.load(folder / "samples.npz") as kept:
        assert_same(kept["arr_0"], np.rint(images.transpose(0, 2, 3, 1) * 255), "samples.npz")


def _mixed(a, b):
    import mindspore as ms

    return ms.Tensor((a + b) / 2)


CHECKS = {
    "asked/chain": check_chain,
    "asked/eta": check_eta,
    "asked/interpolation": check_interpolation,
    "asked/guidance": check_guidance,
    "asked/denoising": check_denoising,
    "asked/alone": check_alone,
    "asked/script": check_script,
}
