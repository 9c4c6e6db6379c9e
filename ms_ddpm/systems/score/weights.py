"""PyTorch's files of a score model: states of the network alone, or of the network with its preconditioning."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...errors import UserError
from ...storage.torch_side import Said, TorchSide
from .config import ScoreKeys


class ScoreTorch(TorchSide):
    """A `PreconditionedScore` has its network under the name "net"; a bare one is another model."""

    def check(self, config: ScoreKeys, state: Mapping[str, np.ndarray], said: Said) -> None:
        """Raises UserError for a bare network where the configuration preconditions it."""
        if config.sigma_data is not None and not any(name.startswith("net.") for name in state):
            raise UserError(
                f"{said.file} is of a bare network, and the recipe has sigma_data {config.sigma_data:g}; "
                "leave sigma_data and data_mean out of it"
            )

    def taker_of(self, config: ScoreKeys) -> str:
        """With the constructor of a preconditioned network."""
        if config.sigma_data is None:
            return self.taker
        return f"torch_ref.PreconditionedScore(network, sde, {config.sigma_data:g}, {config.data_mean:g})"
