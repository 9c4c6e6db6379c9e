"""LoRA: a small trainable product beside the weights of a finished network.

    y = W x + scale alpha / rank B A x        Hu et al., https://arxiv.org/abs/2106.09685, section 4.1

A is (rank, dim_in), B is (dim_out, rank); of a convolution A is one to ``rank`` channels with the layer's own kernel
and B one of 1x1. A starts from a normal distribution of deviation 1 / rank (diffusers' training:
``init_lora_weights="gaussian"``) and B at 0, so that a new adapter changes nothing.

A layer keeps its place and the names of its parameters: `layers.Affine` has a list of adapters, and here is what lies
in it. Their parameters are ``lora.ADAPTER.PATH.down`` and ``.up``, in float32 whatever the layer computes in.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from types import ModuleType

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..errors import UserError, quoted
from ..maths.random import host_rng, normal
from ..ops import by_kernels, by_operators
from ..ops.assign import set_value
from ..ops.placed import Placed
from ..storage import floats, lora_files
from ..storage.lora_files import Factors
from .contract import said_by
from .layers import Conv2d, Linear, WeightStandardizedConv2d

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # the projections of diffusers' attention
PREFIX = "lora."  # of the names of what is no parameter of the network itself

_cast = ops.Cast()


class LowRank(Placed):
    """(x, y) -> y + scale B A x, computed in float32 and given in the type of y.

    Attributes:
        down: A, (rank, dim_in) or (rank, dim_in, k, k).
        up: B, (dim_out, rank) or (dim_out, rank, 1, 1).
        scale: what multiplies the product, alpha / rank included: a parameter that is not trained, so that a compiled
            graph sees what is put into it.
    """

    def __init__(self, layer: Linear | Conv2d, down: np.ndarray, up: np.ndarray, scale: float):
        super().__init__()
        self.down = Parameter(Tensor(down.astype(np.float32)), name="down")
        self.up = Parameter(Tensor(up.astype(np.float32)), name="up")
        self.scale = Parameter(Tensor(np.float32(scale)), name="scale", requires_grad=False)
        self.geometry = layer.geometry if isinstance(layer, Conv2d) else None
        self.place(by_kernels if layer.by_kernels else by_operators)

    def place(self, on: ModuleType) -> None:
        if self.geometry is None:
            self.apply_down, self.apply_up = on.linear(False), on.linear(False)
        else:
            self.apply_down = on.conv(self.down.shape[0], *self.geometry, False)
            self.apply_up = on.conv(self.up.shape[0], 1, 1, 0, False)

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        change = self.apply_up(self.apply_down(_cast(x, ms.float32), self.down), self.up)
        return _cast(_cast(y, ms.float32) + self.scale * change, y.dtype)


def adaptable(network: nn.Cell) -> dict[str, Linear | Conv2d]:
    """The dense and convolution layers inside ``network`` by their path: "down_blocks.0...attn1.to_q".

    Without those that standardise their weight: what is added to it would not be added to the product.
    """
    return {
        path: layer
        for path, layer in network.cells_and_names()
        if path and isinstance(layer, (Linear, Conv2d)) and not isinstance(layer, WeightStandardizedConv2d)
    }


def weight_shapes(network: nn.Cell) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights of `adaptable`, which a LoRA file is held against (`storage.lora_files.read`)."""
    return {path: tuple(layer.weight.shape) for path, layer in adaptable(network).items()}


def targeted(paths: Iterable[str], targets: Iterable[str] = TARGETS) -> list[str]:
    """Those of ``paths`` that are, or end in a dot and, one of ``targets``. Raises UserError for one that none does."""
    paths, targets = list(paths), tuple(targets)

    def hit(path: str, target: str) -> bool:
        return path == target or path.endswith(f".{target}")

    for target in targets:
        if not any(hit(path, target) for path in paths):
            raise UserError(
                f"target_modules has {quoted(target)}, expected the end of the name of a dense or convolution layer, "
                f"such as {quoted(paths[-1]) if paths else 'to_q, but the network has none'}"
            )
    return [path for path in paths if any(hit(path, target) for target in targets)]


