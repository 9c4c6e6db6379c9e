"""The command line of scripts/bench.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ms_ddpm.cli import Parser, command_line
from ms_ddpm.errors import UserError, reason_of

DESCRIPTION = """How fast, and how large: MindSpore against PyTorch, same weights, same inputs, same cores.

  python scripts/bench.py --quick                        a minute or two: ours and PyTorch, dim 16 and dim 32
  python scripts/bench.py                                the whole table, four contestants: up to two hours on two cores
  python scripts/bench.py --markdown bench.md --json bench.json --html bench.html
  python scripts/bench.py --sizes dim32 --batches 16 --contestants ours torch --what train
  python scripts/bench.py --sizes 16:1,2@8               any network: DIM:MULTS@SIDE
  python scripts/bench.py --sizes text2image --batches 1 4 --ddim_steps 30 --contestants ours torch
  python scripts/bench.py --growth                       and how cost grows with batch, resolution and width
  python scripts/bench.py --from bench.json --markdown bench.md     the tables of an earlier run, again

Every contestant is a process of its own; they take turns, so that a busy moment of the machine hits all alike. Before
anything is timed their outputs are compared: one that computes something else is an error. Ctrl-C keeps what was
measured so far.

contestants:
{contestants}

Exit codes: 0 measured, 1 outputs differ or a contestant failed, 2 bad input, 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of scripts/bench.py."""
    from . import contestants, sizes

    names = "\n".join(f"  {entry.name:<16} {entry.about}" for entry in contestants.CONTESTANTS.values())
    parser = Parser(prog="bench.py", description=DESCRIPTION.format(contestants=names))
    what = parser.add_argument_group("what to measure")
    what.add_argument(
        "--sizes",
        nargs="+",
        metavar="SIZE",
        help=f"{', '.join(f'{k} = {v}' for k, v in sizes.SIZES.items())}, or DIM:MULTS@SIDE (default: all three); "
        f"{', '.join(f'{k} = {v}' for k, v in sizes.GUIDED.items())} under guidance, not trained",
    )
    what.add_argument("--batches", nargs="+", type=int, metavar="N", help="(default: 1 16 64, and 64 only up to 32x32)")
    what.add_argument(
        "--contestants",
        nargs="+",
        metavar="NAME",
        help=f"(default: {' '.join(contestants.DEFAULT)}; stock at dim32 only and three steps, being that slow)",
    )
    what.add_argument(
        "--what",
        nargs="+",
        choices=tuple(sizes.WHAT),
        metavar="KIND",
        help="train denoise sample: a training step, one call of the network, a DDIM-50 sample of 16 "
        "(default: all; with --quick no sample)",
    )
    what.add_argument(
        "--growth",
        nargs="?",
        const="also",
        choices=("also", "only"),
        help="also (or only) measure how cost grows with batch, resolution and width, on dim 16 (1,2,4) @ 16x16",
    )
    what.add_argument("--layout", choices=tuple(sizes.LAYOUTS), default="rms", help="rms: 2.3's network; group: 2022's")
    what.add_argument("--ddim_steps", type=int, default=50, help="steps of a sample (default: 50)")
    what.add_argument("--seed", type=int, default=0, help="of weights and inputs (default: 0)")
    what.add_argument("--quick", action="store_true", help="ours and torch, dim16 and dim32 at batch 16, fewer steps")
    how = parser.add_argument_group("how")
    how.add_argument("--threads", type=int, help="cores and threads of every contestant (default: all cores)")
    how.add_argument("--rounds", type=int, help="turns of every contestant (default: 5)")
    how.add_argument("--steps", type=int, help="steps in a turn (default: 6, which makes 30)")
    how.add_argument(
        "--budget",
        type=float,
        help="seconds of timed steps for each contestant, workload and kind; "
        "slow ones make fewer steps, 3 at least (default: 30)",
    )
    how.add_argument(
        "--patience",
        type=float,
        default=900,
        help="seconds that one call may take, compilation included (default: 900)",
    )
    out = parser.add_argument_group("output")
    out.add_argument("--json", type=Path, metavar="FILE", help="every time measured; written after each workload")
    out.add_argument("--markdown", type=Path, metavar="FILE", help="the tables, the machine and the command")
    out.add_argument("--html", type=Path, metavar="FILE", help="a page with pictures, in one file")
    out.add_argument("--from", dest="source", type=Path, metavar="FILE", help="do not measure: show this --json file")
    out.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Raises UserError for a number that cannot be."""
    for name in ("threads", "rounds", "steps", "budget", "patience", "ddim_steps"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} is {value}, expected more than 0")
    for batch in options.batches or ():
        if batch < 1:
            raise UserError(f"--batches has {batch}, expected at least 1")
    if not 2 <= options.ddim_steps <= 999:
        raise UserError(f"--ddim_steps is {options.ddim_steps}, expected 2 to 999")
    for name in ("json", "markdown", "html"):
        path = getattr(options, name)
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UserError(f"--{name} {path} cannot be written: it is a folder, or its folder does not exist")


