"""Which mutants of torch_ref were found at their place, and by which code: until it changes they need not run again.

    python -m parity_tests.mutants.found    runs them all and keeps the record, found.json: two minutes

Nothing of MindSpore has a say in them, so most changes of this project leave the record as it is.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from tqdm.auto import tqdm

from portparity.files import write_atomically
from portparity.mutants import Mutant
from portparity.sources import hash_of
from portparity.tolerances import read as read_tolerances

from .. import trusted
from ..trusted import TRUSTED, of_systems

FILE = Path(__file__).with_name("found.json")
CODE = (
    *TRUSTED, *of_systems(lambda part: part in ("cases", "peers")), "parity_tests/cases.py", "parity_tests/make.py",
    "parity_tests/products.py", "portparity/arrays.py", "portparity/backends.py",
    "portparity/case.py", "portparity/classes.py", "portparity/errors.py", "portparity/memo.py", "portparity/mutants",
    "portparity/rivals.py", "portparity/runner.py", "portparity/selection.py", "portparity/tolerances.py",
    "portparity/verdict.py",
)  # fmt: skip
OF_MINDSPORE = ("on_mindspore.py", "kernels.py", "orchestration.py")  # they have no say


@functools.cache
def code() -> dict[str, str]:
    """By what the record knows the code: torch_ref, the checks, these mutants, and who computes."""
    home = trusted.ROOT / "parity_tests"
    files = [*home.glob("mutants/*.py"), *home.glob("systems/*/mutants/*.py"), *home.glob("systems/*/mutants.py")]
    mutants = sorted(file for file in files if file.name not in OF_MINDSPORE)
    tolerances = json.dumps(read_tolerances(), sort_keys=True).encode()
    versions = {package: version(package).split("+")[0] for package in ("numpy", "torch")}
    return {
        "code": hash_of([*(trusted.ROOT / place for place in CODE), *mutants]),
        "tolerances": hashlib.sha256(tolerances).hexdigest(),
        **versions,
    }


@functools.cache
def already_found() -> frozenset[str]:
    """Names of the mutants that the code as it is has found; none where it changed since."""
    record = json.loads(FILE.read_text(encoding="utf-8"))
    return frozenset(record["found"] if record["by"] == code() else ())


def keep(found: Iterable[str]) -> None:
    """Writes the record."""
    text = json.dumps({"by": code(), "found": sorted(found)}, indent=1, ensure_ascii=False)
    write_atomically(FILE, f"{text}\n".encode())


def main() -> None:
    """Runs the mutants of torch_ref and keeps which were found at their place."""
    from . import MUTANTS, Bench, examine

    bench, found = Bench("torch"), []
    chosen: list[Mutant] = [mutant for mutant in MUTANTS if mutant.framework == "torch"]
    for mutant in tqdm(chosen, desc="mutants", unit="mutant"):
        finding = examine(mutant, bench, first_tier_only=True)
        if finding.killed and finding.at_place:
            found.append(mutant.name)
        else:
            print(finding)
    keep(found)
    print(f"{len(found)} of {len(chosen)} found at their place: {FILE}")


if __name__ == "__main__":
    main()
