"""The keys of the system corruption. Free of MindSpore, for ``--help``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config import Config
from ...config.keys import MAX_STEPS, key


@dataclass
class CorruptionConfig(Config):
    """A `BasicNet` that undoes one kind of noise."""

    system: str = key("corruption", "name", "what is trained; see docs/systems.md")
    noise_kind: str = key(
        "uniform",
        "str",
        "what images are corrupted with",
        choices=("uniform", "gaussian", "salt_and_pepper", "poisson", "multiplicative"),
    )
    sampling_timesteps: Any = key(None, "int?", "steps of sampling", low=1, high=MAX_STEPS, free=True)
