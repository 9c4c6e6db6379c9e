"""The schedulers in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from portparity.case import Arrays

from .driver import Side, kinds, prepared
from .oracle import Scheduler as Oracle
from .solvers import SOLVERS, Solver


class _Names:
    """The oracle under the names of the other sides."""

    alphas_cumprod = property(lambda self: self.abar)

    def add_noise(self, x_start, noise, t):
        return self.noised(x_start, noise, t)[0]

    def get_velocity(self, x_start, noise, t):
        return self.noised(x_start, noise, t)[1]


class _Float64(_Names, Oracle):
    """DDPM and DDIM."""


class _Solver(_Names, Solver):
    """The others."""


def _oracle_step(made, output, time, x, noise, options):
    if made.kind in SOLVERS:
        found, _ = made.step(output, time, x, noise, **options)
        return found["prev"], found["start"]
    given = {"eta": options.get("eta", 0.0), "clipped": options.get("use_clipped_model_output", False)}
    found, _ = made.step(output, time, x, noise, **given)
    return found["prev"], found["start"]


def _oracle_variance(made, time, later):
    small, large = made.variances(time, made.later(time) if later is None else later)
    return large if "large" in made.config["variance_type"] and made.kind == "ddpm" else small


SIDE = Side(
    make=lambda spec, dtype, mode: (_Solver if spec["scheduler"] in SOLVERS else _Float64)(
        spec["scheduler"], spec["config"]
    ),
    tensor=lambda value, dtype: np.asarray(value, np.float64) if value.dtype.kind == "f" else value,
    array=np.asarray,
    step=_oracle_step,
    variance=_oracle_variance,
    times=lambda made: made.times,
)


def _float64(run: Callable) -> Callable:
    def truth(spec: Mapping, inputs: Arrays) -> Arrays:
        return run(spec, inputs, dtype="float64")

    return truth


def scheduler_step_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """The magnitudes of the larger operands of a step's results."""
    made, found, options = prepared(SIDE, spec, "float64", ""), {}, spec.get("options", {})
    for time in spec["times"]:
        _, sizes = made.step(
            inputs["output"], time, inputs["x"], inputs["noise"], options.get("eta", 0.0),
            options.get("use_clipped_model_output", False),
        )  # fmt: skip
        found |= {f"{name}[t={time}]": size for name, size in sizes.items()}
    return found


KINDS = {name: _float64(run) for name, run in kinds(SIDE).items()}
KINDS["scheduler_step_scales"] = scheduler_step_scales
