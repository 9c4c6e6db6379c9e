"""ms_ddpm's adapters in a small network with diffusers' names."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mindspore import nn, ops

from ms_ddpm.nn.adapters import Adapters, adapters_of, load_file
from ms_ddpm.nn.layers import Conv2d, Linear
from ms_ddpm.ops.assign import set_value
from ms_ddpm.storage import lora_files as files_of_loras
from parity_tests.backends.shared_mindspore import RNG
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import arrays, tensor, vjp, with_gradients


class Attention(nn.Cell):
    """softmax(q k^T / sqrt(6)) v and a projection: (B, T, 5) and (B, S, 7) -> (B, T, 5)."""

    def __init__(self, rng: np.random.Generator):
        super().__init__()
        self.to_q = Linear(5, 6, bias=False, rng=rng)
        self.to_k = Linear(7, 6, bias=False, rng=rng)
        self.to_v = Linear(7, 6, bias=False, rng=rng)
        self.to_out = nn.CellList([Linear(6, 5, rng=rng)])
        self.product = ops.BatchMatMul()
        self.product_bt = ops.BatchMatMul(transpose_b=True)

    def construct(self, x, context):
        weights = ops.softmax(self.product_bt(self.to_q(x), self.to_k(context)) / 6**0.5, -1)
        return self.to_out[0](self.product(weights, self.to_v(context)))


class Network(nn.Cell):
    """A convolution of stride 2, one of 1x1, attention to a context: (B, 3, H, W), (B, S, 7) -> (B, H/2 W/2, 5)."""

    def __init__(self, rng: np.random.Generator):
        super().__init__()
        self.conv1 = Conv2d(3, 4, 3, stride=2, padding=1, rng=rng)
        self.proj_in = Conv2d(4, 5, 1, rng=rng)
        self.attn = Attention(rng)

    def construct(self, x, context):
        y = self.proj_in(self.conv1(x))
        b, c, h, w = y.shape
        return self.attn(ops.transpose(ops.reshape(y, (b, c, h * w)), (0, 2, 1)), context)


def _adapted(spec: Mapping) -> tuple[Network, Adapters]:
    """A network and the adapters of ``spec`` in it."""
    network = Network(np.random.default_rng(RNG))
    adapters = Adapters(network)
    for name, options in spec["adapters"].items():
        rng = np.random.default_rng(options.get("seed", 0))
        given = {key: options[key] for key in ("rank", "alpha", "targets", "scale")}
        adapters.add(name, **given, rng=rng)
    return network, adapters


def _names(network: Network) -> dict[str, str]:
    """Our names of parameters -> the harness's: a base's own, and "ADAPTER.PATH.A" and ".B"."""
    names = {}
    for ours, parameter in network.parameters_and_names():
        _, _, rest = parameter.name.partition("lora.")
        path, _, part = rest.rpartition(".")
        names[ours] = f"{path}.{'A' if part == 'down' else 'B'}" if rest else ours
    return names


def _load(network: Network, inputs: Arrays) -> None:
    names = _names(network)
    for ours, parameter in network.parameters_and_names():
        if f"weight.{names[ours]}" in inputs and not ours.endswith(".scale"):
            set_value(parameter, inputs[f"weight.{names[ours]}"])


def lora_network(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The network with its adapters: output, and gradients of image, context and every A and B."""

    def build():
        network, adapters = _adapted(spec)

        def call(x, context):
            return network(x, context)

        return network, adapters, with_gradients(call, network, (0, 1), mode)

    network, _, call = memo(build, "mindspore lora", spec, mode)
    _load(network, inputs)
    args = [(name, tensor(inputs[name])) for name in ("x", "context")]
    return vjp(call, network, args, tensor(inputs["cotangent"]), _names(network), (0, 1))


def lora_new(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """A new adapter: A and B as they are drawn, and the output, which is the base's."""
    network, adapters = _adapted(spec)
    _load(network, inputs)
    found = {
        f"{name}.{path}.{part}": value
        for name in adapters.names for path, factors in adapters.factors(name).items()
        for part, value in (("A", factors.down), ("B", factors.up))
    }  # fmt: skip
    return arrays({"y": network(tensor(inputs["x"]), tensor(inputs["context"]))}) | found


def lora_merged(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The weights with the adapters in them."""
    network, adapters = _adapted(spec)
    _load(network, inputs)
    adapters.fuse()
    paths = {path for name in adapters.names for path in adapters.factors(name)}
    return {path: network.parameters_dict()[f"{path}.weight"].asnumpy() for path in sorted(paths)}


def lora_files(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Adapters written, taken away, read, fused and unfused: their numbers and alphas, and the weights without them."""
    network, adapters = _adapted(spec)
    _load(network, inputs)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.safetensors" for name in adapters.names}
        for name, file in files.items():
            files_of_loras.write(file, {"unet": adapters.factors(name)})
        adapters.unload()
        for name, file in files.items():
            load_file({"unet": network}, file, name)
    adapters = adapters_of(network)
    adapters.set_scales({name: options["scale"] for name, options in spec["adapters"].items()})
    adapters.fuse()
    adapters.unfuse()
    found = {}
    for name in files:
        for path, factors in adapters.factors(name).items():
            found |= {f"weight.{name}.{path}.A": factors.down, f"weight.{name}.{path}.B": factors.up}
            found[f"alpha.{name}.{path}"] = np.float32(factors.alpha)
    adapters.unload()
    return found | {f"weight.{name}": p.asnumpy() for name, p in network.parameters_dict().items()}


KINDS = {"lora_network": lora_network, "lora_new": lora_new, "lora_merged": lora_merged, "lora_files": lora_files}
