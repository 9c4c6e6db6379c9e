"""What sample.py does for a system: images from a checkpoint, their file, grid and animation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import registry
from ..errors import UserError
from ..pictures import images
from ..samplers import drawing as sampling
from ..storage import origin
from ..storage.files import output_directory
from ..trainable import said_by
from ..training.graph_errors import reports_to

if TYPE_CHECKING:
    from ..config import Config
    from ..trainable import Trainable

ANIMATED = 16  # images of the animation


def rows_of_classes(cell: Trainable, config: Config) -> Callable[[Any, int], np.ndarray] | None:
    """Draws the pictures of a run: ``f(cell, num) -> (num, C, H, W)`` in [0, 1], ``f.columns`` in a row.

    Of a model with classes each row is of one class, as many images as ``num_samples`` has room for in all rows.
    None of a Cell that has no ``sample``.
    """
    if said_by(cell, "sample") is None:
        return None
    classes = said_by(cell, "num_classes") if said_by(cell, "conditional") else 0
    columns = max(1, config.num_samples // classes) if classes else None

    def drawn(cell, num):
        labels = None
        if classes:
            rows = min(classes, num)
            labels, num = np.arange(rows).repeat(columns), rows * columns
        return sampling.draw_images(cell, num, seed=config.seed, batch_size=min(num, 64), labels=labels, progress=False)

    drawn.columns = columns
    return drawn


class Sampling:
    """One call of sample.py: what was asked for, the model, and what was drawn of it.

    What can be wrong is found before the output directory is made: a system asks for `cell` and calls `check` first.

    Attributes:
        path: the checkpoint's directory; state: its state.json; config: of its run; system: its system.
        args: every option of sample.py by its name.
        options: those that go to the Cell's ``sample``.
        images: what `draw` drew, (num, C, H, W) in [0, 1]; labels: their classes, or None.
    """

    def __init__(
        self, path: Path, state: dict[str, Any], config: Config, args: dict[str, Any], *,
        say: Callable[[str], None] = print,
    ):  # fmt: skip
        self.path = path
        self.state = state
        self.config = config
        self.args = args
        self.say = say
        self.system = registry.of(config)
        asked = {o.argument: args[o.flag] for name in registry.names() for o in registry.get(name).sampling}
        self.options = sampling.check_options(self.system.name, asked)
        self._check_looking()
        self.images: np.ndarray | None = None

    @cached_property
    def cell(self) -> Trainable:
        """The model with the weights that were asked for."""
        return self.system.load(self.path, self.args["weights"] or self.system.weights)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """The class of each image to be drawn."""
        return sampling.labels_for(self.cell, self.args["num"], self.args["labels"])

    @cached_property
    def folder(self) -> Path:
        """The output directory, made."""
        run_folder = self.path.parent.parent if self.path.parent.name == "checkpoints" else self.path
        folder = output_directory(self.args["output_dir"] or str(run_folder / f"samples-{self.state['step']}"))
        reports_to(folder / "compiler")
        return folder

    def _check_looking(self) -> None:
        """Raises UserError for an option that models of this system have no picture for."""
        able = {"gif": [name for name in registry.names() if registry.get(name).can_animate]}
        for name in registry.names():
            for option in registry.get(name).looking:
                able.setdefault(option.flag, []).append(name)
        for flag, owners in able.items():
            if self.args[flag] and self.system.name not in owners:
                raise UserError(
                    f"--{flag} is for {', '.join(owners)} models; this one is of the system {self.system.name}"
                )

    def check(self) -> None:
        """Raises UserError where the model cannot be sampled so."""
        _ = self.labels
        sampling.check_request(self.cell, **self.options)

    def draw(self) -> None:
        """Draws the images, and writes samples.npz and grid.png."""
        self.check()
        folder = self.folder
        self.images = sampling.draw_images(
            self.cell, self.args["num"], batch_size=self.args["batch_size"], labels=self.labels,
            seed=self.args["seed"], **self.options,
        )  # fmt: skip
        npz = self.save(self.images, self.labels)
        columns = self.args["grid"]
        if columns is None and self.labels is not None:
            columns = sampling.columns_of(self.labels[: images.GRID_MAX])
        images.save_grid(self.images[: images.GRID_MAX], folder / "grid.png", columns=columns)
        self.say(f"{len(self.images)} images from step {self.state['step']}: {npz}, {folder / 'grid.png'}")

    def save(self, drawn: np.ndarray, labels: np.ndarray | None = None) -> Path:
        """Writes samples.npz, with what the model was trained on; its path."""
        npz = Path(self.args["npz"]) if self.args["npz"] else self.folder / "samples.npz"
        trained_on = origin.Origin.of_checkpoint(self.state, self.path)
        images.save_npz(drawn, npz, labels, trained_on and trained_on.as_array())
        return npz

    def animate(self) -> None:
        """With --gif writes samples.gif: every state of the first images."""
        if not self.args["gif"]:
            return
        num = min(ANIMATED, self.args["num"])
        classes = {} if self.labels is None else {"labels": self.labels[:num]}
        chain = self.cell.sample(
            num, return_all_timesteps=True, progress=True, seed=self.args["seed"], **classes, **self.options
        )
        images.save_gif(np.clip(chain.asnumpy(), 0, 1), self.folder / "samples.gif")
        self.say(f"animation: {self.folder / 'samples.gif'}")
