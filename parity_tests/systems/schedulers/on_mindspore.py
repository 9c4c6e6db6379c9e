"""ms_ddpm's schedulers for the harness."""

from __future__ import annotations

import ms_ddpm
from parity_tests.backends.shared_mindspore import product_mode
from portparity.on_mindspore import tensor

from .driver import NOISELESS, Side, kinds, name_of


def _make(spec, dtype, mode):
    made = getattr(ms_ddpm, name_of(spec))(**spec["config"])
    made.harness_mode = mode
    return made


def _step(made, output, time, x, noise, options):
    given = options if type(made).__name__ in NOISELESS else {**options, "noise": noise}
    with product_mode(made.harness_mode):
        return made.step(output, time, x, **given)


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
