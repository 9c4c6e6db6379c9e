"""A small image classifier in PyTorch, a port to MindSpore as one writes it first, and the port as it must be.

python -m portparity.examples.classifier
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
import torch
from mindspore import nn as ms_nn
from torch import nn

from portparity import Case, run
from portparity.localise import first_culprit, localise_layers
from portparity.ports import layer_taps, port, random_weights

LAYERS = ("stem", "norm", "hidden", "act", "out", "head")


class Classifier(nn.Module):
    """(B, 3, 16, 16) -> logits (B, 10): the original."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(16)
        self.hidden = nn.Linear(16, 64)
        self.act = nn.GELU()
        self.out = nn.Linear(64, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.out(self.act(self.hidden(self.norm(x))))
        return self.head(x.mean(1))


class FirstPort(ms_nn.Cell):
    """The port that reads the same line by line. MindSpore's defaults are not PyTorch's."""

    def __init__(self):
        super().__init__()
        self.stem = ms_nn.Conv2d(3, 16, 3, stride=2, pad_mode="pad", padding=1, has_bias=True)
        self.norm = ms_nn.LayerNorm((16,))  # epsilon 1e-7, PyTorch's 1e-5
        self.hidden = ms_nn.Dense(16, 64)
        self.act = ms_nn.GELU()  # by tanh
        self.out = ms_nn.Dense(64, 16)
        self.head = ms_nn.Dense(16, 10)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Logits."""
        x = self.stem(x).reshape(x.shape[0], 16, -1).transpose(0, 2, 1)
        x = x + self.out(self.act(self.hidden(self.norm(x))))
        return self.head(x.mean(1))


class Port(FirstPort):
    """The port that computes the same."""

    def __init__(self):
        super().__init__()
        self.norm = ms_nn.LayerNorm((16,), epsilon=1e-5)
        self.act = ms_nn.GELU(approximate=False)


NAMES = {"norm.gamma": "norm.weight", "norm.beta": "norm.bias"}  # ours -> PyTorch's


def inputs() -> dict[str, np.ndarray]:
    """Weights, a batch of images and a cotangent of the logits."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 16, 16), dtype=np.float32)
    return {**random_weights(Classifier, rng), "x": x, "cotangent": rng.standard_normal((4, 10), dtype=np.float32)}


def main() -> None:
    """Judges both ports, and says where the first one goes wrong."""
    for made in (FirstPort, Port):
        computation = port(f"own/{made.__name__}", inputs, Classifier, made, NAMES)
        cases = [Case(f"{computation.key}-{part}", "3", computation, (part,)) for part in ("y", "grad.*")]
        for outcome in run(cases):
            print(f"{outcome.verdict:7} {outcome.id:22} ratio {outcome.ratio:<8.3g} {outcome.message}")
        layers = localise_layers(layer_taps(inputs(), Classifier(), made(), LAYERS, NAMES))
        for layer in layers:
            print(f"        {layer.verdict:7} {layer.path:8} own error {layer.own:.3g} x its bound")
        wrong = first_culprit(layers)
        print(f"        first culprit: {wrong.path if wrong else None}\n")


if __name__ == "__main__":
    main()
