"""Going on with a run: which checkpoint, and whether it is of the same run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import checkpoint
from .config import differences
from .errors import UserError, quoted

log = logging.getLogger("ms_ddpm")


def find(folder: Path, resume: str) -> Path | None:
    """The checkpoint that ``resume`` asks for in the output directory ``folder``, or None to start afresh.

    Raises UserError: see `Trainer`, argument ``resume``.
    """
    checkpoints = folder / "checkpoints"
    found = checkpoint.steps(checkpoints)
    if resume == "never":
        if found:
            raise UserError(
                f"{folder} already holds checkpoints up to step {found[-1]}; continue with --resume auto, "
                "choose another --output_dir, or delete it"
            )
        return None
    if resume == "auto":
        return checkpoint.locate(folder) if found else None
    if resume == "whole":
        path = checkpoint.newest_whole(checkpoints)
        if found and path is None:
            raise UserError(f"none of the checkpoints in {checkpoints} is whole; choose another --output_dir")
        return path
    path = checkpoint.locate(Path(resume))
    later = [step for step in found if step > checkpoint.read_state(path)["step"]]
    if later:
        raise UserError(
            f"{folder} holds checkpoints of later steps {later} than {path}; continue it in another "
            "--output_dir, or delete them"
        )
    return path


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**18


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # false for nan


_TRAINING = {  # of state["training"]: what a value must be, in a function and in words
    "arguments": (lambda v: v is None or isinstance(v, dict), "a mapping"),
    "ema_calls": (_is_count, "a whole number"),
    "scaler": (
        lambda v: isinstance(v, dict) and all(_is_number(v.get(k)) and v[k] >= 0 for k in ("scale", "good_steps"))
        and v["scale"] > 0,
        "scale and good_steps",
    ),
    "best_loss": (lambda v: v is None or _is_number(v), "a number or null"),
    "best_step": (lambda v: v is None or _is_count(v), "a whole number or null"),
    "skipped_steps": (_is_count, "a whole number"),
    "workers": (lambda v: _is_count(v) and v > 0, "a whole number above 0"),
    "batches_seen": (lambda v: v is None or _is_count(v), "a whole number or null"),
    "epoch_losses": (
        lambda v: isinstance(v, list) and len(v) == 2 and _is_number(v[0]) and _is_count(v[1]), "a sum and a count"
    ),
}  # fmt: skip
_DEFAULTS = {
    "arguments": None,
    "workers": 1,
    "batches_seen": None,
    "epoch_losses": [0.0, 0],
}  # convert.py writes none of them


def training_state(loaded: checkpoint.Checkpoint) -> dict:
    """What the Trainer continues from. Raises UserError where it is not there or not of its types."""
    training = loaded.state.get("training")
    if not isinstance(training, dict):
        raise UserError(f"checkpoint {loaded.path} holds no training state to continue from")

    def damaged(reason: str) -> UserError:
        return UserError(f"checkpoint file {loaded.path / 'state.json'} is damaged: {reason}; resume from another one")

    config = loaded.state.get("config")
    if config is not None and not isinstance(config, dict):
        raise damaged(f"config is {quoted(config)}, expected a mapping or null")
    training = {**_DEFAULTS, **training}
    for name, (fits, expected) in _TRAINING.items():
        if name not in training:
            raise damaged(f"training.{name} is missing")
        if not fits(training[name]):
            raise damaged(f"training.{name} is {quoted(training[name])}, expected {expected}")
    return {**training, "arguments": training["arguments"] or {}}


def check_same_config(loaded: checkpoint.Checkpoint, config: Mapping, free: Sequence[str] = ()) -> None:
    """Raises UserError where ``config`` is of another run than ``loaded``, but for the keys ``free``."""
    _refuse(loaded, differences(loaded.state.get("config") or {}, config, free))


def _refuse(loaded: checkpoint.Checkpoint, changed: Sequence[str]) -> None:
    if changed:
        raise UserError(
            f"checkpoint {loaded.path} is of another run: {'; '.join(changed[:3])}; "
            "use the same configuration, or another --output_dir to start afresh"
        )


def check_same_run(
    loaded: checkpoint.Checkpoint, training: Mapping, *, config: Mapping | None, arguments: Mapping, workers: int
) -> None:
    """Raises UserError unless ``config`` and ``arguments`` make the run that ``loaded`` is of.

    Another number of ``workers`` continues it, with the images of a step split anew or, as a warning says, with more
    or fewer of them.
    """
    before = training["arguments"]
    free = () if workers == training["workers"] else ("gradient_accumulate_every",)
    changed = []
    if None not in (config, loaded.state.get("config")):
        changed = differences(loaded.state["config"], config, free)
    changed += [
        f"{key} was {quoted(before[key])}, now {value!r}"
        for key, value in arguments.items()
        if key not in free and before.get(key, value) != value
    ]
    _refuse(loaded, changed)
    accumulated, now = before.get("gradient_accumulate_every", 1), arguments["gradient_accumulate_every"]
    if free and training["workers"] * accumulated != workers * now:
        log.warning(
            "the checkpoint is of %d worker(s), now there are %d: %d batches of %d a step instead of %d; with the "
            "product of workers and gradient_accumulate_every as before, the run would go on as it was",
            training["workers"], workers, workers * now, arguments["train_batch_size"],
            training["workers"] * accumulated,
        )  # fmt: skip


def check_arrays(loaded: checkpoint.Checkpoint, cell, names: Sequence[str]) -> None:
    """Raises UserError unless the averaged weights and moments of ``loaded`` are those of ``names`` of ``cell``.

    And unless the Cell's ``check_loaded(arrays, what)``, where it has one, finds that its data go with the weights.
    """
    shapes = {name: tuple(p.shape) for name, p in cell.parameters_and_names()}
    moments = {f"{key}.{name}": shapes[name] for key in ("exp_avg", "exp_avg_sq") for name in names}
    checkpoint.match(loaded.arrays["ema"], {name: shapes[name] for name in names}, f"checkpoint {loaded.path}")
    checkpoint.match(loaded.arrays["optimizer"], {"steps": (1,), **moments}, f"checkpoint {loaded.path} (optimizer)")
    if hasattr(cell, "check_loaded"):
        checkpoint.match(loaded.arrays["model"], shapes, f"checkpoint {loaded.path}")
        cell.check_loaded(loaded.arrays["model"], f"checkpoint {loaded.path}")
