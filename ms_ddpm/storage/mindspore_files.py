"""Weights from other people's MindSpore checkpoints (.ckpt): ports of the networks here, under names of their own.

A .ckpt is protobuf, a list of names and arrays: nothing in it is run. Ports keep PyTorch's names but for what
MindSpore's own layers call otherwise (`LAYER_NAMES`), and put before them whatever held the network: "model." for a
GaussianDiffusion, "ema..model." for averaged weights. So a network is found by the ends of its names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from ..devices import memory
from ..errors import UserError, quoted, reason_of
from . import convert, floats
from .foreign_files import MINDSPORE, kind_of
from .untrusted import check_regular

LAYER_NAMES = (  # what MindSpore's layers call their parameters, and PyTorch's
    ("gamma", "weight"),  # GroupNorm, LayerNorm, BatchNorm2d
    ("beta", "bias"),
    ("moving_mean", "running_mean"),  # BatchNorm2d
    ("moving_variance", "running_var"),
    ("embedding_table", "weight"),  # Embedding
)
OPTIMIZER_NAMES = {  # first parts of an optimizer's names, which hold arrays of the weights' shapes too
    "moment1", "moment2", "moments", "adam_m", "adam_v", "exp_avg", "exp_avg_sq", "accum", "stat", "velocity", "grad",
    "accumulator", "inner_grad",
}  # fmt: skip
OTHER_NETWORKS = (  # how the names of networks begin that are not here, and what to call them
    (r"(^|\.)down_blocks\.0\.resnets\.0\.", "a UNet2DModel or UNet2DConditionModel of diffusers (mindone.diffusers)"),
    (r"(^|\.)(encoder|decoder)\.(down|up)_blocks\.", "an AutoencoderKL of diffusers (mindone.diffusers)"),
    (r"(^|\.)input_blocks\.\d+\.\d+\.", "a U-Net of Stable Diffusion or guided-diffusion (mindone.examples)"),
    (r"first_stage_model\.", "Stable Diffusion, all of it"),
    (r"(^|\.)x_embedder\.proj\.", "a diffusion transformer (DiT)"),
    (r"(^|\.)transformer_blocks\.\d+\.", "a transformer of diffusers (mindone.diffusers)"),
    (r"text_model\.encoder\.layers\.", "a CLIP text encoder"),
)
SHOWN = 4  # names in an error


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a MindSpore checkpoint by name; floats in float32.

    Raises UserError for a file that is none, is damaged, or does not fit into memory.
    """
    path = Path(path)
    try:
        size = check_regular(path)
        kind, words = kind_of(path)
    except FileNotFoundError:
        raise UserError(f"no file {path}; expected a MindSpore checkpoint (.ckpt)") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}; expected a MindSpore checkpoint (.ckpt)") from None
    if kind != MINDSPORE:
        raise UserError(
            f"{path} is {words or 'no MindSpore checkpoint'}, expected what mindspore.save_checkpoint writes"
            + ("; run: convert.py from-torch" if kind else "")
        )
    memory.require(3 * size, f"reading {path}", "free some")
    logger = logging.getLogger("MindSpore")  # which prints a page about a damaged file; one line says it below
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        parameters = ms.load_checkpoint(str(path))
        return {name: _array(parameter) for name, parameter in parameters.items()}
    except Exception as error:  # MindSpore and protobuf raise many kinds for damaged files
        raise UserError(f"{path} is damaged: {reason_of(error)}") from None
    finally:
        logger.setLevel(level)


def _array(parameter: ms.Parameter) -> np.ndarray:
    """Its value, floats as float32."""
    if parameter.dtype == ms.bfloat16:
        bits = np.frombuffer(parameter.get_bytes(), floats.BFLOAT16).reshape(parameter.shape)
        return floats.cast(bits, "float32")
    return floats.cast(parameter.asnumpy(), "float32")


def as_torch_names(name: str) -> str:
    """``name`` with PyTorch's word for its last part."""
    stem, _, last = name.rpartition(".")
    last = dict(LAYER_NAMES).get(last, last)
    return f"{stem}.{last}" if stem else last


def states(arrays: Mapping[str, np.ndarray], network: nn.Cell, path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """{"model": state} and, where the file holds averaged weights, {"ema": state}: PyTorch's names of ``network``.

    Both kinds of names are taken, this library's own and those that ports keep.

    Raises UserError where ``network`` is not in the file, in one line that says what is, or is there twice.
    """
    names = convert.torch_names(network)
    renamed = {as_torch_names(name): value for name, value in arrays.items()}
    for wanted, held in ((names, arrays), ({theirs: theirs for theirs in names.values()}, renamed)):
        found = {"model": [], "ema": []}
        for prefix in _prefixes(held, wanted):
            averaged = re.search(r"(^|[._])ema", prefix) is not None
            found["ema" if averaged else "model"].append(prefix)
        if not found["model"] and not found["ema"]:
            continue
        for prefixes in found.values():
            if len(prefixes) > 1:
                raise UserError(
                    f"{path} holds {len(prefixes)} networks of this kind, under {', '.join(map(quoted, prefixes))}; "
                    "save the one to convert alone"
                )
        taken = {kind: prefixes[0] for kind, prefixes in found.items() if prefixes}
        taken.setdefault("model", taken.get("ema", ""))
        return {
            kind: {theirs: held[prefix + name] for name, theirs in wanted.items()} for kind, prefix in taken.items()
        }
    raise UserError(f"{path} does not hold the network of the --config: {_what_is_there(renamed, names, path)}")


def _prefixes(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, str]) -> list[str]:
    """What stands before the names of a network that is there whole, once for each time it is."""
    first = next(iter(wanted))
    candidates = [name[: -len(first)] for name in arrays if name == first or name.endswith(f".{first}")]
    return [
        prefix
        for prefix in candidates
        if prefix.partition(".")[0] not in OPTIMIZER_NAMES and all(prefix + name in arrays for name in wanted)
    ]


def _what_is_there(renamed: Mapping[str, np.ndarray], names: Mapping[str, str], path: str | Path) -> str:
    """Which names are missing where most are there, else what the file is of."""
    wanted = list(names.values())
    best, prefix = 0, ""
    for candidate in {name[: -len(end)] for end in wanted for name in renamed if name.endswith(end)}:
        count = sum(candidate + name in renamed for name in wanted)
        if count > best and candidate.partition(".")[0] not in OPTIMIZER_NAMES:
            best, prefix = count, candidate
    if 2 * best > len(wanted):
        missing = [name for name in wanted if prefix + name not in renamed]
        return f"missing {', '.join(missing[:SHOWN])}{_and_more(missing)}"
    for pattern, words in OTHER_NETWORKS:
        if any(re.search(pattern, name) for name in renamed):
            return f"it is {words}, and no network here is like it"
    shown = sorted(renamed)
    return (
        f"it holds {len(renamed)} arrays, named {', '.join(map(quoted, shown[:SHOWN]))}{_and_more(shown)}, and names "
        f"such as {wanted[0]} were expected"
    )


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""


def step_of(arrays: Mapping[str, np.ndarray]) -> int:
    """The training step that a checkpoint tells, 0 where it does not."""
    for name in ("global_step", "step"):
        value = arrays.get(name)
        if value is not None and value.size == 1 and 0 <= value.reshape(-1)[0] < 10**9:
            return int(value.reshape(-1)[0])
    return 0
