"""What both frameworks' sides share: which layers there are, how they are called, and what a run of them leaves.

A layer is called by `ms_ddpm`'s path, which says what it is: "downs.0.attn.norm" where PyTorch has "downs.0.2.norm".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

_STAGE = {"0": "block1", "1": "block2", "2": "attn", "3": "resample"}
_ATTENTION = r"((?:^|\.)(?:mid_)?attn)"
_RENAMES = (  # PyTorch's path -> ours; in this order
    (re.compile(r"^((?:downs|ups)\.\d+)\.([0-3])\b"), lambda m: f"{m[1]}.{_STAGE[m[2]]}"),
    (re.compile(_ATTENTION + r"\.fn\.fn\."), r"\1."),  # Residual(PreNorm(attention)) of 2022
    (re.compile(_ATTENTION + r"\.fn(?=$|\.norm$)"), r"\1"),
    (re.compile(r"\.to_out\.0$"), ".to_out"),
    (re.compile(r"\.to_out\.1$"), ".out_norm"),
    (re.compile(r"\.mlp\.1$"), ".mlp"),
    (re.compile(r"\.resample\.1$"), ".resample.conv"),
    (re.compile(r"^time_mlp\.0$"), "time_mlp.embedding"),
    (re.compile(r"^time_mlp\.1$"), "time_mlp.linear1"),
    (re.compile(r"^time_mlp\.3$"), "time_mlp.linear2"),
)
_NO_LAYER = re.compile(r"|(downs|ups)(\.\d+)?|.*\.fn\.fn")  # containers, and the 2022 attention without its norm

_STAGE_BLOCK = r"(?:(?:downs|ups)\.\d+\.block[12]|mid_block[12]|final_res_block)"
_KINDS = (
    ("time_mlp", re.compile(r"time_mlp")),
    ("embedding", re.compile(r"time_mlp\.embedding")),
    ("resnet_block", re.compile(_STAGE_BLOCK)),
    ("block", re.compile(_STAGE_BLOCK + r"\.block[12]")),
    ("conditioned_norm", re.compile(_STAGE_BLOCK + r"\.block1\.norm")),
)
_ARGUMENTS = {
    "time_mlp": ("time",), "embedding": ("time",), "resnet_block": ("x", "t"), "block": ("x", "scale", "shift"),
}  # fmt: skip


def our_path(theirs: str) -> str | None:
    """Our path of PyTorch's module ``theirs``, or None for one that is no layer of its own."""
    if _NO_LAYER.fullmatch(theirs):
        return None
    for pattern, replacement in _RENAMES:
        theirs = pattern.sub(replacement, theirs)
    return theirs


def our_paths(modules: Iterable[str]) -> dict[str, str]:
    """Our path -> PyTorch's, of ``modules``, parents first: where two have one name, the inner one is meant."""
    return {ours: theirs for theirs in modules if (ours := our_path(theirs)) is not None}


def kind_of(path: str) -> str:
    """Which row of the tables of calls a layer belongs to; most are called with one image: "plain"."""
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(path)), "plain")


def arguments_of(path: str) -> tuple[str, ...]:
    """What a layer is called with, as PyTorch has it; "time" alone is not differentiated."""
    return _ARGUMENTS.get(kind_of(path), ("x",))


@dataclass
class Visit:
    """What a hook has seen of one layer: its arguments, its output and the gradient that came back to the output."""

    arguments: dict[str, np.ndarray] = field(default_factory=dict)
    output: np.ndarray | None = None
    cotangent: np.ndarray | None = None


@dataclass
class Run:
    """A free run: its layers in the order in which they were entered, and gradients by PyTorch's parameter names."""

    visits: dict[str, Visit]
    gradients: Mapping[str, np.ndarray] = field(default_factory=dict)
    problem: str = ""

    def of(self, path: str, module: str) -> dict[str, np.ndarray]:
        """What the run says of the layer ``path``, PyTorch's ``module``: input, output and gradients."""
        visit = self.visits.get(path, Visit())
        found = {} if visit.output is None else {"y": visit.output}
        found |= {f"input.{name}": v for name, v in visit.arguments.items() if name in ("x", "t")}
        found |= {} if visit.cotangent is None else {"grad.y": visit.cotangent}
        return found | {
            f"grad.weight.{name[len(module) + 1 :]}": value
            for name, value in self.gradients.items()
            if name.startswith(module + ".")
        }
