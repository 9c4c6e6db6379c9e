"""MindSpore's compile cache, which computes garbage, stays off."""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger("ms_ddpm")

VARIABLE = "MS_COMPILER_CACHE_ENABLE"
CONTEXT = "enable_compile_cache"


def switch_off() -> None:
    """Switches the compile cache off in this process and those it starts, and says so in one line where it was on.

    Why: a graph that a second process takes from the cache (2.10, CPU) reads weights from memory that nobody has
    filled, and holds the numbers that the first process had in its Cells, whatever they are now; nothing is said. Both
    ways of switching it on are looked at: the variable, which MindSpore reads whenever it compiles, and the context,
    which wins over it. Called when `ms_ddpm` is imported, and whenever a network or a graph is made
    (`runtime.quietly_import`), since a program may switch it on at any time.
    Still needed? `tests/ops/test_compile_cache.py::test_the_cache_still_computes_garbage`.
    """
    wanted = []
    if os.environ.pop(VARIABLE, "") not in ("", "0"):
        wanted.append(VARIABLE)
    mindspore = sys.modules.get("mindspore")
    if mindspore is not None and mindspore.get_context(CONTEXT):
        mindspore.set_context(**{CONTEXT: False})
        wanted.append(CONTEXT)
    if wanted:
        log.warning(
            "MindSpore's compile cache (%s) is switched off: with it a second start computes with weights that were "
            "never filled in and with the first start's constants, without a word (MindSpore 2.10)",
            ", ".join(wanted),
        )
