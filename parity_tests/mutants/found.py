"""Which mutants were found at their place, and by which code: until it changes they need not run again.

    python -m parity_tests.mutants.found    runs them all and keeps the record, found.json: six minutes

The record has a part for each framework that mutants are of. Nothing of MindSpore has a say in those of torch_ref, nor
in whether PyTorch in double is the oracle, which is kept with them; all of torch_ref's has a say in those of ms_ddpm,
with which the bugs of `parity_tests.orchestration` and the silence of clean variants are kept.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tqdm.auto import tqdm

from portparity.files import write_atomically
from portparity.rivals import OURS
from portparity.sources import hash_of
from portparity.tolerances import read as read_tolerances

from .. import trusted
from ..trusted import TRUSTED, of_systems

FILE = Path(__file__).with_name("found.json")
TRUTHS, VARIANTS, FEW = "PyTorch in double is the oracle", "clean variants raise no alarm", 20
CODE = (
    *TRUSTED, *of_systems(lambda part: part in ("cases", "peers")), "parity_tests/cases.py", "parity_tests/make.py",
    "parity_tests/products.py", "parity_tests/truths.py", "portparity/arrays.py", "portparity/backends.py",
    "portparity/case.py", "portparity/classes.py", "portparity/errors.py", "portparity/memo.py", "portparity/mutants",
    "portparity/rivals.py", "portparity/runner.py", "portparity/selection.py", "portparity/tolerances.py",
    "portparity/verdict.py",
)  # fmt: skip
CODE_OF_MINDSPORE = (
    "ms_ddpm", "setup.py", "portparity/on_mindspore.py", "parity_tests/backends/on_mindspore.py",
    "parity_tests/backends/shared_mindspore.py", "parity_tests/orchestration",
    *of_systems(lambda part: part == "on_mindspore"),
)  # fmt: skip
OF_MINDSPORE = ("on_mindspore.py", "kernels.py", "orchestration.py")  # mutants: they have no say in PyTorch's


def _version(package: str) -> str:
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return "not installed"


@functools.cache
def code(framework: str) -> dict[str, str]:
    """By what the record knows the code: torch_ref, checks, mutants and who computes; ms_ddpm too for its own."""
    home = trusted.ROOT / "parity_tests"
    files = [*home.glob("mutants/*.py"), *home.glob("systems/*/mutants/*.py"), *home.glob("systems/*/mutants.py")]
    mutants = sorted(file for file in files if (file.name in OF_MINDSPORE) == (framework == "mindspore"))
    if framework == "mindspore":
        places = [*(trusted.ROOT / place for place in CODE_OF_MINDSPORE), *mutants]
        kernels = hashlib.sha256()
        for file in sorted((trusted.ROOT / "ms_ddpm/ops/csrc").iterdir()):
            kernels.update(file.read_bytes())
        own = {"ms_ddpm": hash_of(places), "kernels": kernels.hexdigest(), "mindspore": _version("mindspore")}
        return {**code("torch"), **own}
    tolerances = json.dumps(read_tolerances(), sort_keys=True).encode()
    return {
        "code": hash_of([*(trusted.ROOT / place for place in CODE), *mutants]),
        "tolerances": hashlib.sha256(tolerances).hexdigest(),
        **{package: _version(package) for package in ("numpy", "torch")},
    }


@functools.cache
def already(framework: str) -> frozenset[str]:
    """Names of what was found, or agreed, of ``framework`` by the code as it is; none where it changed since."""
    record = json.loads(FILE.read_text(encoding="utf-8")).get(framework, {"by": {}, "found": ()})
    return frozenset(record["found"] if record["by"] == code(framework) else ())


def keep(found: Mapping[str, Iterable[str]]) -> None:
    """Writes the record: names by framework."""
    record = {framework: {"by": code(framework), "found": sorted(names)} for framework, names in found.items()}
    write_atomically(FILE, f"{json.dumps(record, indent=1, ensure_ascii=False)}\n".encode())


def _found(framework: str) -> Iterator[str]:
    """Runs the mutants of ``framework`` that this machine can run; says which were not found, and names the others."""
    from . import MUTANTS, Bench, examine, why_not

    bench = Bench(framework)
    chosen = [mutant for mutant in MUTANTS if mutant.framework == framework and not why_not(mutant)]
    for mutant in tqdm(chosen, desc=f"mutants of {framework}", unit="mutant"):
        finding = examine(mutant, bench, first_tier_only=True)
        if finding.killed and finding.at_place:
            yield mutant.name
        else:
            print(finding)


def _found_around() -> Iterator[str]:
    """The same of those of `parity_tests.orchestration`."""
    from ms_ddpm import runtime

    from ..orchestration import CHECKS, prepare
    from .orchestration import ORCHESTRATION

    prepare()
    for mutant in tqdm(ORCHESTRATION, desc="orchestration", unit="mutant"):
        with tempfile.TemporaryDirectory() as folder, runtime.execution_mode(1), mutant.apply():
            try:
                CHECKS[mutant.check](Path(folder))
            except AssertionError:
                yield mutant.name
            else:
                print(f"{mutant.name}: not found by {mutant.check}")


def main() -> None:
    """Runs all that is kept, and keeps what was found or agrees."""
    from ..truths import compare, computations
    from . import clean_variants, count_alarms

    torch, mindspore = [*_found("torch")], [*_found("mindspore"), *_found_around()]
    for made in tqdm(computations().values(), desc="truths", unit="computation"):
        compare(made)
    if count_alarms(clean_variants(FEW))[0][OURS] == 0:
        mindspore.append(VARIANTS)
    keep({"torch": [*torch, TRUTHS], "mindspore": mindspore})
    print(f"{len(torch)} of torch_ref and {len(mindspore)} of ms_ddpm kept: {FILE}")


if __name__ == "__main__":
    main()
