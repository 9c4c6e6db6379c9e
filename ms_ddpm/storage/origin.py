"""What samples are of: written into samples.npz, or found beside the checkpoints of the run that drew them.

A measure of quality compares with the images that a model was trained on. Which those are is a fact of the run, not a
guess from the samples' shape: a shirt of 28x28 pixels is no digit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..config import Config, of_checkpoint, resolve
from ..errors import UserError
from . import checkpoint, untrusted

MEMBER = "trained_on"  # of samples.npz: this module's JSON as bytes
DIGITS = {"digits": (8, 8, 1), "digits28": (28, 28, 1)}  # whose measure needs no weights, and their images' shape


@dataclass(frozen=True)
class Origin:
    """The data set of the run that drew samples, and how its images were read."""

    dataset: str
    background: str = Config.background

    @classmethod
    def of(cls, config: Config) -> Origin:
        """That of a run's configuration; the path as seen from anywhere."""
        path = Path(config.dataset).expanduser()
        built_in = config.dataset in DIGITS
        return cls(config.dataset if built_in or not path.exists() else str(path.resolve()), config.background)

    @classmethod
    def of_checkpoint(cls, state: dict, path: Path) -> Origin | None:
        """That of a checkpoint's state.json; None where it holds no configuration, or one that does not know.

        Weights that convert.py ported were trained elsewhere: of those a data set is known where a recipe named one.
        """
        if not isinstance(state.get("config"), dict):
            return None
        config = of_checkpoint(state["config"], f"checkpoint {path}")
        return None if "source" in state and config.dataset == Config.dataset else cls.of(config)

    def as_array(self) -> np.ndarray:
        """What goes into samples.npz under the name MEMBER."""
        return np.frombuffer(json.dumps(asdict(self)).encode(), np.uint8)


def find(samples: Path) -> Origin | None:
    """Whose ``samples`` (an .npz file) are: what they say themselves, or the run they lie in; None: nobody knows."""
    return _written(samples) or _beside(samples.resolve().parent)


def _written(samples: Path) -> Origin | None:
    try:
        _, arrays = untrusted.read_npz(samples, lambda names: [name for name in names if name == MEMBER])
        if MEMBER not in arrays:
            return None
        found = json.loads(arrays[MEMBER].astype(np.uint8).tobytes())
        return Origin(**{key: str(found[key]) for key in ("dataset", "background") if key in found})
    except Exception:  # damaged in whatever way; the samples themselves are read, and complained of, elsewhere
        return None


def _beside(folder: Path) -> Origin | None:
    """Of the run whose output directory, or checkpoint, is ``folder`` or the one above it.

    Other programs have a config.yaml and a folder "checkpoints", too: what is not readable as ours is nobody's.
    """
    for place in (folder, folder.parent):
        try:
            if (place / "config.yaml").is_file():
                return Origin.of(resolve({}, str(place / "config.yaml")))
            if (place / "checkpoints").is_dir() or (place / "state.json").is_file():
                path = checkpoint.locate(place)
                return Origin.of_checkpoint(checkpoint.read_state(path), path)
        except UserError:
            continue
    return None


def choose(samples: Path, shape: tuple[int, int, int], asked: str | None) -> Origin:
    """What ``samples``, of images of ``shape`` (H, W, C), are compared with: ``asked``, or their run's data set.

    Raises:
        UserError: nobody knows the run and nothing was asked for; its data set is not there; digits asked for, and the
            run was not on digits; digits of a size that the measure does not know.
    """
    run = find(samples)
    if run is None:
        if asked is None:
            raise UserError(
                f"{samples} does not say what its model was trained on, and it lies in no run; give --dataset: digits, "
                "digits28, or the path of the real images"
            )
        return Origin(asked)
    if asked is None:
        if run.dataset not in DIGITS and not Path(run.dataset).expanduser().exists():
            raise UserError(
                f"the model of {samples} was trained on {run.dataset}, which is not there; give the path of these "
                "images as --dataset"
            )
        check_size(run.dataset, shape, str(samples))
        return run
    if asked in DIGITS:
        if run.dataset not in DIGITS:
            raise UserError(
                f"--dataset {asked} measures handwritten digits, but the model of {samples} was trained on "
                f"{run.dataset}; leave --dataset out, or give the path of real images"
            )
        check_size(run.dataset, shape, str(samples))
    return Origin(asked, run.background)


def check_size(dataset: str, shape: tuple[int, int, int], what: str) -> None:
    """Raises UserError for built-in digits ``dataset`` trained on at another ``shape`` (H, W, C) than they have."""
    if dataset in DIGITS and shape != DIGITS[dataset]:
        (height, width, channels), (h, w, c) = shape, DIGITS[dataset]
        raise UserError(
            f"{what} is of {dataset} scaled to {height}x{width}x{channels}, and the digits metric knows {dataset} of "
            f"{h}x{w}x{c} alone; train at that size to measure it, or give --dataset the path of real images"
        )
