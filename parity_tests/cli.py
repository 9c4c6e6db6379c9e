"""The command line of the harness: scripts/parity.py."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ms_ddpm.cli import Parser, command_line
from ms_ddpm.errors import UserError, reason_of
from portparity import classes
from portparity.errors import AGREE, DIFFER, HarnessError, NothingRan
from portparity.files import write_atomically

DESCRIPTION = """Does MindSpore compute what PyTorch computes, and if not, where does it stop?

  python scripts/parity.py list                          every check, one a line
  python scripts/parity.py check                         run them: MindSpore against PyTorch, judged by float64
  python scripts/parity.py check --tier 0 --tier 1       the mathematics alone, in half a minute
  python scripts/parity.py check --case 'layers/attention*' --mode graph
  python scripts/parity.py check --case '*-kernels-*'    what the C++ kernels compute
  python scripts/parity.py check --bundle parity_tests/bundles      without PyTorch, against what it recorded
  python scripts/parity.py check --device_target GPU                           float32 with TF32 off, and then
  python scripts/parity.py check --device_target GPU --matmul_precision high   with TF32 on, judged as TF32
  python scripts/parity.py bisect network/unet_2022-vjp_weights-graph     the path to the first wrong layer
  python scripts/parity.py record --output_dir DIR       take PyTorch's results to another machine
  python scripts/parity.py compare A B                   two recordings, of any two machines or frameworks
  python scripts/parity.py mutants                       the harness tested: seeded bugs and rival rules
  python scripts/parity.py calibrate                     the evidence for tolerances.toml, measured anew
  python scripts/parity.py report RESULTS.json           render the pages again

