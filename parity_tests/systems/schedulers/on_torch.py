"""torch_ref's schedulers for the harness."""

from __future__ import annotations

import torch

import torch_ref
from portparity.on_torch import DTYPES, tensor

from .driver import Side, kinds, name_of


def _step(made, output, time, x, noise, options):
    with torch.no_grad():
        return made.step(output, time, x, noise=noise, **options)


KINDS = kinds(
    Side(
        make=lambda spec, dtype, mode: getattr(torch_ref, name_of(spec))(**spec["config"], dtype=DTYPES[dtype]),
        tensor=tensor,
        array=lambda value: value.numpy().copy(),
        step=_step,
        variance=lambda made, time, later: made.variance(time) if later is None else made.variance(time, later),
        times=lambda made: made.times,
    )
)
