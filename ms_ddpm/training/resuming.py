"""Going on with a run: which checkpoint, and whether it is of the same run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import changes, free_on_resume, is_whole
from ..data import identity as data_identity
from ..errors import UserError, quoted
from ..ops.assign import type_of
from ..storage import checkpoint
from ..storage.fingerprint import UNKNOWN, plain_fact
from ..storage.fingerprint import changes as fact_changes
from ..storage.fingerprint import facts_of as cell_facts
from ..trainable import said_by

if TYPE_CHECKING:
    from mindspore import nn

    from ..data import ImageSource

log = logging.getLogger("ms_ddpm")

WAYS = ("auto", "whole", "never")  # what ``resume`` is unless it is a path
_NOT_OF_THE_RUN = frozenset(["cell", "dataset", "config", "results_folder", "progress"])  # arguments of a Trainer
_ALIASES = {  # what changes together, or is called otherwise in the configuration, is accepted by one name
    "augment_horizontal_flip": "flip",
    "images": "data",
    "steps_per_epoch": "data",
    "dataset": "data",
}


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


def fixed_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of all arguments of a `Trainer` the plain ones that may not change; of a function of the step some values."""
    schedule = given["lr_schedule"]
    free = free_on_resume(schedule if isinstance(schedule, str) else "") | _NOT_OF_THE_RUN
    facts = {name: plain_fact(value) for name, value in given.items() if name not in free}
    found = {name: fact for name, fact in facts.items() if fact is not UNKNOWN}
    if callable(schedule):
        at = [0, *(10**power for power in range(7))]
        last = given["train_num_steps"]
        found |= {f"lr_factor_at_{step}": float(f"{schedule(step):.6g}") for step in at if step < last}
    return found


def check_same_config(
    loaded: checkpoint.Checkpoint, config: Mapping, free: Sequence[str] = (), accept: Sequence[str] = ()
) -> None:
    """Raises UserError where ``config`` is of another run than ``loaded``, but for keys ``free`` and ``accept``."""
    _judge(loaded, changes(loaded.state.get("config") or {}, config, free), accept)


def _name_of(name: str) -> str:
    """What a change goes by in ``accept_changes``."""
    return _ALIASES.get(name, name)


def _judge(loaded: checkpoint.Checkpoint, changed: Mapping[str, str], accept: Sequence[str]) -> dict[str, str]:
    """``changed``, where all of it is accepted. Raises UserError where something is not."""
    accepted = {_name_of(name) for name in accept}
    refused = {name: phrase for name, phrase in changed.items() if _name_of(name) not in accepted}
    if refused:
        phrases, names = list(refused.values()), list(dict.fromkeys(map(_name_of, changed)))
        more = f" (and {len(phrases) - 3} more)" if len(phrases) > 3 else ""
        asked = f" {' '.join(names)}" if len(names) <= 5 else " NAME..."
        raise UserError(
            f"checkpoint {loaded.path} is of another run: {'; '.join(phrases[:3])}{more}; "
            "use the same configuration, or another --output_dir to start afresh, or go on all the same with "
            f"--accept_changes{asked}"
        )
    unknown = [name for name in accept if _name_of(name) not in set(map(_name_of, changed))]
    if unknown:
        log.warning("accept_changes names %s, which has not changed", ", ".join(map(str, unknown)))
    return dict(changed)


def _mapping(loaded: checkpoint.Checkpoint, name: str) -> dict:
    """A mapping in state.json, empty where there is none: an older version wrote the checkpoint."""
    found = loaded.state.get(name)
    return found if isinstance(found, dict) else {}


@dataclass
class Fingerprint:
    """By what a run is known beside its configuration and the Trainer's arguments.

    cell: see `fingerprint.facts_of`; data: see `data_identity.facts_of`; source: whose facts ``data`` are.
    """

    cell: dict[str, Any]
    data: dict[str, Any]
    source: ImageSource

    @classmethod
    def of(cls, cell: nn.Cell, source: ImageSource) -> Fingerprint:
        """That of a Cell and all images that it trains on or is judged by."""
        return cls(cell_facts(cell), data_identity.facts_of(source), source)

    def state(self, cell: nn.Cell) -> dict[str, dict]:
        """What a checkpoint keeps. What has changed while ``cell`` was trained, a counter, is no fact."""
        now = cell_facts(cell)
        steady = {name: fact for name, fact in self.cell.items() if now.get(name) == fact}
        return {"cell": steady, "data": {**self.data, **data_identity.unreadable(self.source)}}

    def changes(self, before: Mapping) -> tuple[dict[str, str], list[str]]:
        """What was different in ``before``, the Cell by name and the data."""
        cell, data = (before.get(name) if isinstance(before.get(name), dict) else {} for name in ("cell", "data"))
        return fact_changes(cell, self.cell), data_identity.changes(data, self.data, self.source)


