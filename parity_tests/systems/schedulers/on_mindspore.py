"""ms_ddpm's schedulers for the harness."""

from __future__ import annotations

from ms_ddpm import DDIMScheduler, DDPMScheduler
from parity_tests.backends.shared_mindspore import product_mode
from portparity.on_mindspore import tensor

from .driver import Side, kinds

CLASSES = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}


def _make(spec, dtype, mode):
    made = CLASSES[spec["scheduler"]](**spec["config"])
    made.harness_mode = mode
    return made


def _step(made, output, time, x, noise, options):
    with product_mode(made.harness_mode):
        return made.step(output, time, x, noise=noise, **options)


KINDS = kinds(
    Side(
        make=_make,
        tensor=lambda value, dtype: tensor(value.astype(dtype) if value.dtype.kind == "f" else value),
        array=lambda value: value.asnumpy().copy(),
        step=_step,
        variance=lambda made, time, later: made.variance(time) if later is None else made.variance(time, later),
        times=lambda made: made.timesteps.asnumpy().tolist(),
    )
)
