"""A scheduler's configuration: checked values, read from a dict or from diffusers' scheduler_config.json."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..config.frozen import FrozenConfig
from ..errors import UserError, quoted
from ..maths.schedules import SCHEDULER_BETAS, SPACINGS
from ..storage.directories import read_json
from ..storage.files import write_atomically

__all__ = ["FrozenConfig", "check", "read", "split"]

FILE_NAME = "scheduler_config.json"
FORMAT_VERSION = "0.42.0"  # of diffusers' whose keys these are
MAX_BYTES = 16 << 20  # trained_betas of a million steps would fit
MAX_STEPS = 1_000_000
PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
ALGORITHMS = ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver")
VARIANCE_TYPES = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range")
log = logging.getLogger(__name__)

# Arguments that diffusers 0.42's other schedulers take. Its files are used across classes, so these are no surprise.
OTHER_SCHEDULERS_KEYS = frozenset({
    "algorithm_type", "disable_corrector", "euler_at_final", "final_sigmas_type", "flow_shift", "interpolation_type",
    "lambda_min_clipped", "lower_order_final", "noise_sampler_seed", "predict_x0", "rho", "set_alpha_to_one",
    "shift_terminal", "sigma_data", "sigma_max", "sigma_min", "sigma_schedule", "skip_prk_steps", "solver_order",
    "solver_p", "solver_type", "time_shift_type", "timestep_type", "use_beta_sigmas", "use_dynamic_shifting",
    "use_exponential_sigmas", "use_flow_sigmas", "use_karras_sigmas", "use_lu_lambdas", "variance_type",
})  # fmt: skip


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, (float, np.floating))) and math.isfinite(value)


def one_of(names: Any) -> tuple[Callable, str]:
    """The check of one of ``names``."""
    return (lambda value: isinstance(value, str) and value in names), f"one of: {', '.join(names)}"


def or_none(names: tuple[str, ...]) -> tuple[Callable, str]:
    """The check of one of ``names``, or None."""
    return _or_none(one_of(names))


def _or_none(check: tuple[Callable, str]) -> tuple[Callable, str]:
    return (lambda value: value is None or check[0](value)), f"{check[1]}, or nothing"


def _not_here(off: Any, instead: str) -> tuple[Callable, str]:
    """Of an argument that diffusers has and this library has not: nothing but ``off``, or None."""
    return (lambda value: value is None or value == off), f"{off}: {instead}"


_BOOL = (lambda value: isinstance(value, (bool, np.bool_))), "true or false"
_BETA = (lambda value: _is_number(value) and 0 < value < 1), "a number between 0 and 1"
_POSITIVE = (lambda value: _is_number(value) and value > 0), "a number above 0"
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {  # what each value must be, and that in words
    "num_train_timesteps": (
        (lambda value: _is_int(value) and 1 <= value <= MAX_STEPS), f"a whole number from 1 to {MAX_STEPS}",
    ),
    "beta_start": _BETA,
    "beta_end": _BETA,
    "beta_schedule": one_of(SCHEDULER_BETAS),
    "variance_type": one_of(VARIANCE_TYPES),
    "clip_sample": _BOOL,
    "clip_sample_range": _POSITIVE,
    "prediction_type": one_of(PREDICTION_TYPES),
    "thresholding": _BOOL,
    "dynamic_thresholding_ratio": ((lambda value: _is_number(value) and 0 <= value <= 1), "a number from 0 to 1"),
    "sample_max_value": _POSITIVE,
    "timestep_spacing": one_of(SPACINGS),
    "steps_offset": ((lambda value: _is_int(value) and value >= 0), "a whole number of at least 0"),
    "rescale_betas_zero_snr": _BOOL,
    "set_alpha_to_one": _BOOL,
    "skip_prk_steps": _BOOL,
    "interpolation_type": one_of(("linear", "log_linear")),
    "timestep_type": one_of(("discrete", "continuous")),
    "final_sigmas_type": one_of(("zero", "sigma_min")),
    "use_karras_sigmas": _or_none(_BOOL),
    "use_exponential_sigmas": _or_none(_BOOL),
    "use_lu_lambdas": _or_none(_BOOL),
    "sigma_min": _or_none(_POSITIVE),
    "sigma_max": _or_none(_POSITIVE),
    "solver_order": ((lambda value: _is_int(value) and 1 <= value <= 3), "1, 2 or 3"),
    "algorithm_type": one_of(ALGORITHMS),
    "lower_order_final": _BOOL,
    "euler_at_final": _BOOL,
    "predict_x0": _BOOL,
    "lambda_min_clipped": ((lambda value: _is_number(value) or value == -math.inf), "a number, or -inf"),
    "disable_corrector": (
        (lambda value: isinstance(value, (list, tuple)) and all(map(_is_int, value))), "a list of whole numbers",
    ),
    "use_beta_sigmas": _or_none(_BOOL),
    "use_flow_sigmas": _not_here(False, "flow matching is not there"),
    "use_dynamic_shifting": _not_here(False, "flow matching is not there"),
    "shift_terminal": _not_here(None, "flow matching is not there"),
    "solver_p": _not_here(None, "another predictor is not there"),
}  # fmt: skip


def check(arguments: Mapping[str, Any], own: Mapping[str, tuple[Callable, str]]) -> None:
    """Raises UserError for the first of ``arguments`` that is not what `CHECKS`, or a class's ``own``, expects."""
    checks = {**CHECKS, **own}
    for name, value in arguments.items():
        if name in checks and not checks[name][0](value):
            raise UserError(f"{name} is {quoted(value)}, expected {checks[name][1]}")