Exit codes: 0 all agree, 1 something differs, 2 the harness or a bundle is broken, 3 nothing ran.
"""


def _selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to run")
    group.add_argument("--tier", action="append", default=[], metavar="N", help="0 to 7 or peers; may be repeated")
    group.add_argument(
        "--case", action="append", default=[], metavar="ID", help="a check's id or a pattern (* and ?); may be repeated"
    )
    group.add_argument("--mode", choices=("graph", "pynative"), help="only how MindSpore runs it so (default: both)")
    group.add_argument("--dtype", choices=classes.ALL, help="only this precision class (default: all)")
    group.add_argument("--seed", type=int, default=0, help="other inputs for every case (default: 0)")


def _machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--device_target", choices=("CPU", "GPU", "Ascend"), default="CPU", help="where MindSpore runs (default: CPU)"
    )
    group.add_argument(
        "--matmul_precision", choices=("highest", "high"), default="highest",
        help="how exactly the device multiplies float32: highest: true float32; high: TF32 on GPU, HF32 on Ascend, and "
        "float32 checks with matrix products are then judged in class tf32 or hf32 (default: highest)",
    )  # fmt: skip
    group.add_argument(
        "--candidate", choices=("mindspore", "torch"), default="mindspore",
        help="who is judged; torch judges the reference itself, which tests the harness (default: mindspore)",
    )  # fmt: skip


def _output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--output_dir", type=Path, default=Path(default), help="where the reports go (default: %(default)s)"
    )


def build_parser() -> argparse.ArgumentParser:
    """The parser of scripts/parity.py."""
    parser = Parser(prog="parity.py", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, does: str, run: Callable, *, selects: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=does, description=does)
        made.set_defaults(run=run)
        if selects:
            _selection(made)
        return made

    command("list", "print every check, one a line, its id first", run_list)
    check = command("check", "run checks and write the reports", run_check)
    _machine(check)
    check.add_argument("--bundle", type=Path, help="judge against this recording instead of running PyTorch")
    _output(check, "runs/parity")
    check.add_argument("--mutants", action="store_true", help="test the harness too: the kill matrix into the report")
    check.add_argument("--quiet", action="store_true", help="print the summary only")
    rec = command("record", "record what a framework computes as bundles", run_record)
    rec.add_argument("--framework", choices=("torch", "mindspore"), default="torch", help="whose (default: torch)")
    rec.add_argument("--device_target", choices=("CPU", "GPU", "Ascend"), default="CPU", help="where MindSpore runs")
    rec.add_argument(
        "--matmul_precision", choices=("highest", "high"), default="highest",
        help="how exactly the device multiplies float32, as for check (default: highest)",
    )  # fmt: skip
    rec.add_argument("--bundle", type=Path, help="take the inputs from this recording, so that PyTorch is not needed")
    rec.add_argument("--output_dir", type=Path, help="default: the small set in parity_tests/bundles, recorded anew")
    rec.add_argument("--long", action="store_true", help="parity_tests/bundles_long anew, so that tests need not wait")
    both = command("compare", "judge recording A against recording B", run_compare)
    both.add_argument("a", type=Path, metavar="A", help="the candidate's bundles")
    both.add_argument("b", type=Path, metavar="B", help="the reference's bundles")
    _output(both, "runs/compare")
    both.add_argument("--quiet", action="store_true", help="print the summary only")
    bisect = command("bisect", "print the path to the first layer that is wrong", run_bisect, selects=False)
    bisect.add_argument("case", metavar="CASE", help="a check's id")
    bisect.add_argument("--seed", type=int, default=0, help="other inputs (default: 0)")
    _machine(bisect)
    mutants = command("mutants", "test the harness with seeded bugs", run_mutants, selects=False)
    _output(mutants, "runs/mutants")
    mutants.add_argument("--variants", type=int, default=100, help="clean variants (default: 100)")
    calibrate = command("calibrate", "measure the evidence for tolerances.toml", run_calibrate)
    calibrate.add_argument("--seeds", type=int, default=5, help="how many other inputs (default: 5)")
    calibrate.add_argument("--write", action="store_true", help="write the evidence into tolerances.toml")
    report = command("report", "render the pages of a results.json again", run_report, selects=False)
    report.add_argument("results", type=Path, metavar="RESULTS.json")
    report.add_argument("--output_dir", type=Path, help="default: beside results.json")
    return parser


def chosen(options: argparse.Namespace) -> list:
    """The cases that the options select, each in the precision class of the device that they name."""
    from .cases import all_cases, select

    classes.choose(*machine(options))
    cases = select(all_cases(options.tier, options.seed), options.case, options.mode)
    cases = [case for case in cases if options.dtype in (None, case.computation.precision)]
    if not cases:
        raise NothingRan(f"no selected case has dtype {options.dtype}: nothing ran, so nothing agrees")
    return cases


def absent(options: argparse.Namespace) -> dict[str, list[str]]:
    """The selected checks of libraries that are not installed, by why."""
    from .cases import absent_peers, matches

    if options.tier and "peers" not in options.tier:
        return {}
    found = {}
    for reason, cases in absent_peers(options.seed).items():
        of_mode = [case for case in cases if options.mode in (None, case.mode)]
        ids = [c.id for c in of_mode if not options.case or any(matches(c, pattern) for pattern in options.case)]
        found |= {reason: ids} if ids else {}
    return found


def here(
    cases: list, candidate: str, not_installed: dict[str, list[str]] | None = None
) -> tuple[list, dict[str, list[str]]]:
    """Those of ``cases`` that can run on this machine; says how many cannot, and why."""
    from portparity.runner import possible

    found, left_out = possible(cases, candidate)
    left_out |= not_installed or {}
    for reason, ids in left_out.items():
        print(f"{len(ids)} {'check is' if len(ids) == 1 else 'checks are'} left out: {reason}")
    if not found:
        raise NothingRan("no selected check can run on this machine: nothing ran, so nothing agrees")
    return found, left_out


def machine(options: argparse.Namespace) -> tuple[str, str]:
    """Where MindSpore runs, and how exactly products are computed there."""
    return getattr(options, "device_target", "CPU"), getattr(options, "matmul_precision", "highest")


def flags(options: argparse.Namespace) -> dict:
    """What besides versions has a say in the numbers: what was asked for and what MindSpore was told."""
    from .device import facts

    device, level = machine(options)
    told = {"device_target": device, "cpu_count": os.cpu_count() or 0, "matmul_precision": level}
    return told | facts(device)


def environment(options: argparse.Namespace) -> dict:
    """What a report says of the machine."""
    from portparity.bundles import versions

    return versions() | flags(options) | kernels()


def kernels() -> dict[str, str]:
    """Which C++ kernels MindSpore's side runs by where nothing else is said, or why by none."""
    from portparity.backends import installed

    if not installed("mindspore"):
        return {}
    from ms_ddpm.ops import kernels

    reason = kernels.why_not()
    return {"kernels": f"none: {reason}" if reason else kernels.isa()}


