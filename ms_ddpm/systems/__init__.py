"""The contract of a system.

A system is what can be trained and looked at by one name: ``train.py --system NAME``. It is a folder here, or a package
of somebody else's that announces itself in the entry-point group ``ms_ddpm.systems``:

    [project.entry-points."ms_ddpm.systems"]
    flow = "my_flow:SYSTEM"

Either holds an object ``SYSTEM`` of a subclass of `System`, and `ms_ddpm.registry` finds it. Nothing else of the
library knows a system's name: the Trainer calls ``draw`` and ``construct`` of the Cell that `System.build` gives, the
scripts call what is below.

Importing a system must be cheap, since ``--help`` does it: import MindSpore inside the methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.keys import MAX_STEPS
from ..errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from mindspore import nn

    from ..config import Config
    from ..data.sources import ImageSource
    from ..storage.torch_side import TorchSide
    from ..trainable import Trainable
    from ..training.trainer import Trainer
    from .sample import Sampling


@dataclass(frozen=True)
class Option:
    """An option of sample.py that a system understands.

    flag: without its dashes; name: of the sampler's argument, where it is called otherwise.
    kind: float, int, str, or bool for a pair of flags; many: takes several values.
    least, most: of numbers; choices: of texts.
    """

    flag: str
    kind: type
    help: str
    name: str = ""
    metavar: str | None = None
    many: bool = False
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def argument(self) -> str:
        """What the sampler calls it."""
        return self.name or self.flag


STEPS = Option(  # of a system that samples by a chain
    "sampling_steps", int, "steps of the chain [as configured for training]", name="steps", metavar="S", least=1,
    most=MAX_STEPS,
)  # fmt: skip


class System:
    """What a system must say (name, Config, build), and what it may (the rest, with what happens otherwise).

    Attributes:
        name: as ``--system`` and checkpoints have it.
        summary: one line for ``--help``.
        Config: a dataclass derived from `config.Config`, whose fields are made by `keys.key`.
        sampling: options of sample.py that go to the Cell's ``sample``.
        looking: those that only say what pictures to make.
        can_animate: whether sample.py --gif has a chain to show.
        weights: "ema" (averaged) or "model": the weights that pictures are made with unless another is asked for.
        no_options: why ``sampling`` is empty, where nothing is sampled.
        in_one_process: whether `build` refuses several workers.
        smaller: what to do where the network is too large for the memory.
    """

    name: str
    summary: str
    Config: type[Config]
    sampling: tuple[Option, ...] = ()
    looking: tuple[Option, ...] = ()
    can_animate: bool = False
    weights: str = "ema"
    no_options: str = ""
    in_one_process: bool = False
    smaller: str = "make the network smaller"

    # --- from a configuration ------------------------------------------------------------------------------------

    def check(self, config: Config) -> None:
        """Raises UserError where keys that are right by themselves do not go together. Free of MindSpore."""

    def build(self, config: Config) -> Trainable:
        """What is trained, with the initial weights of the configuration's seed.

        A Cell with ``draw(rng, batch)`` and ``construct(*batch, *draws) -> loss``; see `trainable.Trainable`, which
        says what ``sample`` must take for pictures and sample.py.
        Raises UserError for sizes that do not fit.
        """
        raise NotImplementedError(f"the system {self.name} has no build")

    def open_images(
        self, config: Config, dataset: str | Path | None = None, image_size: tuple[int, int] | None = None
    ) -> ImageSource:
        """The images of the configuration, or of another ``dataset`` or ``image_size`` with its other options."""
        from .. import data

        return data.open_of_any_system(config, dataset, image_size)

    def open_data(self, config: Config, cell: Trainable) -> ImageSource:
        """What ``cell`` trains on. Raises UserError where it cannot be read or does not fit."""
        return self.open_images(config)

    def keep_data(self, cell: Trainable, folder: Path) -> None:
        """Writes to the output directory what `open_data` took long to make. Called by the one who may write there."""

    def describe(self, cell: nn.Cell) -> dict[str, Any] | None:
        """The keys and values from which `build` makes ``cell`` again; None where it is of another system.

        A Cell that was built in Python is saved with them, so that sample.py can load it; without, only Python can.
        `described.keys_of` finds them. Raises UserError where no configuration can say such a Cell.
        """
        return None

    # --- what it needs -------------------------------------------------------------------------------------------

    def check_sizes(self, config: Config) -> None:
        """Raises UserError where images and network do not fit together, before anything is allocated."""

    def parameter_count(self, config: Config) -> int:
        """How many parameters the Cell of `build` holds, trained or not; 0: they are counted when it is built.

        Plain arithmetic, free of MindSpore: what no machine can hold is refused before MindSpore is imported.
        """
        return 0

    def kept_per_image(self, config: Config) -> int:
        """At least so many numbers of one image's way through the network wait for the gradient, or for a skip."""
        return 0

    # --- pictures ------------------------------------------------------------------------------------------------

    def load(self, path: Path, weights: str) -> Trainable:
        """The Cell of a checkpoint directory, to draw pictures with. Raises UserError where that is damaged."""
        from . import recipes

        return recipes.load(path, weights)[0]

    def sample_fn(
        self, cell: Trainable, dataset: ImageSource, config: Config
    ) -> Callable[[Any, int], np.ndarray] | None:
        """What draws the pictures of a run: ``f(cell, num) -> (num, C, H, W)`` in [0, 1], ``f.columns`` in a row."""
        from .sample import rows_of_classes

        return rows_of_classes(cell, config)

    def to_images(self, cell: Trainable, batch: np.ndarray) -> np.ndarray:
        """A batch of the data set as images (N, C, H, W)."""
        return batch

    def sample(self, run: Sampling) -> None:
        """Makes what sample.py was asked for, and says what it wrote; see `sample.Sampling`."""
        run.draw()
        run.animate()

    def report(self, trainer: Trainer, config: Config) -> Sequence[str]:
        """What a run writes at its end beside the last samples; lines to print."""
        return ()

    # --- PyTorch -------------------------------------------------------------------------------------------------

    def torch_part(self, cell: Trainable) -> Any:
        """What of ``cell`` has a PyTorch class, for convert.py. Raises UserError where nothing has."""
        raise UserError(f"a model of the system {self.name} has no PyTorch file")

    def network_part(self, cell: Trainable) -> Any:
        """The network alone in what `torch_part` gives."""
        return self.torch_part(cell)

    def torch_side(self) -> TorchSide:
        """What is known of PyTorch's files of these parts: names, constants, releases; see `torch_side.TorchSide`."""
        from ..storage.torch_side import TorchSide

        return TorchSide(self.name)
