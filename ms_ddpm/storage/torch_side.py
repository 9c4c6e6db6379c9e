"""What a system knows of PyTorch's files of its models: the second half of its contract, for `convert`, convert.py.

Everything has a default. A system whose networks are ``named_as_torch`` needs to say nothing here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UserError, quoted

if TYPE_CHECKING:
    import numpy as np
    from mindspore import nn

    from ..config import Config

TABLE_TOLERANCE = 1e-3  # by which constants of a state may differ from the model's own, relative


@dataclass(frozen=True)
class Said:
    """What is said of a PyTorch file beside its arrays.

    file: its name, for messages; version: what it says of the release that wrote it.
    release, objective: what the user says of them; None: nothing.
    """

    file: str
    version: object = None
    release: str | None = None
    objective: str | None = None


class TorchSide:
    """See above. ``part`` is what `System.torch_part` or `System.network_part` gives, or another Cell.

    Attributes:
        name: of the system.
        taker: the object whose ``load_state_dict`` takes what is written, for the last line of convert.py.
    """

    taker: str = "network"

    def __init__(self, name: str = ""):
        self.name = name

    # --- names and arrays ----------------------------------------------------------------------------------------

    def names(self, part: nn.Cell) -> Mapping[str, str] | None:
        """Our names of all parameters of ``part`` -> PyTorch's; None where this system has nothing to say of it."""
        return None

    def constants(
        self, part: nn.Cell, release: str | None = None, among: Collection[str] | None = None
    ) -> Mapping[str, np.ndarray]:
        """The arrays, float64, that a PyTorch state of ``part`` holds beside its parameters, such as a noise schedule.

        As the release ``release`` has them (None: the one that ``part`` is of), or, where a state with the names
        ``among`` was read, as that has them. The Cell keeps its own: they must agree to `TABLE_TOLERANCE`.
        """
        return {}

    def order(self, part: nn.Cell) -> Sequence[str]:
        """Our names in the order of PyTorch's parameters, which is that of an optimizer's state; see `release`."""
        raise NotImplementedError(f"the system {self.name} names a release, and no order of its parameters")

    # --- from a file ---------------------------------------------------------------------------------------------

    def configuration(self, state: Mapping[str, np.ndarray], said: Said) -> dict[str, Any]:
        """The configuration that a state tells, but for the size of its images.

        Raises UserError where it does not tell one, which is the default.
        """
        raise UserError(f"a PyTorch file of the system {self.name} does not tell its configuration; give --config")

    def check(self, config: Config, state: Mapping[str, np.ndarray], said: Said) -> None:
        """Raises UserError where ``state`` cannot be of ``config``, though names and shapes may fit."""

    def remark(self, said: Said) -> str:
        """A line to print about a file that converts all the same; nothing: none."""
        return ""

    # --- to a file -----------------------------------------------------------------------------------------------

    def release(self, config: Config, wanted: str | None) -> str | None:
        """The release of PyTorch's library whose Trainer is to go on from a .pt; None: there is no such Trainer.

        ``wanted``: what the user asks for. Raises UserError where that has another network.
        """
        if wanted:
            raise UserError(f"--release is {quoted(wanted)}, and the run is of the system {self.name}")
        return None

    def taker_of(self, config: Config) -> str:
        """`taker`, of a model of ``config``."""
        return self.taker