def factor_shapes(shape: tuple[int, ...], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of A and B for a weight of ``shape``, (out, in) or (out, in, k, k)."""
    return (rank, *shape[1:]), (shape[0], rank, *(1 for _ in shape[2:]))


def change_of_weight(down: np.ndarray, up: np.ndarray) -> np.ndarray:
    """B A in float64, in the shape of the weight: (out, in) or (out, in, k, k)."""
    flat = up.reshape(len(up), -1).astype(np.float64) @ down.reshape(len(down), -1).astype(np.float64)
    return flat.reshape(len(up), *down.shape[1:])


class Adapters:
    """The adapters of one network, by name. Several act at once, each with a scale of its own:

        adapters = Adapters(unet)
        adapters.load("style", read("pytorch_lora_weights.safetensors", {"unet": weight_shapes(unet)})["unet"])
        adapters.set_scales({"style": 0.8})

    While it has adapters, they are all that is trainable in the network. Scales are set without compiling anything
    anew, and a scale of 0 is the network without the adapter, bit for bit. `add`, `load` under a new name and `unload`
    change the network's graph: graphs that were compiled before keep what they have (MindSpore 2.10), so whoever holds
    some makes them anew when `structure` changes. Graphs of the Cells themselves are forgotten here.
    """

    def __init__(self, network: nn.Cell):
        self.network = network
        self._of: dict[str, dict[str, LowRank]] = {}  # adapter -> path -> what lies in the layer
        self._alpha_over_rank: dict[str, dict[str, float]] = {}
        self._scales: dict[str, float] = {}
        self._enabled = True
        self._share = 1.0  # of every scale, for a while
        self._came: dict[str, int] = {}  # adapter -> how many came before it
        self._counted = itertools.count()
        self._frozen: list[Parameter] = []
        self._base: dict[str, np.ndarray] = {}  # the weights as they were, while fused

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters in the order in which they came."""
        return tuple(self._of)

    @property
    def scales(self) -> dict[str, float]:
        """The scale of every adapter, as it was set."""
        return dict(self._scales)

    @property
    def enabled(self) -> bool:
        """Whether the adapters act at all."""
        return self._enabled

    @property
    def fused(self) -> bool:
        """Whether the weights have the adapters in them."""
        return bool(self._base)

    @property
    def structure(self) -> tuple:
        """What a compiled graph depends on: which adapters came, and when. A part of the key of such a graph.

        An adapter that is unloaded and loaded again is another one, whatever its name and ranks: it has parameters of
        its own, and a graph reads those that it was made with.
        """
        return tuple((name, self._came[name]) for name in self._of)

    # --- coming and going ----------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        *,
        rank: int = 4,
        alpha: float | None = None,
        targets: Iterable[str] = TARGETS,
        rng: np.random.Generator,
        scale: float = 1.0,
    ) -> None:
        """A new adapter to be trained: A normal with deviation 1 / rank, B at 0.

        Args:
            name: what it is called; none of `names`.
            rank: columns of B, 1 or more.
            alpha: of alpha / rank; None: ``rank``.
            targets: ends of the names of the layers that get one.
            rng: where A is drawn from, layer by layer in the network's order.
            scale: any finite number.

        Raises:
            UserError: a name that is taken, a target that no layer has, a rank below 1.
        """
        if rank < 1:
            raise UserError(f"rank of adapter {quoted(name)} is {rank}, expected at least 1")
        shapes = weight_shapes(self.network)
        rng, factors = host_rng(rng), {}
        for path in targeted(shapes, targets):
            down, up = factor_shapes(shapes[path], rank)
            drawn = normal(rng, down) * np.float32(1 / rank)
            factors[path] = Factors(drawn, np.zeros(up, np.float32), float(rank if alpha is None else alpha))
        self._put(name, factors, scale)

    def load(self, name: str, factors: Mapping[str, Factors], scale: float = 1.0) -> None:
        """An adapter with the numbers of ``factors``, by layer, as `storage.lora_files.read` gives them.

        Where ``name`` is there already, in the same layers and of no smaller ranks, only numbers change and compiled
        graphs stay; a smaller rank is filled up with zeros.

        Raises:
            UserError: layers or shapes that the network has not, or that the adapter of that name has not.
        """
        if name in self._of:
            self._replace(name, factors, scale)
        else:
            self._put(name, factors, scale)

    def _put(self, name: str, factors: Mapping[str, Factors], scale: float) -> None:
        self._require_unfused("another adapter")
        if not isinstance(name, str) or not name or "." in name:
            raise UserError(f"an adapter is called {quoted(name)}, expected a name without dots")
        if name in self._of:
            raise UserError(f"there is an adapter {quoted(name)} already; unload it, or take another name")
        self._check(name, factors)
        checked_scale(name, scale)
        self._freeze()
        layers = adaptable(self.network)
        of, ratios = {}, {}
        for path, (down, up, alpha) in factors.items():
            ratios[path] = alpha / len(down)
            of[path] = LowRank(layers[path], down, up, 0.0)
        self._of[name], self._alpha_over_rank[name], self._scales[name] = of, ratios, float(scale)
        self._came[name] = next(self._counted)
        self._apply_scale(name)
        self._put_into_layers(of)

    def _replace(self, name: str, factors: Mapping[str, Factors], scale: float) -> None:
        self._require_unfused("other numbers")
        of = self._of[name]
        self._check(name, factors)
        checked_scale(name, scale)
        if other := sorted(set(of) ^ set(factors)):
            raise UserError(
                f"adapter {quoted(name)} has {'a' if other[0] in of else 'no'} layer {other[0]}, unlike the "
                f"new one; unload the adapter first, and graphs are compiled anew"
            )
        for path, low in of.items():
            if len(factors[path].down) > low.down.shape[0]:
                raise UserError(
                    f"adapter {quoted(name)} has rank {low.down.shape[0]} in {path}, and the new one rank "
                    f"{len(factors[path].down)}; unload the adapter first, and graphs are compiled anew"
                )
        for path, low in of.items():
            down, up, alpha = factors[path]
            more = low.down.shape[0] - len(down)
            set_value(low.down, np.pad(down, [(0, more), *[(0, 0)] * (down.ndim - 1)]))
            set_value(low.up, np.pad(up, [(0, 0), (0, more), *[(0, 0)] * (up.ndim - 2)]))
            self._alpha_over_rank[name][path] = alpha / len(down)
        self.set_scales({name: scale})

    def _check(self, name: str, factors: Mapping[str, Factors]) -> None:
        shapes = weight_shapes(self.network)
        if not factors:
            raise UserError(
                f"adapter {quoted(name)} has no layers, expected at least one, such as {next(iter(shapes), '')}"
            )
        for path, (down, up, _) in factors.items():
            if path not in shapes:
                raise UserError(f"adapter {quoted(name)} has a layer {path}, which the network has not")
            expected = factor_shapes(shapes[path], len(down))
            if (down.shape, up.shape) != expected:
                raise UserError(
                    f"adapter {quoted(name)} has shapes {down.shape} and {up.shape} in {path}, expected {expected[0]} "
                    f"and {expected[1]}: it is for another base"
                )

    def unload(self, name: str | None = None) -> None:
        """Takes the adapter ``name`` away, or all; what they were fused into is the base again first.

        Raises UserError for a name that is not there.
        """
        self.unfuse()
        gone = self.names if name is None else (self._known(name),)
        for one in gone:
            paths = self._of.pop(one)
            del self._alpha_over_rank[one], self._scales[one], self._came[one]
            self._put_into_layers(paths)
        if not self._of:
            self._enabled = True
            for parameter in self._frozen:
                parameter.requires_grad = True
            self._frozen = []

    def _put_into_layers(self, paths: Iterable[str]) -> None:
        """The layers at ``paths`` have the adapters that there are for them, in their order."""
        layers = adaptable(self.network)
        for path in paths:
            found = {name: of[path] for name, of in self._of.items() if path in of}
            del layers[path].adapters  # a Cell under that name would hide a None
            layers[path].adapters = nn.CellList(list(found.values())) if found else None
            # Afterwards: a Cell that others are put into has put its own name before those of their parameters.
            for name, low in found.items():
                for part in ("down", "up", "scale"):
                    getattr(low, part).name = f"{PREFIX}{name}.{path}.{part}"
        # In graph mode a called Cell keeps its graph and does not see what was put into it (2.10).
        for _, cell in self.network.cells_and_names():
            cell.compile_cache.clear()

    # --- scales --------------------------------------------------------------------------------------------------

    def set_scales(self, scales: Mapping[str, float]) -> None:
        """Sets the scales of the adapters that ``scales`` names; the others stay as they are.

        Raises UserError for a name that is not there, a scale that is no finite number, and while fused.
        """
        self._require_unfused("other scales")
        for name, scale in scales.items():
            checked_scale(self._known(name), scale)
        for name, scale in scales.items():
            self._scales[name] = float(scale)
            self._apply_scale(name)

    def set_adapters(self, names: Iterable[str], scales: Iterable[float] | None = None) -> None:
        """``names`` are on, at ``scales`` (1 each), and all others off.

        Raises UserError as `set_scales`, and for another number of scales than of names.
        """
        names = list(names)
        scales = [1.0] * len(names) if scales is None else list(scales)
        if len(names) != len(scales):
            raise UserError(f"{len(scales)} scales are given for {len(names)} adapters, expected one each")
        for name in names:
            self._known(name)
        self.set_scales(dict.fromkeys(self.names, 0.0) | dict(zip(names, scales, strict=True)))

    def enable(self, on: bool = True) -> None:
        """Whether the adapters act: off, the network is its base bit for bit, and the scales stay as they are set.

        What is loaded beside adapters that are off is off too, until all are taken away. Raises UserError while fused.
        """
        if bool(on) != self._enabled:
            self._require_unfused("turning them on or off")
            self._enabled = bool(on)
            for name in self._of:
                self._apply_scale(name)

    @contextmanager
    def at_share(self, share: float) -> Iterator[None]:
        """Inside the ``with`` block the adapters act by ``share`` of their scales, which stay as they are set.

        Raises UserError where ``share`` is no finite number, and while fused.
        """
        checked_scale("all", share)
        self._require_unfused("other scales")
        before, self._share = self._share, float(share)
        try:
            for name in self._of:
                self._apply_scale(name)
            yield
        finally:
            self._share = before
            for name in self._of:
                self._apply_scale(name)

    def _apply_scale(self, name: str) -> None:
        """The scale of ``name``, as it acts beside the weights."""
        acting = self._share * self._scales[name] if self._enabled and not self.fused else 0.0
        for path, low in self._of[name].items():
            set_value(low.scale, np.float32(acting * self._alpha_over_rank[name][path]))

    # --- in the weights ------------------------------------------------------------------------------------------

    def fuse(self, share: float = 1.0) -> None:
        """Adds ``share`` of the adapters, as they are scaled, to the weights: W + share scale alpha / rank B A.

        The base's weights are kept, and the scales stay as they are. Raises UserError where ``share`` is no finite
        number, and while fused.
        """
        self._require_unfused("fusing again")
        checked_scale("all", share)
        if not self._enabled:
            raise UserError("the adapters are off, and would be so in the weights; turn them on before they are fused")
        layers, changes = adaptable(self.network), {}
        for name, of in self._of.items():
            for path, low in of.items():
                factor = share * self._scales[name] * self._alpha_over_rank[name][path]
                change = factor * change_of_weight(low.down.asnumpy(), low.up.asnumpy())
                changes[path] = changes[path] + change if path in changes else change
        for path, change in changes.items():
            weight = layers[path].weight
            self._base[path] = floats.plain(weight.asnumpy()).copy()
            set_value(weight, floats.cast(self._base[path], "float64") + change)
        for name in self._of:
            self._apply_scale(name)

    def unfuse(self) -> None:
        """The base's weights again, bit for bit, and the adapters beside them. Nothing where nothing is fused."""
        if not self._base:
            return
        layers = adaptable(self.network)
        for path, weight in self._base.items():
            set_value(layers[path].weight, weight)
        self._base = {}
        for name in self._of:
            self._apply_scale(name)

    # --- what is in them -----------------------------------------------------------------------------------------

    def parameters(self, name: str) -> list[Parameter]:
        """What is trained of the adapter ``name``: A and B of each layer. Raises UserError for an unknown name."""
        return [parameter for low in self._of[self._known(name)].values() for parameter in (low.down, low.up)]

    def factors(self, name: str) -> dict[str, Factors]:
        """The numbers of the adapter ``name`` by layer, as `storage.lora_files.write` takes them.

        Raises UserError for an unknown name.
        """
        ratios = self._alpha_over_rank[self._known(name)]
        return {
            path: Factors(low.down.asnumpy(), low.up.asnumpy(), ratios[path] * low.down.shape[0])
            for path, low in self._of[name].items()
        }

    def _known(self, name: str) -> str:
        if name not in self._of:
            known = ", ".join(self._of) or "none is loaded"
            raise UserError(f"there is no adapter {quoted(name)}, expected one of: {known}")
        return name

    def _require_unfused(self, what: str) -> None:
        if self._base:
            raise UserError(f"the adapters are fused into the weights; {what} would have no effect: unfuse first")

    def _freeze(self) -> None:
        """What is trainable in the network beside adapters is so no longer, until the last one goes."""
        for parameter in base_parameters(self.network).values():
            if parameter.requires_grad:
                parameter.requires_grad = False
                self._frozen.append(parameter)


