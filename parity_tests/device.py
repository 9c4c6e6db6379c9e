"""What a report says of the device that MindSpore ran on: its name, the version of CANN, and the precision flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ms_ddpm import runtime
from ms_ddpm.devices import precision

FLAGS = {  # MindSpore's contexts that decide how exact float32 is, by device; "" is "not set, the device's default"
    "Ascend": ("precision_mode", "matmul_allow_hf32", "conv_allow_hf32", "deterministic"),
    "GPU": ("matmul_allow_tf32", "conv_allow_tf32", "deterministic"),
}
CANN_VERSION_FILES = ("compiler/version.info", "version.info", "share/info/compiler/version.info")


def cann_version(environment: Mapping[str, str] = os.environ) -> str:
    """The version of CANN that set_env.sh put into the environment, as its own file says."""
    home = environment.get("ASCEND_HOME_PATH") or environment.get("ASCEND_TOOLKIT_HOME")
    if not home:
        return "not found: ASCEND_HOME_PATH is not set, so set_env.sh was not sourced"
    for name in CANN_VERSION_FILES:
        try:
            lines = (Path(home) / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition("=")
            if key.strip().lower() == "version" and value.strip():
                return value.strip()
    return f"not found: {home} has no {CANN_VERSION_FILES[0]}"


def facts(target: str) -> dict[str, str]:
    """Name of the device, what is below it, and the flags that hold, by MindSpore's own word; nothing for the CPU."""
    if target == "CPU":
        return {}
    mindspore = runtime.quietly_import()
    found = {"device": _asked(lambda: mindspore.hal.get_device_name(mindspore.get_context("device_id"), target))}
    if target == "Ascend":
        found["cann"] = cann_version()
    found |= {name: _asked(lambda name=name: mindspore.get_context(name)) for name in FLAGS[target]}
    return found | {name: str(value) for name, value in precision.flags().items()}  # not always readable again


def _asked(question) -> str:
    """An answer of MindSpore's; a report is not lost over one that it does not give."""
    try:
        answer = question()
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:
        return f"not known: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
    return "not set" if answer in ("", None) else str(answer)
