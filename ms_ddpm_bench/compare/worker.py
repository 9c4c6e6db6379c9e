"""One side in a process of its own: a line of JSON in, a line of JSON out. Started by `workers`.

It ends when its standard input does, so that it never outlives the process that started it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any

from ms_ddpm.config import Config
from ms_ddpm.errors import UserError


def _side(name: str, config: Config, options: dict) -> Any:
    if name == "mindspore":
        from .on_mindspore import MindSporeSide

        return MindSporeSide(config)
    if name == "layers":
        from .layers import Layers

        return Layers(config)
    from .on_torch import TorchSide, Yardstick

    return Yardstick(config) if name == "yardstick" else TorchSide(config, **options)


def _listen(lines: queue.Queue) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(1)  # whoever asked is gone


def _answer(side: Any, request: dict) -> dict:
    try:
        return {"answer": getattr(side, request["do"])(**request["with"])}
    except UserError as error:
        return {"user_error": str(error)}


def main(name: str) -> None:
    """Makes the side called ``name`` from the first line, and answers every line after it."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a framework prints goes to the log
    lines: queue.Queue = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()

    def tell(answer: dict) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    first = json.loads(lines.get())
    try:
        side = _side(name, Config(**first["config"]), first["options"])
    except UserError as error:
        tell({"user_error": str(error)})
        return
    tell({"answer": {}})
    while True:
        tell(_answer(side, json.loads(lines.get())))


if __name__ == "__main__":
    main(sys.argv[1])
