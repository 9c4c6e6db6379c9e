"""torch_ref's LoRA around a small network with diffusers' names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from portparity.case import Arrays
from portparity.on_torch import DTYPES, arrays, tensor, vjp
from torch_ref.systems.lora import LoRA, add_lora


class Attention(nn.Module):
    """softmax(q k^T / sqrt(6)) v and a projection: (B, T, 5) and (B, S, 7) -> (B, T, 5)."""

    def __init__(self):
        super().__init__()
        self.to_q = nn.Linear(5, 6, bias=False)
        self.to_k = nn.Linear(7, 6, False)
        self.to_v = nn.Linear(7, 6, False)
        self.to_out = nn.ModuleList([nn.Linear(6, 5)])

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Every pixel looks at the context."""
        weights = torch.softmax(self.to_q(x) @ self.to_k(context).transpose(1, 2) / 6**0.5, -1)
        return self.to_out[0](weights @ self.to_v(context))


class Network(nn.Module):
    """A convolution of stride 2, one of 1x1, attention to a context: (B, 3, H, W), (B, S, 7) -> (B, H/2 W/2, 5)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.proj_in = nn.Conv2d(4, 5, 1)
        self.attn = Attention()

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """The pixels one behind the other."""
        return self.attn(self.proj_in(self.conv1(x)).flatten(2).transpose(1, 2), context)


def lora_shapes(spec: Mapping) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of `network`: the base's, and "ADAPTER.PATH.A" and ".B"."""
    base = {name: tuple(p.shape) for name, p in Network().named_parameters()}
    return base | {name: tuple(p.shape) for name, p in _factors(_adapted(spec, Network())).items()}


def _adapted(spec: Mapping, network: Network) -> dict[str, dict[str, LoRA]]:
    """Every adapter of ``spec`` put into ``network``: adapter -> path -> what it has there."""
    made = {}
    for name, options in spec["adapters"].items():
        rng = np.random.default_rng(options.get("seed", 0))
        made[name] = add_lora(network, options["targets"], options["rank"], options["alpha"], rng)
        for lora in made[name].values():
            lora.scale = options["scale"]
    return made


def _factors(made: Mapping[str, Mapping[str, LoRA]]) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{path}.{part}": getattr(lora, part)
        for name, loras in made.items() for path, lora in loras.items() for part in ("A", "B")
    }  # fmt: skip


@torch.no_grad()
def _loaded(spec: Mapping, inputs: Arrays, dtype: str) -> tuple[Network, dict[str, dict[str, LoRA]]]:
    network = Network()
    base = dict(network.named_parameters())
    made = _adapted(spec, network)
    for name, parameter in (base | _factors(made)).items():
        if f"weight.{name}" in inputs:
            parameter.copy_(tensor(inputs[f"weight.{name}"], "float32"))
    return network.to(DTYPES[dtype]), made


def lora_network(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The network with its adapters: output, and gradients of image, context and every A and B."""
    network, made = _loaded(spec, inputs, dtype)
    args = {name: tensor(inputs[name], dtype) for name in ("x", "context")}
    found = vjp(network, network, args, tensor(inputs["cotangent"], dtype), (0, 1), dtype)
    ours = {id(p): f"grad.weight.{name}" for name, p in _factors(made).items()}
    names = {f"grad.weight.{name}": ours[id(p)] for name, p in network.named_parameters() if p.requires_grad}
    return {names.get(name, name): value for name, value in found.items()}


@torch.no_grad()
def lora_new(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A new adapter: A and B as they are drawn, and the output, which is the base's."""
    network, made = _loaded(spec, inputs, dtype)
    found = network(*(tensor(inputs[name], dtype) for name in ("x", "context")))
    return arrays({"y": found, **_factors(made)})


@torch.no_grad()
def lora_merged(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The weights with the adapters in them."""
    network, _ = _loaded(spec, inputs, dtype)
    outer: dict[str, LoRA] = {}
    for name, module in network.named_modules():
        if isinstance(module, LoRA) and not name.endswith(".layer"):
            outer[name] = module
    return arrays({name: lora.merged() for name, lora in outer.items()})


def lora_files(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Weights and alphas, as the network and its adapters hold them."""
    network = Network()
    base = dict(network.named_parameters())
    made = _adapted(spec, network)
    held = base | _factors(made)
    for name, parameter in held.items():
        parameter.data.copy_(tensor(inputs[f"weight.{name}"], "float32"))
    alphas = {f"alpha.{name}.{path}": np.float32(lora.alpha) for name, at in made.items() for path, lora in at.items()}
    return arrays({f"weight.{name}": value for name, value in held.items()}) | alphas


KINDS = {"lora_network": lora_network, "lora_new": lora_new, "lora_merged": lora_merged, "lora_files": lora_files}
