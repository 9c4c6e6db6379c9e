"""PyTorch's own files, .pt: the one module here that imports torch, inside a call, where somebody converts.

A .pt is a pickle. It is read with ``weights_only=True``: one that would run code is refused. What comes out of here
is numpy arrays.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..devices import memory
from ..errors import UserError, quoted, reason_of
from . import floats, foreign_files, tensorfile
from .files import write_atomically
from .untrusted import check_regular

DATA_PARALLEL = "module."  # what torch.nn.DataParallel puts before every name
EMA = "ema_model."  # what ema-pytorch puts before the names of averaged weights
Value = TypeVar("Value")


def require_torch() -> Any:
    """The module torch. Raises UserError where it is not installed."""
    try:
        import torch
    except ImportError:
        raise UserError("a .pt file needs PyTorch; run: pip install torch (or use .safetensors)") from None
    return torch


def without_parallel(state: Mapping[str, Value]) -> dict[str, Value]:
    """``state`` without the "module." that DataParallel puts before every name."""
    bare = len(DATA_PARALLEL) if state and all(name.startswith(DATA_PARALLEL) for name in state) else 0
    return {name[bare:]: value for name, value in state.items()}


def read(path: Path) -> dict[str, Any]:
    """{"model": state, "ema": state or None, "step": int, "ema_step": int, "version": str or None} of a file.

    A state is names -> numpy arrays; floats are float32, whatever they were in the file. What the file is its
    beginning tells, not its name. Raises UserError where it cannot be read.
    """
    try:
        check_regular(path)
        kind, words = foreign_files.kind_of(path)
    except FileNotFoundError:
        raise UserError(f"no file {path}; expected a PyTorch checkpoint") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}; expected a PyTorch checkpoint") from None
    if words and not kind:
        raise UserError(f"{path} is {words}, expected a PyTorch checkpoint (.pt) or .safetensors")
    if kind == foreign_files.SAFETENSORS or (path.suffix == ".safetensors" and not kind):
        state = {name: floats.cast(value, "float32") for name, value in tensorfile.read(path).items()}
        return {"model": without_parallel(state), "ema": None, "step": 0, "ema_step": 0, "version": None}
    if kind == foreign_files.MINDSPORE:
        raise UserError(
            f"{path} is a MindSpore checkpoint, not a PyTorch file; run: convert.py from-mindspore {path} --config ..."
        )
    return _of_trainer(_unpickled(path, kind), path)


def _unpickled(path: Path, kind: str) -> dict:
    torch = require_torch()
    try:
        # Opened here: given a path, torch goes by its name and reads a .safetensors otherwise.
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")  # of old pickle protocols: such a file is refused or read, and that is said
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for broken and for unsafe files
        if kind and "weights_only" in str(error):
            reason = "it holds pickled objects, which could run code"
        elif kind:
            reason = f"it is damaged: {reason_of(error)}"
        else:
            reason = "it is not a PyTorch file"
        raise UserError(
            f"{path} is refused: {reason}; save its state_dict() with torch.save and convert that"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, expected a checkpoint or state dict")
    return content


def _arrays(state: Mapping, path: Path) -> dict[str, np.ndarray]:
    """The tensors of ``state`` as float32."""
    torch = require_torch()
    tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    # A tensor of stride 0 is as large as it says and takes four bytes in the file.
    memory.require(sum(4 * v.numel() for v in tensors.values()), f"what {path} holds", "it may be damaged")
    odd = [k for k, v in tensors.items() if v.is_complex() or v.is_quantized]
    if odd:
        raise UserError(f"{path}: {quoted(odd[0])} holds {tensors[odd[0]].dtype}, expected real numbers")
    try:
        return {k: v.detach().float().contiguous().numpy() for k, v in tensors.items()}
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:  # sparse, or without values
        raise UserError(f"{path} holds tensors that numpy cannot: {reason_of(error)}") from None


def _whole(value: Any) -> int | None:
    """``value`` where it is a whole number from 0, also as a tensor."""
    torch = require_torch()
    if isinstance(value, torch.Tensor) and value.numel() == 1 and value.device.type == "cpu":
        value = value.item()
    return value if type(value) is int and 0 <= value < 10**18 else None


def _of_trainer(content: dict, path: Path) -> dict[str, Any]:
    """What `read` gives, of a Trainer's file or a bare state dict."""
    model = content.get("model", content)
    if not isinstance(model, dict):
        raise UserError(f"{path}: 'model' is a {type(model).__name__}, expected a state dict")
    ema, ema_step = content.get("ema"), None
    if isinstance(ema, dict):
        ema_step = _whole(ema.get("step"))
        ema = _arrays({str(k)[len(EMA) :]: v for k, v in ema.items() if str(k).startswith(EMA)}, path) or None
    step = _whole(content.get("step", 0))
    if step is None:
        raise UserError(f"{path}: 'step' is {quoted(content['step'])}, expected a whole number")
    return {
        "model": without_parallel(_arrays(model, path)),
        "ema": without_parallel(ema) if isinstance(ema, dict) else None,
        "step": step,
        "ema_step": step if ema_step is None else ema_step,
        "version": content.get("version"),
    }


def write(
    path: Path, states: Mapping[str, Mapping[str, np.ndarray]], step: int, ema_calls: int,
    more: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Writes a .pt as the library's Trainer does.

    Args:
        path: its name; written whole or not at all.
        states: "model" and "ema": names -> arrays.
        step: of the training; ema_calls: how often the average was updated.
        more: what a Trainer that is to go on from it wants beside, see `optimizer_state`.
    """
    torch = require_torch()
    tensors = {w: {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in s.items()} for w, s in states.items()}
    ema = {f"{EMA}{k}": v for k, v in tensors["ema"].items()}
    ema |= {f"online_model.{k}": v for k, v in tensors["model"].items()}
    # One number each in ema-pytorch before 0.4 and none after; torch puts a single one into none, not the reverse.
    ema |= {"initted": torch.tensor([ema_calls > 0]), "step": torch.tensor([ema_calls])}
    whole = io.BytesIO()  # torch.save turns a full disk into a RuntimeError about positions
    torch.save({"step": step, "model": tensors["model"], "ema": ema, **(more or {})}, whole)
    write_atomically(path, whole.getbuffer())


def optimizer_state(
    weights: Sequence[np.ndarray], moments: Sequence[Mapping[str, np.ndarray] | None], steps: float, *,
    decoupled: bool, lr: float, betas: Sequence[float], weight_decay: float | None,
) -> dict[str, Any]:  # fmt: skip
    """The ``state_dict()`` of torch.optim.Adam, or AdamW where ``decoupled``, after ``steps`` steps.

    Args:
        weights: in PyTorch's order of parameters.
        moments: of each its "exp_avg" and "exp_avg_sq", or None.
        steps: one that has not stepped is written as a fresh one.
        decoupled, lr, betas, weight_decay: its settings; without a decay that of the class.
    """
    torch = require_torch()
    parameters = [torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(value))) for value in weights]
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    optimizer = kind(parameters, lr=lr, betas=tuple(betas), **decay)
    for parameter, own in zip(parameters, moments, strict=True):
        if steps and own is not None:
            optimizer.state[parameter] = {"step": torch.tensor(steps)} | {
                key: torch.from_numpy(own[key].copy()) for key in ("exp_avg", "exp_avg_sq")
            }
    return optimizer.state_dict()