def start(options: argparse.Namespace, *frameworks: str) -> None:
    """Starts the frameworks that a command needs. Raises NothingRan where one is not installed."""
    from portparity.backends import backend

    classes.choose(*machine(options))
    for framework in frameworks:
        backend(framework)


def _finish(
    outcomes: list, options: argparse.Namespace, began: float, sides: tuple[str, str], bundle=None, mutants=None,
    left_out=None,
) -> int:  # fmt: skip
    from portparity import report

    found = report.results(
        outcomes, candidate=sides[0], reference=sides[1], bundle=bundle, environment=environment(options),
        command=command_line("parity", options.argv), seconds=time.perf_counter() - began,
        check=command_line("parity", ["check"]), mutants=mutants, left_out=left_out,
    )  # fmt: skip
    written = report.write(found, options.output_dir)
    print(report.terminal.summary(found))
    print("\n" + "  ".join(str(path) for path in written))
    code = report.exit_code(outcomes)
    if mutants and code == AGREE:
        from .mutants import is_good

        return AGREE if is_good(mutants) else DIFFER
    return code


def _teller(options: argparse.Namespace) -> Callable:
    from portparity import report

    return (lambda outcome: None) if options.quiet else lambda outcome: print(report.terminal.line(outcome.as_json()))


def run_list(options: argparse.Namespace) -> int:
    """One check a line."""
    for case in chosen(options):
        print(f"{case.id}  tier {case.tier}  {case.mode}  {case.computation.precision}  {case.computation.rule}")
    return AGREE


def run_check(options: argparse.Namespace) -> int:
    """Runs the checks and writes the reports."""
    from portparity.bundles import Recorded
    from portparity.runner import record, run

    from .cases import all_cases

    began = time.perf_counter()
    cases, recorded = [c for c in chosen(options) if options.candidate in c.computation.candidates], record
    if not cases:
        raise NothingRan(f"no selected case can judge {options.candidate}: nothing ran, so nothing agrees")
    if options.bundle:
        recorded = Recorded(options.bundle, all_cases(seed=options.seed))
        cases = recorded.cases(cases)
        if not cases:
            raise NothingRan(f"{options.bundle} holds none of the selected cases: nothing ran, so nothing agrees")
        start(options, options.candidate)
    else:
        start(options, "torch", options.candidate)
    cases, left_out = here(cases, options.candidate, {} if options.bundle else absent(options))
    outcomes = run(cases, options.candidate, recorded=recorded, on_outcome=_teller(options))
    if not options.bundle:
        _localise(outcomes, cases, options.candidate)
    bundle = str(options.bundle) if options.bundle else None
    matrix = None
    if options.mutants:
        from .mutants import kill_matrix

        matrix = kill_matrix()
    return _finish(outcomes, options, began, (options.candidate, "torch"), bundle, matrix, left_out)


def _localise(outcomes: list, cases: list, candidate: str) -> None:
    """Gives the outcomes of networks that differ their tree of layers."""
    from .unet_layers import localise

    trees: dict = {}
    by_id = {case.id: case.computation for case in cases}
    for outcome in outcomes:
        computation = by_id[outcome.id]
        if outcome.verdict == "differ" and computation.spec.get("kind") == "network":
            if computation not in trees:
                trees[computation] = [layer.as_json() for layer in localise(computation, candidate)]
            outcome.layers = trees[computation]


