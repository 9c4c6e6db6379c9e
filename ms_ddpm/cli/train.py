"""Train a diffusion model, or one of its relatives (--system).

  python scripts/train.py                                   configs/digits.yaml: minutes on two CPU cores
  python scripts/train.py --config configs/flowers64.yaml --dataset ~/flowers --device_target GPU
  python scripts/train.py --config configs/digits.yaml --output_dir runs/digits --train_num_steps 4000
  python scripts/train.py --config configs/first_ddpm.yaml
  python scripts/train.py --config configs/score_digits.yaml
  msrun --worker_num 2 --local_worker_num 2 scripts/train.py --distribute --config configs/digits.yaml

Without --config and --dataset it is the recipe digits that is run. A flag overrides the YAML file. The same command
again continues the run where it stopped, bit for bit; Ctrl-C saves a checkpoint first. What is written to --output_dir:
checkpoints/, samples/, log.jsonl, config.yaml, and classes.txt where folders are classes (--labels_from folders).
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from .. import registry
from ..config import (
    DEFAULT_SYSTEM,
    SHARED,
    Config,
    add_options,
    all_fields,
    own_fields,
    read_yaml,
    recipes,
    resolve,
    to_dict,
)
from ..errors import UserError
from ..systems import System
from ..training.graph_errors import reports_to
from . import Parser

log = logging.getLogger("ms_ddpm")

FIRST_RECIPE = "digits"


def chosen_recipe(flags: dict, config: str | None) -> str | None:
    """The recipe to run: ``config``, or the digits' for those who name no data either.

    The keys' own defaults are those of the 2.3 network, 36 M parameters for 100,000 steps: on the 8x8 digits, 14 hours.

    Raises:
        UserError: nothing is named, and the recipe is not where the recipes should be.
    """
    if config is not None or "dataset" in flags or flags.get("system", DEFAULT_SYSTEM) != DEFAULT_SYSTEM:
        return config
    if FIRST_RECIPE not in recipes():
        raise UserError(
            f"neither --config nor --dataset is given, and the recipe that would run then, {FIRST_RECIPE}.yaml, is not "
            "there; name a recipe (--config FILE) or the data (--dataset digits, or a path)"
        )
    return str(recipes()[FIRST_RECIPE])


def build_trainer(config: Config, group):
    """The Trainer of a configuration in a group of workers, resumed where there is something to resume."""
    from ..systems import sizes
    from ..training.trainer import Trainer

    system = registry.of(config)
    cell = system.build(config)
    sizes.check_built(config, cell)
    dataset = system.open_data(config, cell)
    return Trainer(
        cell,
        dataset,
        augment_horizontal_flip=config.flip,
        results_folder=config.output_dir,
        sample_fn=system.sample_fn(cell, dataset, config),
        config=to_dict(dataclasses.replace(config, accept_changes=None)),  # said for this start alone
        group=group,
        **{
            name: getattr(config, name)
            for name in [
                "train_batch_size",
                "gradient_accumulate_every",
                "train_lr",
                "train_num_steps",
                "epochs",
                "ema_update_every",
                "ema_decay",
                "adam_betas",
                "save_and_sample_every",
                "num_samples",
                "max_grad_norm",
                "amp_level",
                "amp_dtype",
                "optimizer",
                "weight_decay",
                "lr_schedule",
                "lr_decay",
                "lr_floor",
                "warmup_steps",
                "validation_images",
                "seed",
                "resume",
                "accept_changes",
                "init_from",
                "init_weights",
                "keep_checkpoint_max",
                "log_every",
                "tensorboard",
                "max_nonfinite",
                "workers",
            ]
        },
    )


def show_data(trainer, system: System) -> None:
    """samples/real.png: the first images of the training set, to compare the samples with."""
    import numpy as np

    from .. import data
    from ..pictures.images import save_grid

    real = data.as_float(trainer.train_set.batch(range(min(trainer.num_samples, len(trainer.train_set)))))
    save_grid(np.clip(system.to_images(trainer.cell, real), 0, 1), trainer.folder / "samples" / "real.png")


def show_classes(trainer) -> None:
    """classes.txt: the names of the classes 0, 1, ..., a line each, where folders give them."""
    from ..errors import one_line
    from ..storage.files import write_atomically

    names = trainer.train_set.class_names
    if names is None:
        return
    write_atomically(trainer.folder / "classes.txt", "".join(f"{one_line(name)}\n" for name in names).encode())
    shown = ", ".join(f"{number} {one_line(name)}" for number, name in enumerate(names[:20]))
    print(f"{len(names)} classes: {shown}{', ...' if len(names) > 20 else ''} (all in classes.txt)", flush=True)


def introduce(trainer, config: Config) -> None:
    """Writes config.yaml and samples/real.png, and says what is going to be trained."""
    import yaml

    from ..storage.files import write_atomically

    text = yaml.safe_dump(trainer.config, sort_keys=False, allow_unicode=True)
    write_atomically(trainer.folder / "config.yaml", text.encode())
    system = registry.of(config)
    system.keep_data(trainer.cell, trainer.folder)
    show_data(trainer, system)
    show_classes(trainer)
    parameters = sum(p.size for p in trainer.cell.trainable_params())
    workers = f"{trainer.group.world} workers, " if trainer.group.world > 1 else ""
    print(
        f"{config.system}: {workers}{len(trainer.train_set)} training images {trainer.train_set.shape}, "
        f"{parameters:,} parameters, "
        + (f"resuming at step {trainer.step}" if trainer.step else "first step compiles the graph"),
        flush=True,
    )


def look_ahead(argv: Sequence[str]) -> tuple[str | None, Any]:
    """(system, what --config holds) of a command line, before its options are known: they are the system's.

    The system is that of --system, or of a line ``system: NAME`` of the file. None: not named, or not to be read, which
    is said in its turn.
    """
    parser = Parser(add_help=False)
    parser.add_argument("--system")
    parser.add_argument("--config")
    named, _ = parser.parse_known_args(argv)
    try:
        held = None if named.config is None else read_yaml(named.config)
    except UserError:
        held = None
    system = held.get("system", DEFAULT_SYSTEM) if isinstance(held, dict) else None
    return named.system or (system if system in registry.names() else None), held


def build_parser(system: str | None) -> Parser:
    """The options of train.py, with the keys of ``system``; None: of the diffusion."""
    usage = "train.py [--config FILE] [--system NAME] [--KEY VALUE ...]"
    parser = Parser(prog="train.py", usage=usage, description=__doc__)
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the options below, or a recipe's name")
    there_are = "\n".join(f"  {name:13} {registry.get(name).summary}" for name in registry.names())
    parser.epilog = (
        f"systems (--system NAME --help shows the options of one):\n{there_are}\n\nrecipes (--config NAME):\n"
        + textwrap.fill(" ".join(recipes()), 100, initial_indent="  ", subsequent_indent="  ")
    )
    chosen = system or DEFAULT_SYSTEM
    brackets = "in brackets what holds where neither a flag nor the recipe says it"
    shared = parser.add_argument_group("every system", f"Names as in the YAML file; {brackets}.")
    add_options(shared, list(SHARED), chosen)
    add_options(parser.add_argument_group(f"the system {chosen}"), list(own_fields(chosen)), chosen)
    others = [name for name in all_fields() if name not in SHARED and name not in own_fields(chosen)]
    add_options(parser, others, hidden=True)  # `resolve` says whose they are
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Trains; exit code 0, 128 + signal after SIGTERM or Ctrl-C, 1 where training diverged."""
    argv = sys.argv[1:] if argv is None else list(argv)
    system, held = look_ahead(argv)
    flags = vars(build_parser(system).parse_args(argv))
    given = flags.pop("config")
    recipe = chosen_recipe(flags, given)
    config = resolve(flags, recipe, held)
    for name in ("train_num_steps", "save_and_sample_every"):
        if config.epochs is not None and name in flags:
            raise UserError(
                f"--{name} says what epochs {config.epochs} says already; leave it out, or add --epochs null"
            )

    from ..devices import distributed, runtime
    from ..systems import sizes

    distributed.check_launch(config.distribute)
    sizes.check_training(config)
    if distributed.is_scheduler():
        return distributed.run_scheduler(config.output_dir)
    if config.distribute:
        group = distributed.start_worker(config)
    else:
        group = distributed.ALONE
        runtime.setup(
            config.device_target, mode=config.mode, threads=config.threads, device_id=config.device_id,
            seed=config.seed, matmul_precision=config.matmul_precision,
        )  # fmt: skip
    from ..errors import NonFiniteError

    with group:
        if recipe != given:
            log.info("no --config and no --dataset: running %s with the flags given", recipe)
        trainer = build_trainer(config, group)
        if group.writer:
            introduce(trainer, config)
        try:
            result = trainer.train()
        except NonFiniteError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        reports_to(trainer.folder / "compiler")
        if group.writer and not result.stopped_by:
            for line in registry.of(config).report(trainer, config):
                print(line)
    code = 128 + result.stopped_by if result.stopped_by else 0
    if group.writer and code:
        print(f"stopped at step {result.step}; the same command continues from there")
    elif group.writer:
        print(f"trained to step {result.step}: {trainer.checkpoints}, samples in {trainer.folder / 'samples'}")
    return code