def read(source: Mapping | str | Path) -> Mapping[str, Any]:
    """The configuration in ``source``: a mapping, a JSON file, or a directory that holds scheduler_config.json.

    Raises UserError where it cannot be read or is no JSON object.
    """
    if isinstance(source, Mapping):
        return source if isinstance(source, FrozenConfig) else dict(source)
    if not isinstance(source, (str, Path)):
        raise UserError(f"the scheduler configuration is {quoted(source)}, expected a dict, a file or a directory")
    path = Path(source)
    path = path / FILE_NAME if path.is_dir() else path
    return read_json(path, MAX_BYTES, f"give a scheduler's {FILE_NAME}, or a directory that holds one")


def write(directory: str | Path, owner: str, config: Mapping[str, Any]) -> None:
    """Writes ``config`` of class ``owner`` as ``directory``/scheduler_config.json, in diffusers' form.

    Raises UserError where it cannot be written.
    """
    found = {"_class_name": owner, "_diffusers_version": FORMAT_VERSION, **config}
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    write_atomically(Path(directory) / FILE_NAME, text.encode())


def split(found: Mapping[str, Any], known: tuple[str, ...], owner: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments of class ``owner``, everything else that is kept) of a configuration, as diffusers does.

    - ``_class_name`` may name another scheduler: its file is read for what ``owner`` knows of it.
    - Keys listed in ``_use_default_values``, or in `FrozenConfig.unchosen`, were not chosen by anybody: the class's own
      defaults count.
    - Other keys that begin with ``_`` (``_diffusers_version``) are left out.
    - Arguments of diffusers' other schedulers are kept in `config`, without effect and without a word, so that the
      configuration can go back to them; keys that no scheduler knows are kept too, and one warning names them.
    """
    named = found.get("_use_default_values")
    defaults = set(named) if isinstance(named, (list, tuple)) and all(isinstance(k, str) for k in named) else set()
    defaults |= getattr(found, "unchosen", frozenset())
    given = {key: value for key, value in found.items() if not str(key).startswith("_") and key not in defaults}
    arguments = {key: value for key, value in given.items() if key in known}
    rest = {key: value for key, value in given.items() if key not in known}
    surprising = sorted(str(key) for key in rest if key not in OTHER_SCHEDULERS_KEYS and key not in CHECKS)
    if surprising:
        log.warning("%s does not know %s; without effect", owner, quoted(", ".join(surprising)))
    return arguments, rest