def _plan(options: argparse.Namespace) -> tuple[list, list, bool]:
    """(workloads, entries, whether the user chose the contestants)."""
    from . import contestants, sizes

    chosen = options.contestants is not None
    names, batches, texts = options.contestants, options.batches, options.sizes
    if options.quick:
        names, batches, texts = names or ["ours", "torch"], batches or [16], texts or ["dim16", "dim32"]
    what = options.what or ("train", "denoise", *(() if options.quick else ("sample",)))
    entries = contestants.find(names or contestants.DEFAULT)
    common = {"layout": options.layout, "ddim_steps": options.ddim_steps, "seed": options.seed}
    workloads = []
    if options.growth != "only":
        networks = [sizes.read_size(text) for text in texts or sizes.SIZES]
        workloads += sizes.table(networks, batches, what, **common)
    if options.growth:
        workloads += sizes.growth(what, **common)
    if not workloads:
        raise UserError("nothing is left to measure: --growth has no samples; add train or denoise to --what")
    return workloads, entries, chosen


def _settings(options: argparse.Namespace):
    from . import machine
    from .measure import Settings

    usual = {"rounds": 3, "steps": 2, "budget": 6.0} if options.quick else {"rounds": 5, "steps": 6, "budget": 30.0}
    given = {name: getattr(options, name) for name in usual if getattr(options, name) is not None}
    threads = machine.cores() if options.threads is None else options.threads
    if threads > machine.cores():
        raise UserError(f"--threads is {threads}, but this process may use {machine.cores()} cores")
    return Settings(threads=threads, patience=options.patience, **usual | given)


def _show(found: dict, options: argparse.Namespace) -> None:
    """Prints the tables and writes what was asked for."""
    from ms_ddpm.storage.files import write_atomically

    from . import page, results, tables

    if options.json and not options.source:
        results.save(options.json, found)
    for path, render in ((options.markdown, tables.markdown), (options.html, page.page)):
        if path:
            write_atomically(path, render(found).encode())
    print(tables.terminal(found))


def _measure(found: dict, options: argparse.Namespace, plan: tuple, settings) -> list[str]:
    """Fills ``found``; what went wrong, one line each."""
    from tqdm import tqdm

    from . import machine, results
    from .measure import Session, entered, units

    workloads, entries, chosen = plan
    bar = tqdm(
        total=units(workloads, entries, chosen), file=sys.stderr, disable=options.quiet, unit="part", leave=False
    )

    def tick(label: str) -> None:
        bar.set_description(label)
        bar.update()

    others = machine.Others()
    try:
        with Session(settings, lambda line: tqdm.write(line, file=sys.stderr), tick) as session, bar:
            found["rows"] = session.rows
            for workload in workloads:
                session.run(workload, entered(workload, entries, chosen))
                if options.json:
                    results.save(options.json, found)
            found["complete"] = True
            return session.problems
    finally:
        found["others"] = others.share()


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, or shows an earlier measurement."""
    options = build_parser().parse_args(argv)
    _check(options)
    from . import machine, results

    if options.source:
        try:
            _show(results.load(options.source), options)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
            if isinstance(error, UserError):
                raise
            reason = f"{type(error).__name__}: {reason_of(error)}"
            raise UserError(f"{options.source} is not what bench.py wrote ({reason}); measure again") from error
        return 0
    import dataclasses
    import datetime
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    plan, settings = _plan(options), _settings(options)
    arguments = sys.argv[1:] if argv is None else argv
    found = results.empty(
        command_line("bench", arguments),
        datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        machine.describe(),
        dataclasses.asdict(settings)
        | {"layout": options.layout, "seed": options.seed, "ddim_steps": options.ddim_steps},
    )
    before = signal.signal(signal.SIGTERM, interrupt)  # a scheduler's end of time is an interruption like Ctrl-C
    try:
        problems = _measure(found, options, plan, settings)
    except KeyboardInterrupt:
        print("interrupted: this is what was measured so far", file=sys.stderr)
        _show(found, options)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    _show(found, options)
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    return 1 if problems else 0
