"""The configuration of a run: a dataclass per system, from which YAML files, flags and ``--help`` are all made.

`Config` has the keys of every system. A system adds its own in ``systems/NAME/config.py``; ``Config(system="score")``
makes that one.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UserError, quoted
from . import keys
from .keys import DEFAULT_SYSTEM, MAX_STEPS, default_of, fields_of, key
from .recipe_files import read_yaml, recipe_file, recipes  # noqa: F401  a configuration's files by the same door

SCHEDULE_NAMES = ("constant", "cosine", "linear", "exponential")


@dataclass
class Config:
    """What makes a run of any system. Names are those of the constructors and of `Trainer`.

    Called with no key of another system, it makes the class of ``system``, which has that system's own keys too.
    """

    def __new__(cls, **values: Any) -> Config:
        from .. import registry

        kind = registry.get(values.get("system", DEFAULT_SYSTEM)).Config if cls is Config else cls
        for name in (values.keys() - fields_of(kind).keys()) & all_fields().keys():
            raise _foreign(name, values[name], kind.system)
        return object.__new__(kind)

    source: str = key("", "str", "paper or article the recipe comes from (a note)", free=True)
    system: str = key(DEFAULT_SYSTEM, "name", "what is trained; see docs/systems.md")
    # data
    dataset: str = key(
        "digits", "name", "'digits' or 'digits28' (built in), or a path: image folder, MNIST/CIFAR files, .npz"
    )
    image_size: Any = key(8, "size", "side of the images, or height and width", low=1)
    channels: int = key(1, "int", "1 grayscale, 3 RGB, 4 RGBA", low=1)
    background: str = key(
        "white", "colour", "seen through transparent pixels (1 or 3 channels): a colour's name, or #rrggbb"
    )
    full_depth: bool = key(False, "bool", "keep what PNG and TIFF of 16 bits hold; otherwise 8 bits of it")
    flip: bool = key(False, "bool", "mirror each image with probability 1/2")
    validation_images: int = key(128, "int", "images held out for the validation loss; 0: none", low=0)
    workers: int = key(1, "int", "threads that load images", low=1, high=1024, free=True)
    # training
    epochs: Any = key(
        None,
        "int?",
        "passes over the data, instead of train_num_steps; see docs/systems.md",
        low=1,
        high=MAX_STEPS,
        free=True,
    )
    train_num_steps: int = key(100000, "int", "optimizer steps", low=1, high=10**9, free=True)
    train_batch_size: int = key(16, "int", "images per step and accumulation", low=1)
    gradient_accumulate_every: int = key(1, "int", "batches per optimizer step", low=1)
    train_lr: float = key(1e-4, "float", "learning rate", low=0, free=True)
    optimizer: str = key("adam", "str", "Adam, or Adam with decoupled weight decay", choices=("adam", "adamw"))
    adam_betas: list = key([0.9, 0.99], "floats", "betas of Adam", low=0)
    weight_decay: Any = key(None, "float?", "weight decay (default: the optimizer's, adam 0, adamw 0.01)", low=0)
    max_grad_norm: float = key(
        1.0, "float", "largest norm of the gradient; larger ones are scaled down", low=0, free=True
    )
    lr_schedule: str = key("constant", "str", "learning-rate schedule", choices=SCHEDULE_NAMES)
    lr_decay: float = key(0.98, "float", "exponential: factor per epoch", low=0, high=1)
    lr_floor: float = key(0.2, "float", "exponential: smallest factor", low=0, high=1)
    warmup_steps: int = key(0, "int", "steps of linear warm-up", low=0)
    ema_decay: float = key(0.995, "float", "decay of the averaged weights", low=0)
    ema_update_every: int = key(10, "int", "steps between updates of the averaged weights", low=1)
    amp_level: str = key(
        "O0",
        "str",
        "O0 float32; O1 matrix products in half precision; O2 activations too",
        choices=("O0", "O1", "O2"),
        free=True,
    )
    amp_dtype: str = key("float16", "str", "half precision of O1 and O2", choices=("float16", "bfloat16"), free=True)
    max_nonfinite: int = key(20, "int", "stop after so many non-finite steps in a row", low=1, free=True)
    seed: int = key(0, "int", "one seed gives one run", low=0)
    # output
    output_dir: str = key("runs/default", "name", "where checkpoints, log and samples go", free=True)
    save_and_sample_every: int = key(1000, "int", "steps between checkpoints and sample grids", low=1, free=True)
    num_samples: int = key(25, "int", "images in the sample grid", low=1, free=True)
    keep_checkpoint_max: int = key(3, "int", "newest checkpoints kept (best is kept too); 0: all", low=0, free=True)
    log_every: int = key(10, "int", "steps between log lines", low=1, free=True)
    tensorboard: bool = key(False, "bool", "write TensorBoard files too", free=True)
    resume: str = key(
        "auto",
        "name",
        "auto: continue what is in output_dir; whole: also where its last is damaged; never; a path",
        free=True,
    )
    accept_changes: Any = key(
        None,
        "names?",
        "continue although these have changed: the names that the refusal says (data: the data set)",
        free=True,
    )
    init_from: Any = key(
        None, "name?", "a new run begins with the weights of this run or checkpoint, at step 0 (fine-tuning)", free=True
    )
    init_weights: str = key(
        "ema", "str", "init_from: its averaged or its raw weights", choices=("ema", "model"), free=True
    )
    # machine
    device_target: str = key("CPU", "name", "CPU, GPU or Ascend", free=True)
    device_id: Any = key(None, "int?", "which GPU or Ascend device", low=0, free=True)
    mode: int = key(0, "int", "0 compiled graph, 1 PyNative (debugging)", low=0, free=True)
    matmul_precision: str = key(
        "highest",
        "str",
        "float32 products: highest: true float32; high: TF32 or HF32",
        choices=("highest", "high"),
        free=True,
    )
    threads: Any = key(None, "int?", "CPU cores to compute on (default: all)", low=1, high=4096, free=True)
    distribute: bool = key(False, "bool", "one of several workers; started by msrun --worker_num N ...", free=True)


def system_fields(system: str) -> dict[str, dataclasses.Field]:
    """Every key that a run of the system ``system`` has. Raises UserError where there is no such system."""
    from .. import registry

    return fields_of(registry.get(system).Config)


def own_fields(system: str) -> dict[str, dataclasses.Field]:
    """Those of `system_fields` that the system adds to the keys of `Config`."""
    return {name: field for name, field in system_fields(system).items() if name not in SHARED}


SHARED = fields_of(Config)


def image_sides(config: Config) -> tuple[int, int]:
    """(height, width)."""
    size = config.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@cache
def all_fields() -> dict[str, dataclasses.Field]:
    """The keys of all systems; where several have one of a name, that of the first."""
    from .. import registry

    found = dict(SHARED)
    for system in registry.names():
        for name, field in own_fields(system).items():
            found.setdefault(name, field)
    return found


def systems_of(name: str) -> list[str]:
    """The systems that have the key ``name`` as one of their own."""
    from .. import registry

    return [system for system in registry.names() if name in own_fields(system)]


@cache
def _free_on_resume() -> frozenset[str]:
    return frozenset(name for name, field in all_fields().items() if field.metadata["free"])


def __getattr__(name: str) -> Any:
    """FIELDS: `all_fields`; FREE_ON_RESUME: the keys that may change when a run goes on."""
    if name == "FIELDS":
        return all_fields()
    if name == "FREE_ON_RESUME":
        return _free_on_resume()
    raise AttributeError(f"module {__name__} has no attribute {name}")


def read_value(name: str, value: Any) -> Any:
    """``value`` of the configuration key ``name``, in its type. Raises UserError where it does not fit."""
    return keys.read_value(all_fields()[name], value)


def _foreign(name: str, value: Any, system: str) -> UserError:
    """That the key ``name`` is one of other systems."""
    owners = systems_of(name)
    word = "system" if len(owners) == 1 else "systems"
    return UserError(
        f"configuration key {name} is {quoted(value)}, but it belongs to the {word} {', '.join(owners)}, and system is "
        f"{system}; leave it out, or set system: {owners[0]}"
    )


def _unknown(name: Any, origin: str) -> UserError:
    near = difflib.get_close_matches(name[:50], all_fields(), 1) if isinstance(name, str) else []
    hint = f"; did you mean {near[0]}?" if near else "; train.py --help lists the keys"
    return UserError(f"{origin} has the unknown configuration key {quoted(name)}{hint}")


def from_mapping(values: dict, origin: str, system: str | None = None) -> dict[str, Any]:
    """Typed values of a mapping; ``origin`` is named in errors.

    Keys of other systems than its own (or ``system``) are left out where they say what is the default there: versions
    up to 0.1 wrote every key of every system. Otherwise they stay, and `checked` refuses them.
    """
    if not isinstance(values, dict):
        raise UserError(f"{origin} holds {type(values).__name__}, expected 'key: value' lines")
    try:
        known = system_fields(values.get("system", DEFAULT_SYSTEM) if system is None else system)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None
    result = {}
    for name, value in values.items():
        field = known.get(name) if isinstance(name, str) else None
        if field is None and name not in all_fields():
            raise _unknown(name, origin)
        try:
            result[name] = keys.read_value(field or all_fields()[name], value)
        except UserError as error:
            raise UserError(f"{origin}: {error}") from None
        if field is None and result[name] == default_of(all_fields()[name]):
            del result[name]
    return result


def from_yaml(path: str | Path, system: str | None = None) -> dict[str, Any]:
    """Typed values of a YAML file, or of a recipe by its name, as `from_mapping`.

    Raises UserError where it cannot be read or a key or value is wrong.
    """
    return from_mapping(read_yaml(path), f"--config {path}", system)


def add_options(
    parser: argparse.ArgumentParser,
    names: Sequence[str] | None = None,
    system: str | None = None,
    hidden: bool = False,
) -> None:
    """Adds flags to ``parser``: of the configuration keys ``names``, or of all that ``system`` has (None: any system).

    Flags that are not given stay out of the result; ``hidden`` ones stay out of the help.
    """
    known = all_fields() if system is None else system_fields(system)
    names = known if names is None else names
    keys.add_flags(parser, [known[name] for name in names if name != "source"], hidden)


def resolve(flags: dict[str, Any], config_path: str | None, held: Any = None) -> Config:
    """The configuration of a YAML file (or the defaults) overridden by flags.

    ``config_path`` is a path or a recipe's name; ``held`` what `read_yaml` gave for it, where it has been read already.

    Raises UserError for a value that does not fit, and for a key that only other systems read.
    """
    system = flags.get("system")
    values = {}
    if config_path:
        held = read_yaml(config_path) if held is None else held
        values = from_mapping(held, f"--config {config_path}", system)
    system = system or values.get("system", DEFAULT_SYSTEM)
    fields = all_fields() | system_fields(system)
    typed = {name: keys.read_value(fields[name], value) for name, value in flags.items() if name in fields}
    return checked({**values, **typed, "system": system})


def checked(values: dict[str, Any]) -> Config:
    """The configuration of typed ``values``.

    Raises UserError for a key of other systems that was changed from its default there, and where the system's own
    `check` does not like what it sees.
    """
    from .. import registry

    system = registry.get(values.get("system", DEFAULT_SYSTEM))
    own = fields_of(system.Config)
    for name, field in all_fields().items():
        if name in values and name not in own and values[name] != default_of(field):
            raise _foreign(name, values[name], system.name)
    config = Config(**{name: value for name, value in values.items() if name in own})
    system.check(config)
    return config


def of_checkpoint(values: dict, origin: str) -> Config:
    """The configuration that a checkpoint holds; keys of other systems than its own never did anything."""
    found = from_mapping(values, origin)
    own = system_fields(found.get("system", DEFAULT_SYSTEM))
    return Config(**{name: value for name, value in found.items() if name in own})


def is_whole(values: dict[str, Any]) -> bool:
    """Whether ``values`` has every key of its system, and so says all there is to say."""
    return system_fields(values.get("system", DEFAULT_SYSTEM)).keys() <= values.keys()


def to_dict(config: Config) -> dict[str, Any]:
    """Plain values, for JSON and YAML."""
    return dataclasses.asdict(config)


def free_on_resume(lr_schedule: str) -> frozenset[str]:
    """The keys that may change: a run may be made longer, unless its learning rate depends on its length."""
    free = _free_on_resume()
    return free - {"train_num_steps", "epochs"} if lr_schedule in ("cosine", "linear") else free


def changes(old: dict[str, Any], new: dict[str, Any], also_free: Sequence[str] = ()) -> dict[str, str]:
    """What makes ``new`` another run than ``old``, as key -> phrase; ``also_free`` may differ too.

    What ``old`` lacks, because its version did not know it, was as the default is.
    """
    free = free_on_resume(new["lr_schedule"])
    own = system_fields(new.get("system", DEFAULT_SYSTEM))
    before = {name: default_of(field) for name, field in own.items()} | old if old else {}
    fixed = [name for name in own if name not in free and name not in also_free and name in before and name in new]
    return {
        name: f"{name} was {quoted(before[name])}, now {quoted(new[name])}"
        for name in fixed
        if before[name] != new[name]
    }


def differences(old: dict[str, Any], new: dict[str, Any], also_free: Sequence[str] = ()) -> list[str]:
    """The phrases of `changes`."""
    return list(changes(old, new, also_free).values())