def adapters_of(network: nn.Cell) -> Adapters:
    """The adapters of ``network``: the same object whoever asks; what a network was given its pipeline knows."""
    found = said_by(network, "own_adapters")
    if found is None:
        found = network.own_adapters = Adapters(network)
    return found


def load_file(
    networks: Mapping[str, nn.Cell], path: str | Path, name: str | None = None, weight_name: str | None = None
) -> None:
    """Loads a LoRA file into ``networks``, each what is for it; it acts with a scale of 1.

    Args:
        networks: by their names in such files, "unet" and "text_encoder".
        path: a .safetensors file of any of the formats in `storage.lora_files`, or its folder.
        name: what the adapter is called; None: the first of "default_0", "default_1", ... that is free.
        weight_name: the file's name in the folder ``path``.

    Raises:
        UserError: no such file, or one that is not for these networks.
    """
    file = lora_files.file_of(path, weight_name)
    found = lora_files.read(file, {word: weight_shapes(network) for word, network in networks.items()})
    if name is None:
        taken = {one for network in networks.values() for one in adapters_of(network).names}
        name = next(free for free in (f"default_{i}" for i in range(len(taken) + 1)) if free not in taken)
    for word, factors in found.items():
        if factors:
            adapters_of(networks[word]).load(name, factors)


