"""Verifies every checkpoint of a run: each file against its checksum, each directory against its state.json.

  python -m ms_ddpm.verify runs/digits

One line for each, with the checksum of state.json, which covers those of all its files. Exit code 0: all are whole;
1: one is not; 2: there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .cli import Parser, run
from .errors import UserError
from .storage import checkpoint


def checkpoints_in(path: Path) -> list[Path]:
    """``path`` itself where it is a checkpoint, or those of an output directory, oldest first. UserError for none."""
    if (path / "state.json").is_file():
        return [path]
    return checkpoint.all_in(path)


def verify(path: Path) -> Iterator[tuple[Path, bool, str]]:
    """(directory, whether it is whole, what there is to say) of every checkpoint in ``path``."""
    for folder in checkpoints_in(path):
        names = [name for name in ("last", "best") if checkpoint.named(folder.parent, name) == folder.name]
        try:
            state = checkpoint.check(folder)
        except UserError as error:
            yield folder, False, str(error)
            continue
        size = sum(entry["bytes"] for entry in state["files"].values()) / 2**20
        note = f"whole, {len(state['files'])} files, {size:.1f} MiB, sha256 {state['sha256'][:16]}"
        others = checkpoint.strangers(folder, state)
        if others:
            note += f"; not part of it: {', '.join(others)}"
        yield folder, not others, note + (f" ({', '.join(names)})" if names else "")
    directory = checkpoints_in(path)[0].parent
    for name in ("last", "best"):
        named = checkpoint.named(directory, name)
        if named is not None and not (directory / named).is_dir():
            yield directory / name, False, f"it names {named}, which is not there"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each checkpoint; exit code 1 where one is damaged."""
    parser = Parser(prog="python -m ms_ddpm.verify", description=__doc__)
    parser.add_argument("path", help="output directory of train.py, or a step-... in it")
    damaged = 0
    for path, whole, note in verify(Path(parser.parse_args(argv).path)):
        damaged += not whole
        print(f"{path.name}  {note}")
    return 1 if damaged else 0


if __name__ == "__main__":
    run(main)
