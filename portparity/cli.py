"""The command `portparity`: one's own port judged from a terminal."""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import AGREE, BROKEN, DIFFER, HarnessError, reason_of

DESCRIPTION = """Does a port compute what its original computes, and if not, where does it stop?

  portparity check original.py:make port.py:make            everything: forward, gradients, layers, training
  portparity check original.py:Net port.py:Net --inputs batch.npz
  portparity bisect original.py:make port.py:make           the layers alone: the first that is wrong, and the joints
  portparity record original.py:make --output_dir recorded  what the original answers, for a machine without PyTorch
  portparity check recorded port.py:make                    there: no PyTorch, no original, no inputs
  portparity compare cpu ascend                             what two devices found, each by check --output_dir
  portparity operators --output_dir atlas                   whose float32 is right, operator by operator, in ulps
  portparity report runs/parity/results.json                render the pages again

A model is named by its place, FILE.py:NAME or package.module:NAME: a class or a function without arguments that makes
it. Its arguments come from a function called "inputs" beside the original, which gives numpy arrays by name or in
order, or from an .npz file. Every side runs in a process of its own.

Exit codes: 0 it agrees, 1 it differs, 2 something could not be judged, 3 nothing ran.
"""

PRECISIONS = ("float32", "float16", "bfloat16")


def build_parser() -> argparse.ArgumentParser:
    """The parser of `portparity`."""
    parser = argparse.ArgumentParser(
        prog="portparity", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, does in (("check", "judge a port"), ("bisect", "find the first layer that is wrong")):
        command = commands.add_parser(name, help=does, description=does)
        _models(command)
        if name == "check":
            _what(command)
        command.set_defaults(run=_check if name == "check" else _bisect)
    does = "write down what the original answers"
    record = commands.add_parser("record", help=does, description=does)
    record.add_argument("original", help="FILE.py:NAME or package.module:NAME of a PyTorch module")
    record.add_argument("--inputs", help='as for check (default: "inputs" there)')
    record.add_argument("--precision", choices=PRECISIONS, default="float32", help="the port's (default: float32)")
    record.add_argument("--output_dir", type=Path, required=True, help="where to")
    record.set_defaults(run=_record)
    does = "what two judgements of a port have in common, from two devices say"
    compare = commands.add_parser("compare", help=does, description=does)
    compare.add_argument("a", type=Path, help="a folder that check --output_dir wrote")
    compare.add_argument("b", type=Path, help="the same, elsewhere")
    compare.set_defaults(run=_compare)
    does = "the atlas of MindSpore's operators beside PyTorch's: whose float32 is right"
    commands.add_parser("operators", help=does, description=does, add_help=False)
    report = commands.add_parser("report", help="render the pages again", description="render the pages again")
    report.add_argument("results", type=Path, help="results.json")
    report.add_argument("--output_dir", type=Path, help="default: where results.json lies")
    report.set_defaults(run=_report)
    return parser


def _models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("original", help="FILE.py:NAME or package.module:NAME of a PyTorch module, or a recording")
    parser.add_argument("port", help="the same of its port")
    parser.add_argument(
        "--inputs", help='FILE.py:NAME of a function that gives arguments, or an .npz file (default: "inputs" there)'
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="OURS=THEIRS",
        help="a parameter of the port and the original's; THEIRS.T: kept the other way round; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--layer", action="append", default=[], metavar="OURS=THEIRS",
        help="a layer of the port and the original's; may be repeated",
    )  # fmt: skip
    parser.add_argument("--given_weights", action="store_true", help="exactly the original's weights, constants too")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default: %(default)s)")
    parser.add_argument("--output_dir", type=Path, help="where the report goes (default: it is only printed)")


def _what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=("pynative", "graph"), help="only this one (default: both)")
    parser.add_argument("--half", choices=PRECISIONS[1:], help="cast both to it (default: the port's own precision)")
    parser.add_argument("--no_training", action="store_true", help="no dropout, running statistics, optimizer steps")
    parser.add_argument("--steps", type=int, default=1, help="optimizer steps (default: %(default)s)")


def inputs_of(original: str, named: str | None) -> Any:
    """The arguments: of an .npz file, of a function, or of "inputs" beside the original."""
    from .sides.places import loaded

    if named and named.endswith(".npz"):
        import numpy as np

        try:
            with np.load(named, allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError) as error:
            raise HarnessError(f"{named} cannot be read: {reason_of(error)}") from error
    if not named and ":" not in original:
        raise HarnessError(f"{original!r} is no place: expected FILE.py:NAME or package.module:NAME")
    found = loaded(named or f"{original.rpartition(':')[0]}:inputs")
    return found() if callable(found) else found


def _pairs(given: Sequence[str], option: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in given:
        ours, equals, theirs = text.partition("=")
        if not equals or not ours:
            raise HarnessError(f"{option} {text}: expected OURS=THEIRS")
        found[ours] = theirs or None
    return found


def _judged(arguments: argparse.Namespace, **options: Any) -> int:
    from .checking import check

    is_recorded = (Path(arguments.original) / "manifest.json").is_file() and not arguments.inputs
    given = None if is_recorded else inputs_of(arguments.original, arguments.inputs)
    report = check(
        arguments.original, arguments.port, given,
        names=_pairs(arguments.name, "--name"), layers=_pairs(arguments.layer, "--layer"),
        weights="given" if arguments.given_weights else "moved", seed=arguments.seed, **options,
    )  # fmt: skip
    report.command = arguments.line
    print(report)
    if arguments.output_dir:
        print(f"the page: {report.write(arguments.output_dir) / 'report.html'}")
    return {"agree": AGREE, "differ": DIFFER}.get(report.verdict, BROKEN)


def _check(arguments: argparse.Namespace) -> int:
    modes = (arguments.mode,) if arguments.mode else ("pynative", "graph")
    training = not arguments.no_training
    return _judged(arguments, modes=modes, half=arguments.half or "", training=training, steps=arguments.steps)


def _bisect(arguments: argparse.Namespace) -> int:
    return _judged(arguments, modes=(), training=False)


def _record(arguments: argparse.Namespace) -> int:
    from .checking import record

    given = inputs_of(arguments.original, arguments.inputs)
    print(record(arguments.original, given, arguments.output_dir, precision=arguments.precision))
    return AGREE


def _compare(arguments: argparse.Namespace) -> int:
    from .checking import compare

    found = compare(arguments.a, arguments.b)
    print(found)
    return AGREE if found.is_one else DIFFER


def _report(arguments: argparse.Namespace) -> int:
    from . import report

    found = report.load(arguments.results)
    written = report.write(found, arguments.output_dir or arguments.results.parent)
    print("\n".join(map(str, written)))
    return found["summary"]["exit_code"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `portparity`; returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["operators"]:  # it has options of its own
        from .atlas.__main__ import main as of_the_atlas

        return of_the_atlas(argv[1:])
    arguments = build_parser().parse_args(argv, argparse.Namespace(line=shlex.join(["portparity", *argv])))
    try:
        return arguments.run(arguments)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception:  # Python's own exit code for it is 1, which here says that a port differs
        traceback.print_exc()
        return BROKEN


if __name__ == "__main__":
    sys.exit(main())