def check_same_run(
    loaded: checkpoint.Checkpoint, training: Mapping, *, config: Mapping | None, arguments: Mapping, workers: int,
    fingerprint: Fingerprint | None = None, accept: Sequence[str] = (),
) -> dict[str, str]:  # fmt: skip
    """The changes since ``loaded``, name -> phrase, all of them in ``accept``. Raises UserError where others are.

    What makes a run: ``config``, ``arguments`` and ``fingerprint``, as far as the checkpoint knows them. Another number
    of ``workers`` continues it, with the images of a step split anew or, as a warning says, with more or fewer of them.
    """
    before = training["arguments"]
    free = () if workers == training["workers"] else ("gradient_accumulate_every",)
    written = None if loaded.state.get("config_of") == "cell" else loaded.state.get("config")  # by the user
    of_config = {} if None in (config, written) else changes(written, config, free)
    of_arguments = {
        key: f"{key} was {quoted(before[key])}, now {value!r}"
        for key, value in arguments.items()
        if key not in free and key in before and before[key] != value and key not in of_config
    }
    of_cell, of_data = {}, []
    known = _mapping(loaded, "fingerprint")
    if fingerprint is not None and not known and None in (config, written):
        log.warning(
            "checkpoint %s is of an older version, which did not write what its model and data are: whether they are "
            "the same is not checked", loaded.path,
        )  # fmt: skip
    if fingerprint is not None and known:
        of_cell, of_data = fingerprint.changes(known)
        if not of_data and isinstance(known.get("data"), dict):
            of_config.pop("dataset", None)  # it is elsewhere now
        if None not in (config, written) and is_whole(config):
            of_cell = {}  # it follows from the configuration
    changed = {**of_config, **of_arguments, **of_cell}
    of_data = [phrase for phrase in of_data if phrase not in changed.values()]
    if of_data:
        changed["data"] = ", ".join(of_data)
    accepted = _judge(loaded, changed, accept)
    accumulated, now = before.get("gradient_accumulate_every", 1), arguments["gradient_accumulate_every"]
    if free and training["workers"] * accumulated != workers * now:
        log.warning(
            "the checkpoint is of %d worker(s), now there are %d: %d batches of %d a step instead of %d; with the "
            "product of workers and gradient_accumulate_every as before, the run would go on as it was",
            training["workers"], workers, workers * now, arguments["train_batch_size"],
            training["workers"] * accumulated,
        )  # fmt: skip
    return accepted


def accepted_before(loaded: checkpoint.Checkpoint) -> list:
    """The changes that the run went on with up to ``loaded``: each a mapping of step, names and changes."""
    found = loaded.state.get("accepted_changes")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def note_accepted(loaded: checkpoint.Checkpoint, accepted: Mapping[str, str]) -> list:
    """`accepted_before` and what is ``accepted`` now, which a warning names."""
    if not accepted:
        return accepted_before(loaded)
    names, phrases = list(dict.fromkeys(map(_name_of, accepted))), list(accepted.values())
    log.warning("step %d: the run goes on with what was changed: %s", loaded.step, "; ".join(phrases))
    return [*accepted_before(loaded), {"step": loaded.step, "names": names, "changes": phrases}]


def of_data(accepted: Mapping[str, str]) -> bool:
    """Whether the data are among the changes ``accepted``, by whatever name."""
    return "data" in map(_name_of, accepted)


def accepts_data(loaded: checkpoint.Checkpoint, accept: Sequence[str]) -> tuple[bool, bool]:
    """Whether other data are accepted now, and whether they are or ever were."""
    now = "data" in map(_name_of, accept)
    names = [item.get("names") for item in accepted_before(loaded)]
    return now, now or any("data" in known for known in names if isinstance(known, list))


def began_with_weights(path: str) -> bool:
    """Whether the run of the checkpoint ``path`` began with the weights of another."""
    return checkpoint.read_state(checkpoint.locate(Path(path))).get("started_from") is not None


def check_arrays(loaded: checkpoint.Checkpoint, cell, names: Sequence[str]) -> None:
    """Raises UserError unless the averaged weights and moments of ``loaded`` are those of ``names`` of ``cell``.

    And unless the Cell's ``check_loaded`` finds that its data go with the weights; see `trainable.Trainable`.
    """
    shapes = {name: tuple(p.shape) for name, p in cell.parameters_and_names()}
    moments = {f"{key}.{name}": shapes[name] for key in ("exp_avg", "exp_avg_sq") for name in names}
    checkpoint.match(loaded.arrays["ema"], {name: shapes[name] for name in names}, f"checkpoint {loaded.path}")
    checkpoint.match(loaded.arrays["optimizer"], {"steps": (1,), **moments}, f"checkpoint {loaded.path} (optimizer)")
    saved = {name: shapes[name] for name in said_by(cell, "saved_parameters")()}
    types = {name: type_of(p) for name, p in cell.parameters_and_names()}
    checkpoint.match(loaded.arrays["model"], saved, f"checkpoint {loaded.path}", types)
    said_by(cell, "check_loaded")(loaded.arrays["model"], f"checkpoint {loaded.path}")
