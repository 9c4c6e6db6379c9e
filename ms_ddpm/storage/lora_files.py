"""LoRA files of Stable Diffusion, as huggingface/diffusers and kohya-ss/sd-scripts write them.

What a file calls the numbers of one layer, ``P`` being its path in the network:

    final                  unet.P.lora.down.weight                      unet.P.lora.up.weight
    checkpoint of a run    unet.P.lora_A.weight                         unet.P.lora_B.weight
    peft's own             P.lora_A.ADAPTER.weight, base_model.model.P.lora_A.weight
    old, with a prefix     unet.Q.processor.to_q_lora.down.weight       ... to_out_lora for P = Q.to_out.0
    old, without           Q.processor.to_q_lora.down.weight
    kohya                  lora_unet_P.lora_down.weight                 dots in P are underscores; and .alpha

and for the text encoder ``text_encoder.`` or ``lora_te_`` instead, with ``.lora_linear_layer.`` for ``.lora.``. How
much of a LoRA counts is alpha / rank: alpha stands beside the numbers (``.alpha``), or in the header's JSON
``lora_adapter_metadata`` (``unet.lora_alpha``, with exceptions by layer), with peft's own names in the file
``adapter_config.json`` beside it, or is the rank.

Nothing is unpickled, so ``.bin`` files are refused.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError, quoted, reason_of
from . import floats, foreign_files, tensorfile
from .directories import read_json
from .files import write_atomically

NAME = "pytorch_lora_weights.safetensors"  # of such a file in a folder
NAME_OF_PEFT, CONFIG_OF_PEFT = "adapter_model.safetensors", "adapter_config.json"
METADATA = "lora_adapter_metadata"  # of diffusers, in the header
LARGEST = 1e30  # alpha that is believed
OF_PEFT = "base_model.model."  # before every name in what `PeftModel.save_pretrained` writes
Shape = tuple[int, ...]


class Factors(NamedTuple):
    """What a LoRA has for one layer: W + scale alpha / rank B A.

    Attributes:
        down: A, (rank, dim_in) or (rank, dim_in, k, k), float32.
        up: B, (dim_out, rank) or (dim_out, rank, 1, 1), float32.
        alpha: what it is multiplied by, times the rank.
    """

    down: np.ndarray
    up: np.ndarray
    alpha: float


ROLES = {"down": "down", "up": "up", "A": "down", "B": "up", "alpha": "alpha"}
_KOHYA = re.compile(
    r"lora_(?P<network>unet|te1?)_(?P<layer>[^.]+)\.(?:lora_(?P<role>down|up)\.weight|(?P<alpha>alpha))"
)
_NAMED = (  # the first that fits; what stands before a layer's name is looked at later
    re.compile(r"(?P<layer>.+?)\.(?:processor\.)?(?P<projection>to_[qkv]|to_out)_lora\.(?P<role>down|up)\.weight"),
    re.compile(r"(?P<layer>.+?)\.(?:lora|lora_linear_layer)\.(?P<role>down|up)\.weight"),
    re.compile(r"(?P<layer>.+?)\.lora_(?P<role>[AB])(?:\.[^.]+)?\.weight"),
    re.compile(r"(?P<layer>.+?)\.(?P<role>alpha)"),
)
_NETWORKS = {"unet": "unet", "te": "text_encoder", "te1": "text_encoder"}  # kohya's words
_OF_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}  # old names there


class _Key(NamedTuple):
    """A name in a file, taken apart: ``network`` is "" where it does not say, ``paths`` are what the layer may be."""

    network: str
    paths: tuple[str, ...]
    role: str


def _taken_apart(key: str) -> _Key | None:
    """What the name ``key`` says; None where it is no part of a LoRA that can be applied."""
    if found := _KOHYA.fullmatch(key):
        return _Key(_NETWORKS[found["network"]], (found["layer"],), found["role"] or "alpha")
    for pattern in _NAMED:
        if found := pattern.fullmatch(key):
            break
    else:
        return None
    layer, network = found["layer"].removeprefix(OF_PEFT), ""
    for name in ("unet", "text_encoder"):
        if layer.startswith(f"{name}."):
            layer, network = layer.removeprefix(f"{name}."), name
    projection = found.groupdict().get("projection")
    if projection is None:
        paths = (layer,)
    else:
        paths = (f"{layer}.{'to_out.0' if projection == 'to_out' else projection}", f"{layer}.{_OF_TEXT[projection]}")
    return _Key(network, paths, ROLES[found["role"]])


def _spellings(path: str) -> Iterable[str]:
    """How files may write the layer ``path``: with dots or kohya's underscores, with and without ``text_model``."""
    for name in (path, f"text_model.{path}", path.removeprefix("text_model.")):
        yield name
        yield name.replace(".", "_")


