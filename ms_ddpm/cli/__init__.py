"""What every command does alike: parse, log to the terminal, and turn bad input into one line and exit code 2.

A command is the ``main`` of a module beside this file. ``ms-ddpm NAME`` calls it (`__main__`) and, in a clone,
scripts/NAME.py. What it says of itself names the script, and `as_called` makes the command's name of it.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..errors import UserError, one_line, reason_of
from ..storage.files import output_directory  # noqa: F401  of every command
from ..training.graph_errors import GraphError, graph_errors

BAD_INPUT = 2
FAILED = 1
MACHINE_OPTIONS = ("device_target", "device_id", "mode", "threads", "matmul_precision")


_SCRIPT = r"(?:scripts/)?(train|sample|evaluate|explain|convert|parity|bench|compare)\.py\b"
_SPOKEN = (  # what a text calls the commands in a clone -> what they are where the library is installed
    (rf"(msrun\b[^\n]*?) {_SCRIPT}", r"\1 python -m ms_ddpm.cli \2"),
    (rf"(?:python\s+)?(?<![\w/]){_SCRIPT}", r"ms-ddpm \1"),
    (r"python -m ms_ddpm\.(doctor|verify)\b", r"ms-ddpm \1"),
    (r"(ms-ddpm|ms_ddpm\.cli) ([^\n]*)--config configs/(\w+)\.yaml\b", r"\1 \2--config \3"),
)
_installed = False


@contextmanager
def by_command() -> Iterator[None]:
    """For as long as a command runs that was called as ``ms-ddpm NAME``: it, and its `UserError`, name commands so."""
    global _installed
    _installed, before = True, _installed
    try:
        yield
    except UserError as error:
        raise UserError(as_called(str(error))) from error
    finally:
        _installed = before


def as_called(text: str) -> str:
    """``text`` with the commands it names as this process was called: scripts, or ``ms-ddpm NAME``."""
    if _installed:
        for script, command in _SPOKEN:
            text = re.sub(script, command, text)
    return text


def command_line(name: str, argv: Sequence[str]) -> str:
    """The line that calls the command ``name`` again with the arguments ``argv``."""
    return shlex.join([*as_called(f"python scripts/{name}.py").split(), *argv])


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def __init__(self, **kwargs):
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            epilog=kwargs.pop("epilog", None),
            **kwargs,
        )

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """As argparse does. No operating system lets a null byte into an argument or a path, but a caller may."""
        args = sys.argv[1:] if args is None else list(args)
        for arg in args:
            if "\0" in arg:
                self.error(f"argument {arg!r} holds a null byte")
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """As argparse makes it, of the command as it was called."""
        return as_called(super().format_help())

    def error(self, message: str):
        wrong = re.match(r"unrecognized arguments: (--\w+)", message)
        near = difflib.get_close_matches(wrong[1], self._option_string_actions, 1) if wrong else []
        message += f"; did you mean {near[0]}?" if near else ""
        self.exit(BAD_INPUT, f"error: {one_line(message)}; see {as_called(self.prog)} --help\n")


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> None:
    """Runs a command's ``main`` and exits: 0 or what it returns, 2 with one line for bad input, 1 with one line where
    MindSpore cannot compile a graph, 130 on Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("ms_ddpm").setLevel(logging.INFO)
    # Images that cannot be read are skipped by name; what Pillow remarks on the others names none.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        with graph_errors():
            code = main(argv) or 0
    except GraphError as error:
        print(f"error: {error}", file=sys.stderr)
        code = FAILED
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = BAD_INPUT
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 141
    except OSError as error:  # a path that is too long, a disk that is full
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {one_line(where)}{reason_of(error)}", file=sys.stderr)
        code = BAD_INPUT
    sys.stderr.flush()
    sys.exit(code)


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """--device_target, --device_id, --mode, ..., for commands whose configuration comes from a checkpoint."""
    from ..config import add_options

    add_options(parser.add_argument_group("machine"), MACHINE_OPTIONS)


def start_machine(flags: dict) -> None:
    """Starts MindSpore as the machine options say."""
    from ..config import read_value
    from ..devices import runtime

    options = {name: read_value(name, flags[name]) for name in MACHINE_OPTIONS if name in flags}
    runtime.setup(**options)
