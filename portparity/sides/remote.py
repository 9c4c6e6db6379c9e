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


class RemoteSide:
    """The side of the model at ``place``, in a process that ends with `close` or with this one.

    Args:
        place: see `places.loaded`.
        precision: in which it computes.
    """

    def __init__(self, place: str, precision: str = ""):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.place = place
        self._process = context.Process(target=_serve, args=(theirs, place, precision), daemon=True)
        self._process.start()
        theirs.close()
        self.framework, self.precision = self._answer()

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            self._pipe.send((method, args, kwargs))
        except OSError:
            raise self._died() from None
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if kind == "HarnessError":
            raise HarnessError(value)
        if kind:
            raise Raised(kind, value)
        return value

    def _died(self) -> Raised:
        self._process.join()
        return Raised("ProcessDied", f"its process ended with exit code {self._process.exitcode}")

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

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


def _serve(pipe: Connection, place: str, precision: str) -> None:
    """Answers until it is told to end: (name of what was raised or "", value or text)."""
    from . import side_of

    def answered(action: Any) -> tuple[str, Any]:
        try:
            return "", action()
        except HarnessError as error:
            return "HarnessError", str(error)
        except Exception as error:
            return type(error).__name__, str(error)

    made: list[Side] = []

    def build() -> tuple[str, str]:
        made.append(side_of(loaded(place), precision))
        return made[0].framework, made[0].precision

    pipe.send(answered(build))
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while made and (asked := pipe.recv()) is not None:
            method, args, kwargs = asked
            pipe.send(answered(lambda: getattr(made[0], method)(*args, **kwargs)))  # noqa: B023  it is called at once
