"""Bundles: what one machine computed, taken to another; the same check without PyTorch, or between two devices.

``DIR/<computation>/manifest.json`` says what it is and whether it is whole, ``data.safetensors`` holds the arrays:
``input/NAME``, ``truth/NAME`` (float64), ``output/0/NAME`` (what the recording framework computed; further outputs are
of inputs moved by one ulp, see `arrays.perturbed`) and ``scale/NAME``. Both ways need safetensors, and reading no
framework.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from .case import Arrays, Case, Computation
from .errors import BundleError, NothingRan, UnknownCase, quoted, reason_of
from .files import read_bytes, read_text, write_atomically
from .runner import Outcome, Record, outcome_of, record
from .sources import hash_of

FORMAT = 1
DATA = "data.safetensors"


@functools.cache
def source_hash(sources: tuple[Path, ...]) -> str:
    """sha256 of the code whose results bundles hold, whatever its comments and layout."""
    return hash_of(sources)


def fingerprint(computation: Computation) -> str:
    """sha256 of what a computation is and of the code that computes the trusted side."""
    spec = json.dumps(computation.spec, sort_keys=True)
    code = source_hash(tuple(computation.sources))
    return hashlib.sha256(f"{FORMAT} {computation.key} {spec} {code}".encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of everything that has a say in the numbers."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("numpy", "torch", "mindspore"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def folder_of(key: str, directory: Path) -> Path:
    """Where the bundle of a computation stands."""
    return directory / key.replace("/", "__")


def _pack(known: Record) -> dict[str, np.ndarray]:
    packed = {f"input/{name}": value for name, value in known.inputs.items()}
    packed |= {f"truth/{name}": value for name, value in known.truth.items()}
    packed |= {f"scale/{name}": value for name, value in (known.scales or {}).items()}
    for i, outputs in enumerate(known.references):
        packed |= {f"output/{i}/{name}": value for name, value in outputs.items()}
    return {name: np.array(value, order="C") for name, value in packed.items()}


def write(computation: Computation, known: Record, directory: Path, framework: str, flags: Mapping) -> Path:
    """Writes one bundle, whole or not at all; returns its folder."""
    from safetensors.numpy import save

    folder = folder_of(computation.key, directory)
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / DATA
    write_atomically(data, save(_pack(known)))
    manifest = {
        "format": FORMAT,
        "computation": computation.key,
        "spec": computation.spec,
        "framework": framework,
        "fingerprint": fingerprint(computation),
        "inputs": _hash_of(known.inputs),
        "flags": dict(flags),
        "versions": versions(),
        "own_error": _own_error(known),
        "sha256": {data.name: _sha256(data)},
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    write_atomically(folder / "manifest.json", text.encode())
    return folder


def _hash_of(inputs: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(inputs):
        digest.update(f"{name} {inputs[name].dtype} {inputs[name].shape}".encode())
        digest.update(np.ascontiguousarray(inputs[name]).tobytes())
    return digest.hexdigest()


def _own_error(known: Record) -> dict[str, float]:
    """The recording framework's rms error against float64, by output."""
    return {
        name: float(np.sqrt(np.mean((np.asarray(value, np.float64) - known.truth[name]) ** 2)))
        for name, value in known.references[0].items()
        if name in known.truth and value.dtype.kind == "f" and value.size
    }


def parsed(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name. Raises ValueError where it is none, or of types that numpy lacks."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except KeyError as error:
        raise ValueError(f"it holds numbers of type {error}, which numpy does not have") from None
    except (SafetensorError, ValueError, TypeError, OverflowError, MemoryError, AttributeError) as error:
        raise ValueError(f"it is no safetensors file: {reason_of(error)}") from None


def _manifest(folder: Path) -> dict:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(read_text(path))
    except FileNotFoundError:
        raise BundleError(f"{folder} is no bundle: it has no manifest.json; record it anew") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is cut short or damaged ({reason_of(error)}); record it anew") from None
    fields = set(manifest) if isinstance(manifest, dict) else set()
    missing = {"format", "computation", "fingerprint", "inputs", "framework", "sha256"} - fields
    if missing:
        raise BundleError(f"{path} lacks {', '.join(sorted(missing))}; record it anew")
    if manifest["format"] != FORMAT:
        raise BundleError(
            f"{path} has format {quoted(manifest['format'])}, this harness reads {FORMAT}; record it anew"
        )
    sums = manifest["sha256"]
    if not (isinstance(manifest["computation"], str) and isinstance(sums, dict) and DATA in sums):
        raise BundleError(f"{path} does not name its computation, or holds no checksum of {DATA}; record it anew")
    return manifest


def read(folder: Path) -> tuple[dict, Record]:
    """A bundle's manifest and arrays. Raises BundleError for one that is not whole."""
    manifest, data = _manifest(folder), {}
    for name, expected in manifest["sha256"].items():
        path = folder / Path(name).name
        try:
            data[path.name] = read_bytes(path)
        except OSError as error:
            raise BundleError(
                f"{path} is missing or cannot be read ({reason_of(error)}); copy the whole folder, or record it anew"
            ) from None
        if hashlib.sha256(data[path.name]).hexdigest() != expected:
            raise BundleError(
                f"{path} is not what was recorded (sha256): cut short on the way, or changed; copy or record it anew"
            )
    try:
        arrays = parsed(data[DATA])
    except ValueError as error:
        raise BundleError(f"{folder / DATA} cannot be read ({reason_of(error)}); record it anew") from None

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}

    numbers = {name.split("/")[1] for name in arrays if name.startswith("output/")}
    count = len(numbers)
    if numbers != set(map(str, range(count))):
        raise BundleError(f"{folder / DATA} has outputs {quoted(sorted(numbers))}, expected 0 to N; record it anew")
    known = Record(part("input/"), part("truth/"), [part(f"output/{i}/") for i in range(count)], part("scale/") or None)
    if not known.references:
        raise BundleError(f"{folder} holds no outputs; record it anew")
    return manifest, known


