"""How exactly a device multiplies float32 matrices, said explicitly: MindSpore's defaults differ by device.

"highest"  true float32 products everywhere. The default here, and what the parity harness proves.
"high"     TF32 on GPU (10 bits after the point), HF32 on Ascend (11): faster, with float32's range.

The words are those of `torch.set_float32_matmul_precision`. Left alone, MindSpore 2.10 computes convolutions in TF32
and products in float32 on GPU, and convolutions in HF32 on Ascend. CPU knows float32 only, and "high" changes nothing.

No GPU or Ascend device was at hand: the calls are tested against stand-ins, and never ran on a device.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

from ..errors import UserError, first_line

LEVELS = ("highest", "high")
CLASSES = {"GPU": "tf32", "Ascend": "hf32"}  # of precision, at "high"
TF32_VARIABLE = "NVIDIA_TF32_OVERRIDE"  # NVIDIA's libraries obey it whatever a program asks for

_set: dict[str, str | bool] = {}


def switches(device_target: str, level: str) -> dict[str, str | bool]:
    """Every switch of ``device_target``, by its name in MindSpore, as ``level`` has it; none on CPU."""
    fast = level == "high"
    return {
        "CPU": {},
        "GPU": {"matmul_allow_tf32": fast, "conv_allow_tf32": fast},
        # Whatever the level: force_fp16 and its like would lower float32 further.
        "Ascend": {
            "precision_mode": "must_keep_origin_dtype", "matmul_allow_hf32": fast, "conv_allow_hf32": fast,
        },
    }[device_target]  # fmt: skip


def set_matmul_precision(ms: ModuleType, device_target: str, level: str) -> None:
    """Sets the switches of ``device_target``. Called by `runtime.setup`.

    After ``ms.set_device`` and before the first kernel: MindSpore (2.10) asks, at the first call of each switch, which
    device is set; before set_device that is another one, and the call is dropped with a line in the log. On Ascend a
    switch can be given one value in a process.

    Raises:
        UserError: for an unknown level, or where MindSpore refuses.
    """
    if level not in LEVELS:
        raise UserError(f"matmul_precision is {level!r}, expected one of: {', '.join(LEVELS)}")
    wanted = switches(device_target, level)
    if wanted:
        owner = getattr(ms.device_context, device_target.lower()).op_precision
        for name, value in wanted.items():
            _call(getattr(owner, name), name, value)
    _set.clear()
    _set.update({"matmul_precision": level, **wanted})
    if device_target == "GPU" and TF32_VARIABLE in os.environ:
        _set[TF32_VARIABLE] = os.environ[TF32_VARIABLE]


def _call(switch: Callable, name: str, value: str | bool) -> None:
    try:
        switch(value)
    except (RuntimeError, ValueError, NameError, TypeError) as error:
        raise UserError(
            f"MindSpore refused {name} = {value}: {first_line(error)}; "
            "choose --matmul_precision once, before anything ran"
        ) from None


def flags() -> dict[str, str | bool]:
    """What was set in this process, for checkpoints and reports; empty before `runtime.setup`."""
    return dict(_set)
