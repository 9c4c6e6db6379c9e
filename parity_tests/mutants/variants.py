"""Clean variants: the same computations with other inputs and in another order of the same sums. No rule may object."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from unittest import mock

import numpy as np

from portparity.backends import backend, why_not
from portparity.case import Arrays, Case, Leg
from portparity.errors import NothingRan
from portparity.mutants.editing import replaced

from ..cases import all_cases, matches

REPRESENTATIVE = (  # by turns, so that a hundred variants take a minute
    (
        "layers/conv3_wide-scale1-*-pynative",
        "layers/group_norm-scale30-*-pynative",
        "layers/resnet_block_rms-scale1-*-pynative",
        "layers/linear_attention-scale1-*-pynative",
        "network/tiny_2022-*",
        "training/loss-pred_v-l2-fixed-plain-*",
        "training/adam-*pynative",
    ),
    (
        "step/p_sample-pred_v-learned-selfcond-pynative*",
        "layers/weight_standardized_conv-scale1-*-pynative",
        "layers/rms_norm-scale0.02-*-pynative",
        "layers/resnet_block_group-scale1-*-pynative",
        "layers/attention-scale30-*-pynative",
        "network/tiny_2_3-*",
        "training/loss-pred_noise-l1-fixed-plain-*",
        "sampling/ddim_eta1-pred_v-fixed-selfcond",
    ),
)
TIERS = ("1", "2", "3", "4", "5")
BATCHED = {  # axis of the batch, by input; a gradient has that of its input
    "tape": 1, "chain": 1, "y": 0, "cotangent": 0, "x": 0, "t": 0, "vector": 0, "scale": 0, "shift": 0, "time": 0,
    "fraction": 0, "noise": 0, "x_self_cond": 0, "img": 0, "offset_noise": 0,
}  # fmt: skip


@contextmanager
def two_threads() -> Iterator[None]:
    """PyTorch computes in two threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def without_onednn() -> AbstractContextManager:
    """PyTorch computes with its own convolution kernels."""
    kinds = backend("torch").KINDS
    convolving = ("layer", "network", "chain")
    return mock.patch.dict(kinds, {kind: partial(kinds[kind], onednn=False) for kind in convolving})


def channels_last() -> AbstractContextManager:
    """PyTorch's images lie in memory pixel by pixel."""
    import torch

    def make(tensor: Callable, owner: type | None) -> Callable:
        def laid_out(value: np.ndarray, dtype: str) -> torch.Tensor:
            made = tensor(value, dtype)
            return made.contiguous(memory_format=torch.channels_last) if made.ndim == 4 else made

        return laid_out

    return replaced("portparity.on_torch:tensor", make)


def reordered(leg: Leg, seed: int) -> Leg:
    """The same leg on the images of each batch in another order; what it gives is put back in the old one."""

    def run(inputs: Arrays) -> Arrays:
        def moved(arrays: Arrays, inverse: bool) -> dict[str, np.ndarray]:
            found = dict(arrays)
            for name in found:
                axis = BATCHED.get(name.removeprefix("grad."))
                if axis is not None:
                    order = np.random.default_rng(seed).permutation(found[name].shape[axis])
                    found[name] = np.take(found[name], np.argsort(order) if inverse else order, axis)
            return found

        return moved(leg(moved(inputs, inverse=False)), inverse=True)

    return run


SAME_ORDER: Callable[[Leg, int], Leg] = lambda leg, seed: leg  # noqa: E731
KINDS: dict[str, dict[str, tuple[Callable[[], AbstractContextManager], Callable[[Leg, int], Leg]]]] = {
    "torch": {
        "two threads": (two_threads, SAME_ORDER),
        "batch order": (nullcontext, reordered),
        "channels last": (channels_last, SAME_ORDER),
        "without oneDNN": (without_onednn, SAME_ORDER),
    },
    "mindspore": {"as it is": (nullcontext, SAME_ORDER), "batch order": (nullcontext, reordered)},
}

TURNS = {  # two threads in one core's place take PyTorch ten times as long on networks this small, so they come rarely
    "torch": ("two threads", *(2 * ("batch order", "channels last", "without oneDNN"))),
    "mindspore": ("as it is", "batch order"),
}


@dataclass(frozen=True)
class Variant:
    """One correct way to compute: a framework, a seed of the inputs, and how the computation is ordered."""

    framework: str
    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.framework}, {self.kind}, seed {self.seed}"

    @property
    def around(self) -> Callable[[], AbstractContextManager]:
        """The context of the candidate."""
        return KINDS[self.framework][self.kind][0]

    def cases(self) -> list[Case]:
        """The cases on this variant's inputs."""
        patterns = REPRESENTATIVE[self.seed // len(TURNS[self.framework]) % 2]  # every kind gets both
        order = KINDS[self.framework][self.kind][1]
        made = {}
        found = []
        for case in all_cases(TIERS, self.seed):
            eager = self.framework == "torch" or case.mode == "pynative"
            if not (eager and any(matches(case, pattern) for pattern in patterns)):
                continue
            before = case.computation
            if self.framework not in before.candidates or why_not(self.framework, before.spec):
                continue
            if before not in made:
                legs = {self.framework: order(before.candidates[self.framework], self.seed)}
                made[before] = replace(before, candidates=legs)
            found.append(replace(case, computation=made[before]))
        return found


def clean_variants(n: int = 100) -> list[Variant]:
    """``n`` variants, each with inputs of its own; three in ten run MindSpore where that is installed."""
    try:
        backend("mindspore")
        share = 3 * n // 10
    except NothingRan:
        share = 0
    counts = {"torch": n - share, "mindspore": share}
    return [
        Variant(framework, kind, seed)
        for framework, count in counts.items()
        for seed, kind in zip(range(1, count + 1), itertools.cycle(TURNS[framework]), strict=False)
    ]
