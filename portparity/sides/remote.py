"""A side in a process of its own: two frameworks do not share memory or state, and a crash is a finding, not an end.

What is asked and answered goes through the pipe of `multiprocessing`; models are named by their place and stay there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ..case import Arrays
from ..errors import HarnessError
from .places import loaded
from .side import Given, Run, Side, Weight


class Raised(Exception):
    """What a side raised in its process."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind  # the name of the exception's class


class _Worker:
    """A process and the pipe to it; it ends when the last side in it is closed."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        self.sides = 0
        theirs.close()

    def ask(self, *question: Any) -> Any:
        try:
            self.pipe.send(question)
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Raised("ProcessDied", f"its process ended with exit code {self.process.exitcode}") from None
        if kind == "HarnessError":
            raise HarnessError(value)
        if kind:
            raise Raised(kind, value)
        return value

    def close(self) -> None:
        self.sides -= 1
        if self.sides:
            return
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.pipe.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()


class RemoteSide:
    """The side of the model at ``place``, in a process that ends with `close` or with this one.

    Args:
        place: see `places.loaded`.
        precision: in which it computes.
        beside: a side in whose process this one is to be.
    """

    def __init__(self, place: str, precision: str = "", beside: RemoteSide | None = None):
        self._worker = beside._worker if beside else _Worker()
        self._worker.sides += 1
        try:
            number, framework, precision, forward_only = self._worker.ask("new", place, precision)
        except BaseException:
            self._worker.close()
            raise
        self._number = number
        self.framework = framework
        self.precision = precision
        self.forward_only = forward_only

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._worker.ask(self._number, method, args, kwargs)

    def close(self) -> None:
        """Ends the process, or leaves it to the other sides in it."""
        self._worker.close()

    def weights(self) -> dict[str, Weight]:
        """See `Side`."""
        return self._ask("weights")

    def layers(self) -> dict[str, str]:
        """See `Side`."""
        return self._ask("layers")

    def argument_names(self, path: str = "") -> list[str]:
        """See `Side`."""
        return self._ask("argument_names", path)

    def load(self, weights: Arrays) -> None:
        """See `Side`."""
        self._ask("load", dict(weights))

    def run(
        self, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = "", tapped: bool = False
    ) -> Run:
        """See `Side`."""
        return self._ask("run", given, cotangents, mode=mode, tapped=tapped)

    def run_layer(
        self, path: str, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = ""
    ) -> Arrays:
        """See `Side`."""
        return self._ask("run_layer", path, given, cotangents, mode=mode)

    def behave(self, how: str) -> None:
        """See `Side`."""
        self._ask("behave", how)

    def steps(self, given: Given, targets: Mapping[str, np.ndarray], count: int, rate: float) -> Arrays:
        """See `Side`."""
        return self._ask("steps", given, targets, count, rate)

    def give_back(self) -> None:
        """The model ends with its process."""


def _serve(pipe: Connection) -> None:
    """Answers until it is told to end: (name of what was raised or "", value or text)."""
    from . import side_of

    made: list[Side] = []

    def answer(question: tuple) -> Any:
        if question[0] == "new":
            made.append(side_of(loaded(question[1]), question[2]))
            return len(made) - 1, made[-1].framework, made[-1].precision, made[-1].forward_only
        number, method, args, kwargs = question
        return getattr(made[number], method)(*args, **kwargs)

    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while (question := pipe.recv()) is not None:
            try:
                answered = "", answer(question)
            except HarnessError as error:
                answered = "HarnessError", str(error)
            except Exception as error:
                answered = type(error).__name__, str(error)
            pipe.send(answered)