def run_record(options: argparse.Namespace) -> int:
    """Writes bundles."""
    from portparity.bundles import Recorded, record_all

    from .cases import LONG, LONG_SET, SMALL, SMALL_SET, all_cases

    if not options.output_dir and (options.framework != "torch" or options.bundle):
        raise HarnessError("--output_dir is needed: parity_tests/bundles holds PyTorch's results only")
    if not options.case and not options.tier and not options.bundle:
        options.case = list(LONG_SET if options.long else SMALL_SET)
    cases, source = chosen(options), None
    if options.bundle:
        source = Recorded(options.bundle, all_cases(seed=options.seed))
        cases = source.cases(cases)
    start(options, options.framework, *(() if options.bundle else ("torch",)))
    cases, _ = here(cases, options.framework)
    home = options.output_dir or (LONG if options.long else SMALL)
    written = record_all(cases, home, options.framework, flags(options), source)
    if not written:
        raise NothingRan("nothing was recorded")
    size = sum(file.stat().st_size for folder in written for file in folder.iterdir())
    print(f"recorded {len(written)} computations, {size / 2**20:.1f} MiB, in {written[0].parent}")
    return AGREE


def run_compare(options: argparse.Namespace) -> int:
    """Judges one recording against another."""
    from portparity.bundles import compare

    began = time.perf_counter()
    outcomes = compare(options.a, options.b, chosen(options))
    for outcome in outcomes:
        _teller(options)(outcome)
    return _finish(outcomes, options, began, (str(options.a), str(options.b)))


def run_bisect(options: argparse.Namespace) -> int:
    """Prints the path to the first culprit."""
    from .cases import all_cases, select
    from .unet_layers import bisect

    classes.choose(*machine(options))
    case = select(all_cases(seed=options.seed), [options.case])[0]
    start(options, "torch", options.candidate)
    here([case], options.candidate)
    agrees, text = bisect(case, options.candidate)
    print(text)
    return AGREE if agrees else DIFFER


def run_mutants(options: argparse.Namespace) -> int:
    """Runs every mutant and the clean variants, writes the kill matrix."""
    from portparity import report

    from .mutants import is_good, kill_matrix

    began = time.perf_counter()
    start(options, "torch", "mindspore")
    matrix = kill_matrix(variants=options.variants)
    found = report.results(
        [], candidate="mutants", reference="torch", environment=environment(options), mutants=matrix,
        command=command_line("parity", ["mutants"]), seconds=time.perf_counter() - began,
    )  # fmt: skip
    page = report.markdown.kill_matrix(matrix)
    written = [*report.write(found, options.output_dir), options.output_dir / "kill_matrix.md"]
    write_atomically(written[-1], f"{page}\n".encode())
    print(page)
    print("\n" + "  ".join(str(path) for path in written))
    return AGREE if is_good(matrix) else DIFFER


def run_calibrate(options: argparse.Namespace) -> int:
    """Measures K and F over other inputs."""
    from portparity.calibrate import calibrate, write_evidence

    from .cases import all_cases, select

    def cases(seed: int) -> list:
        """Those selected, without published numbers: they stand where their tolerance ends, and are no clean pair."""
        found = select(all_cases(options.tier, seed), options.case, options.mode)
        return [case for case in found if not case.id.startswith("peers/published")]

    start(options, "torch", "mindspore")
    evidence = calibrate(cases, options.seeds, trajectories=("loss", "grad_norm", "chain"))
    if options.write:
        write_evidence(evidence)
    return AGREE


def run_report(options: argparse.Namespace) -> int:
    """Renders a results.json again."""
    from portparity import report

    try:
        found = report.load(options.results)
        summary, code = report.terminal.summary(found), int(found["summary"]["exit_code"])
        written = report.write(found, options.output_dir or options.results.parent)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise HarnessError(f"{options.results} is not what scripts/parity.py wrote ({reason})") from error
    print(summary)
    print("\n" + "  ".join(str(path) for path in written))
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; harness errors become one line and their exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    options = build_parser().parse_args(argv)
    options.argv = argv
    for name in ("seed", "seeds", "variants"):
        if not 0 <= getattr(options, name, 0) < 2**63:
            raise UserError(f"--{name} is {getattr(options, name)}, expected 0 or more, below 2^63")
    try:
        return options.run(options)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