def folders(directory: Path) -> list[Path]:
    """The bundles in ``directory``, or itself where it is one. Raises NothingRan where there is none."""
    directory = Path(directory)
    if not directory.is_dir():
        raise BundleError(f"bundle directory {directory} does not exist")
    if (directory / "manifest.json").exists():
        return [directory]
    found = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise NothingRan(f"{directory} holds no bundle: nothing ran; record some first")
    return found


class Recorded:
    """Bundles as the source of a run's trusted side: ``run(cases, recorded=Recorded(directory, all_cases))``."""

    def __init__(self, directory: Path, cases: Sequence[Case]):
        self.by_key = {case.computation.key: case.computation for case in cases}
        self.folders = {self._key(folder): folder for folder in folders(directory)}

    def _key(self, folder: Path) -> str:
        key = _manifest(folder)["computation"]
        if key not in self.by_key:
            raise BundleError(f"{folder} is of {key!r}, which this harness does not have: stale; record it anew")
        return key

    def cases(self, cases: Sequence[Case]) -> list[Case]:
        """Those of ``cases`` whose computation has a bundle."""
        return [case for case in cases if case.computation.key in self.folders]

    def __call__(self, computation: Computation) -> Record:
        manifest, known = read(self.folders[computation.key])
        if manifest["fingerprint"] != fingerprint(computation):
            raise BundleError(
                f"{self.folders[computation.key]} is stale: the case or its reference changed since it was recorded; "
                "record it anew where the reference is installed"
            )
        if not (computation.spec or self._same_inputs(computation, manifest)):
            raise BundleError(
                f"{self.folders[computation.key]} was recorded from other inputs than the case has now; record it anew"
            )
        return known

    @staticmethod
    def _same_inputs(computation: Computation, manifest: Mapping) -> bool:
        """Whether the inputs are those of the bundle. A spec says what they are; without one they must be compared.

        Where they cannot be made, as the reference is not installed, the bundle's are all there is.
        """
        try:
            return _hash_of(computation.inputs()) == manifest["inputs"]
        except ImportError:
            return True


def known_or_run(computation: Computation, directory: Path) -> Record:
    """The trusted side of ``computation``: of its bundle in ``directory``, or run, where no bundle is of it as it is.

    As it is: of this code and these versions of PyTorch and numpy. A bundle of other ones is left where it is.
    """
    folder = folder_of(computation.key, directory)
    if (folder / "manifest.json").exists():
        manifest, known = read(folder)
        here = versions()
        same = all(manifest["versions"].get(package) == here[package] for package in ("numpy", "torch", "machine"))
        if same and manifest["fingerprint"] == fingerprint(computation):
            return known
    return record(computation)


def record_all(
    cases: Iterable[Case], directory: Path, framework: str, flags: Mapping, source: Recorded | None = None
) -> list[Path]:
    """Records the computations of ``cases`` as ``framework`` does them.

    "torch" writes the trusted side. Another framework writes what it computes, from the inputs and the float64 values
    of ``source``, or of a fresh recording where that is None (which needs torch).
    """
    written = []
    for computation in dict.fromkeys(case.computation for case in cases):
        known = record(computation) if source is None else source(computation)
        if framework != "torch":
            outputs = computation.candidates[framework](known.inputs)
            known = Record(known.inputs, known.truth, [outputs], known.scales)
        written.append(write(computation, known, directory, framework, flags))
    return written


def compare(a: Path, b: Path, cases: Sequence[Case]) -> list[Outcome]:
    """Judges what A recorded as candidate against what B recorded as reference, for every bundle both have."""
    by_key: dict[str, list[Case]] = {}
    for case in cases:
        by_key.setdefault(case.computation.key, []).append(case)
    of_a, of_b = ({_manifest(f)["computation"]: f for f in folders(side)} for side in (a, b))
    shared = [key for key in of_b if key in of_a]
    if not shared:
        raise NothingRan(f"{a} and {b} have no bundle in common: nothing was compared")
    outcomes = []
    for key in shared:
        if key not in by_key:
            raise UnknownCase(f"{of_a[key]} is of {key!r}, which this harness does not have")
        (manifest_a, known_a), (manifest_b, known_b) = read(of_a[key]), read(of_b[key])
        if manifest_a["inputs"] != manifest_b["inputs"]:
            raise BundleError(f"{of_a[key]} and {of_b[key]} were recorded from different inputs: not comparable")
        outcomes += [outcome_of(case, known_a.references[0], known_b) for case in by_key[key]]
    return outcomes
