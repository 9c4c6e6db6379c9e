"""The frameworks of models under `portparity.check`: one module each, imported when a model of it is given."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from ..errors import HarnessError
from .side import Side


def side_of(model: Any, precision: str = "", beside: Side | None = None) -> Side:
    """The side of a model, of the function without arguments that makes one, or of what stands at a place (a string,
    see `places`), which then runs in a process of its own, or in that of the side ``beside`` it."""
    if isinstance(model, str) and not model.endswith(".onnx"):
        from .remote import RemoteSide

        return RemoteSide(model, precision, beside)
    if "mindspore" in sys.modules:  # a cell that is made computes its first weights, and the device must be said before
        from ..on_mindspore import start

        start()
    made = model
    if isinstance(model, type) or (callable(model) and not _framework(model) and not _takes_arrays(model)):
        made = model()
    framework = _framework(made)
    if framework == "torch":
        from .torch_side import TorchSide

        return TorchSide(model if made is not model else made, precision or "float32")
    if framework == "mindspore":
        from .mindspore_side import MindSporeSide

        return MindSporeSide(made, precision)
    if framework == "onnx":
        from .forward_side import OnnxSide

        return OnnxSide(made)
    if callable(made):
        from .forward_side import ForwardSide

        return ForwardSide(made)
    raise HarnessError(
        f"a {type(made).__name__} is no model that is known here: a PyTorch module, a MindSpore cell, an ONNX file or "
        "session, a function of arrays"
    )


def _framework(model: Any) -> str:
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(model).__mro__}
    if "torch.nn.modules.module.Module" in bases:
        return "torch"
    if "mindspore.nn.cell.Cell" in bases:
        return "mindspore"
    is_session = any(base.startswith("onnxruntime.") and base.endswith(".InferenceSession") for base in bases)
    return "onnx" if is_session or (isinstance(model, (str, Path)) and str(model).endswith(".onnx")) else ""


def _takes_arrays(function: Any) -> bool:
    """Whether it cannot be called without arguments: then it makes no model, it is one."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # written in C
        return False
    return False