def read(path: str | Path, layers: Mapping[str, Mapping[str, Shape]]) -> dict[str, dict[str, Factors]]:
    """What a LoRA file has for each network, by layer.

    Args:
        path: the file, or a folder with `NAME` in it.
        layers: the networks ("unet", "text_encoder") that it may be for, and of each the shapes of the weights that can
            be adapted, by path (`nn.adapters.weight_shapes`).

    Returns:
        {network: {path: Factors}}, a network for every one in ``layers``, empty where the file has nothing for it, and
        its layers in the order that they have there.

    Raises:
        UserError: no such file, no safetensors file, numbers of other methods (DoRA, LoKr, LoHa) among it, or a layer
            that is half there, not in any of the networks, or of other sizes.
    """
    file = file_of(path)
    arrays, metadata = tensorfile.read_with_metadata(file)
    if not arrays:
        raise UserError(f"{file} is empty, expected the numbers of a LoRA")
    parts = _by_layer(file, arrays, layers)
    alphas = _Alphas(file, metadata, any(key.startswith(OF_PEFT) for key in arrays))
    return {
        network: {
            layer: _factors(file, network, layer, parts[network, layer], shape, alphas)
            for layer, shape in shapes.items() if (network, layer) in parts
        }
        for network, shapes in layers.items()
    }  # fmt: skip


def file_of(path: str | Path, name: str | None = None) -> Path:
    """The file that is meant by ``path``, or by the folder ``path`` and the file's ``name`` in it.

    Raises UserError where there is none, or one that would be unpickled.
    """
    for given in (path, name or ""):
        if not isinstance(given, (str, os.PathLike)):
            what = "the numbers of a LoRA" if isinstance(given, Mapping) else quoted(given)
            raise UserError(
                f"{what} stood in the place of a LoRA file, expected the path of a .safetensors file or of its folder"
            )
    file = Path(path, name or "").expanduser()
    try:
        if file.is_dir():
            file = next((file / name for name in (NAME, NAME_OF_PEFT) if (file / name).exists()), file / NAME)
        kind, words = foreign_files.kind_of(file)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"there is no LoRA file {file}, expected a .safetensors file or a folder with {NAME}; nothing is fetched "
            f"from a hub, so download it first"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {reason_of(error)}") from None
    if kind != foreign_files.SAFETENSORS:
        raise UserError(
            f"{file} is {words or 'nothing known'}, expected a LoRA as a safetensors file"
            f"{'; nothing is unpickled here: save it as one where it came from' if kind else ''}"
        )
    return file


def _by_layer(
    file: Path, arrays: Mapping[str, np.ndarray], layers: Mapping[str, Mapping[str, Shape]]
) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """(network, layer) -> its numbers by role."""
    written = {
        network: {name: path for path in paths for name in _spellings(path)} for network, paths in layers.items()
    }
    parts: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    unknown: list[str] = []
    for key, array in sorted(arrays.items()):  # safetensors gives them in another order each time
        taken = _taken_apart(key)
        if taken is None:
            raise UserError(
                f"{file} has {quoted(key)}, which is no LoRA for Stable Diffusion 1 or 2 (no .lora.down, .lora_A or "
                f".lora_down, nor their other half); DoRA, LoKr, LoHa and SDXL are not supported"
            )
        where = next(
            (
                (network, written[network][path])
                for network in ([taken.network] if taken.network else layers) if network in layers
                for path in taken.paths if path in written[network]
            ),
            None,
        )  # fmt: skip
        if where is None:
            unknown.append(f"{taken.network}.{taken.paths[0]}" if taken.network else taken.paths[0])
            continue
        part = parts.setdefault(where, {})
        if taken.role in part:
            raise UserError(
                f"{file} has the layer {where[1]} of the {where[0]} twice, the second time as {quoted(key)}"
            )
        part[taken.role] = array
    if unknown:
        names = list(dict.fromkeys(unknown))
        known = next((f"{network}.{path}" for network, paths in layers.items() for path in paths), "none")
        raise UserError(
            f"{file} is a LoRA for another network: {len(names)} of its {len(names) + len(parts)} layers are not in "
            f"this one, {names[0]} the first of them (here a layer is called {known})"
        )
    return parts


def _factors(
    file: Path, network: str, layer: str, part: Mapping[str, np.ndarray], shape: Shape, alphas: _Alphas
) -> Factors:
    """One layer's numbers, checked against its weight's ``shape``."""
    for role, other in (("down", "up"), ("up", "down")):
        if role not in part:
            raise UserError(f"{file} has {'the ' + other if other in part else 'an alpha'} and no {role} of {layer}")
    down, up = (_numbers(file, layer, part[role]) for role in ("down", "up"))
    rank = len(down) if down.ndim else 1
    expected = (rank, *shape[1:]), (shape[0], rank, *(1 for _ in shape[2:]))
    if [_as_matrix(array.shape) for array in (down, up)] != [_as_matrix(sides) for sides in expected]:
        raise UserError(
            f"{file} has shapes {down.shape} and {up.shape} for {layer} of the {network}, expected (rank, "
            f"{', '.join(map(str, shape[1:]))}) and ({shape[0]}, rank): it was trained on another base model"
        )
    beside = part.get("alpha")
    alpha = alphas.of(network, layer, rank) if beside is None else _alpha_beside(file, layer, beside)
    return Factors(down.reshape(expected[0]), up.reshape(expected[1]), alpha)


