"""How long a run is going to take, said once, when that is known."""

from __future__ import annotations

import statistics

KNOWN_AFTER = 10  # steps; the first compiles the graph, a later one may compile another
WORTH_SAYING = 60.0  # seconds to go


def duration(seconds: float) -> str:
    """``seconds`` in the two largest units that say something: "40 s", "23 min", "3 h 20 min", "2 d 4 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    large, small, names = (*divmod(minutes, 60), ("h", "min"))
    if large >= 24:
        large, small, names = (*divmod(round(minutes / 60), 24), ("d", "h"))
    return f"{large} {names[0]}" + (f" {small} {names[1]}" if small else "")


def step_time(seconds: float) -> str:
    """ "0.4 ms", "45 ms", "1.5 s", "12 s"."""
    value, unit = (seconds * 1000, "ms") if seconds < 1 else (seconds, "s")
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"


class Remaining:
    """Tells, after the first ten steps of a process, how long those to come will take.

    By the median of the steps after the first, so that one which compiles a graph or reads a cold file is not counted.
    """

    def __init__(self):
        self.seconds: list[float] = []

    def after_step(self, seconds: float, to_go: int) -> str:
        """The line to say after a step that took ``seconds``, with ``to_go`` more to do; mostly nothing."""
        if len(self.seconds) >= KNOWN_AFTER:
            return ""
        self.seconds.append(seconds)
        if len(self.seconds) < KNOWN_AFTER:
            return ""
        one = statistics.median(self.seconds[1:])
        if one * to_go < WORTH_SAYING:
            return ""
        return f"about {duration(one * to_go)} to go: {step_time(one)} a step, without checkpoints and pictures"