def save_file(networks: Mapping[str, nn.Cell], path: str | Path, name: str | None = None) -> None:
    """Writes the LoRA ``name`` of ``networks`` as diffusers' training script ends.

    Args:
        networks: by their names in such files, "unet" and "text_encoder".
        path: of the file; its folder is made where it is not there.
        name: which LoRA; None: the only one.

    Raises:
        UserError: none is loaded, or several and no name is given; a name that none has; a file that cannot be written.
    """
    of = {word: adapters_of(network) for word, network in networks.items()}
    names = list(dict.fromkeys(one for adapters in of.values() for one in adapters.names))
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        given = "not given" if name is None else quoted(name)
        raise UserError(
            f"adapter_name is {given}, expected one of the LoRAs that are loaded: {', '.join(names) or 'none'}"
        )
    found = {word: adapters.factors(name) for word, adapters in of.items() if name in adapters.names}
    lora_files.write(Path(path).expanduser(), found)


def checked_scale(name: str, scale: float) -> None:
    """Raises UserError where ``scale``, that of adapter ``name``, is no finite number."""
    if isinstance(scale, bool) or not isinstance(scale, Real) or not abs(scale) < lora_files.LARGEST:
        raise UserError(f"the scale of adapter {quoted(name)} is {quoted(scale)}, expected a finite number")


def base_parameters(network: nn.Cell) -> dict[str, Parameter]:
    """The parameters of the network itself, by their paths in it: without those of adapters."""
    return {path: p for path, p in network.parameters_and_names() if ".adapters." not in f".{path}"}