def _as_matrix(shape: Shape) -> Shape:
    """A convolution of 1x1 and a dense layer have the same numbers, and both ways of writing them are about."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def _numbers(file: Path, layer: str, array: np.ndarray) -> np.ndarray:
    """``array`` in float32. Raises UserError where it has none, or any that is no finite float."""
    if array.size == 0 or not floats.is_finite(array):
        raise UserError(f"{file} has numbers for {layer} that are no finite floats, expected a trained LoRA")
    return floats.cast(array, "float32")


def _alpha_beside(file: Path, layer: str, array: np.ndarray) -> float:
    """The one number that ``array`` should hold; kohya's is a whole one where the option was given as such."""
    whole = array.dtype.kind in "iu" and array.size > 0
    return float((array if whole else _numbers(file, layer, array)).reshape(-1)[0])


class _Alphas:
    """What the header says of alpha; of a file by peft itself its adapter_config.json."""

    def __init__(self, file: Path, metadata: Mapping[str, str], by_peft: bool):
        self.file = file
        beside = file.parent / CONFIG_OF_PEFT
        if by_peft and METADATA not in metadata and beside.exists():
            said = read_json(beside)
            self.said = {f"{network}.{key}": value for network in _NETWORKS.values() for key, value in said.items()}
            return
        try:
            self.said = json.loads(metadata.get(METADATA, "{}"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file} has no JSON under {METADATA} in its header: {reason_of(error)}") from None
        if not isinstance(self.said, dict):
            raise UserError(f"{file} has {quoted(self.said)} under {METADATA} in its header, expected a table")

    def of(self, network: str, layer: str, rank: int) -> float:
        """The alpha of ``layer``: an exception for it, the one of all, or its rank."""

        def said(key: str, default: object) -> object:
            return self.said.get(f"{network}.{key}", default)

        if said("use_dora", False):
            raise UserError(f"{self.file} is a DoRA ({network}.use_dora in its header), which is not supported")
        alpha = said("lora_alpha", None)
        exceptions = said("alpha_pattern", None)
        for pattern, value in (exceptions if isinstance(exceptions, dict) else {}).items():
            name = pattern.removeprefix("^")
            if layer == name or (name == pattern and layer.endswith(f".{name}")):
                alpha = value
                break
        if alpha is None:
            return float(rank)
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not abs(alpha) < LARGEST:
            raise UserError(f"{self.file} has {quoted(alpha)} as alpha of {layer} in its header, expected a number")
        # Kalajdzievski, https://arxiv.org/abs/2312.03732: alpha / sqrt(rank) takes the place of alpha / rank.
        return float(alpha) * math.sqrt(rank) if said("use_rslora", False) else float(alpha)


def write(path: str | Path, networks: Mapping[str, Mapping[str, Factors]]) -> None:
    """Writes ``networks``, {"unet": {path: Factors}, "text_encoder": ...}, as diffusers' training script ends.

    Where an alpha is not the rank the header says it, in the words of diffusers. Raises UserError where ``path`` cannot
    be written, and where there is nothing to write.
    """
    arrays, said = {}, {}
    for network, layers in networks.items():
        word = "lora" if network == "unet" else "lora_linear_layer"
        for layer, (down, up, _) in layers.items():
            arrays[f"{network}.{layer}.{word}.down.weight"] = down
            arrays[f"{network}.{layer}.{word}.up.weight"] = up
        if any(alpha != len(down) for down, _, alpha in layers.values()):
            said |= {f"{network}.{key}": value for key, value in _header_of(layers).items()}
    if not arrays:
        raise UserError(f"there is no LoRA to be written to {path}, expected at least one layer")
    metadata = {"format": "pt", tensorfile.KEY: tensorfile.digest(arrays)}
    if said:
        metadata[METADATA] = json.dumps(said, indent=2, sort_keys=True)
    write_atomically(path, tensorfile.serialise(arrays, metadata))


def _header_of(layers: Mapping[str, Factors]) -> dict[str, object]:
    """Rank and alpha as peft's configuration has them: those of the first layer, and the layers that differ."""
    ranks = {layer: len(factors.down) for layer, factors in layers.items()}
    alphas = {layer: factors.alpha for layer, factors in layers.items()}
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{layer}": value for layer, value in ranks.items() if value != rank},
        "alpha_pattern": {f"^{layer}": value for layer, value in alphas.items() if value != alpha},
        "target_modules": list(layers),
        "peft_type": "LORA",
    }
