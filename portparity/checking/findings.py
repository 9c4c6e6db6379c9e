"""What `check` found, as an object and in words. `report.Report` writes it to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import HarnessError
from ..localise import Layer, between, first_culprit, told
from ..report.words import plural
from ..runner import BROKEN, Outcome
from ..verdict import AGREE, DIFFER
from .histograms import Histogram
from .trees import Trees


@dataclass
class Findings:
    """The verdicts of a port. ``print`` shows them; ``agrees`` is whether everything that was judged agrees.

    Attributes:
        title: which port of what.
        outcomes: one by part: forward and gradients in each mode, layers, training.
        layers: every layer with its own and its inherited error, forward and backward.
        left_out: layers that were not looked at, and why.
        notes: what a reader must know: guesses, and what could not be judged.
        trees: the layers of both models, and which is which.
        histograms: of what each layer was given and gave, by its path.
        command: what gives this report again; two lines of Python where it is empty.
    """

    title: str
    outcomes: list[Outcome] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    trees: Trees = field(default_factory=Trees, repr=False)
    histograms: dict[str, list[Histogram]] = field(default_factory=dict, repr=False)
    command: str = ""

    @property
    def agrees(self) -> bool:
        """Whether something was judged and all of it agrees."""
        return bool(self.outcomes) and all(outcome.verdict == AGREE for outcome in self.outcomes)

    @property
    def first_culprit(self) -> str | None:
        """Where it goes wrong first: a layer's path, or "A -> B" of two between which it does; None where nowhere."""
        for backward in (False, True):
            if found := first_culprit(self.layers, backward):
                return found.path
            if edge := between(self.layers, backward):
                return edge_of(self.layers, edge, backward)
        return None

    @property
    def verdict(self) -> str:
        """In one word."""
        verdicts = {outcome.verdict for outcome in self.outcomes}
        return DIFFER if DIFFER in verdicts else BROKEN if BROKEN in verdicts or not verdicts else AGREE

    @property
    def in_training(self) -> list[str]:
        """What differs in training alone, a line each: where every layer agrees, the place to look."""
        if any(outcome.id.startswith(("forward", "gradients", "layers")) for outcome in self._differing):
            return []
        places = {outcome.id: [t.name for t in outcome.failed][:8] for outcome in self._differing}
        return [f"{part}: first in {', '.join(names)}{_hint(names)}" for part, names in places.items() if names]

    @property
    def _differing(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.verdict != AGREE]

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.title}"]
        width = max((len(outcome.id) for outcome in self.outcomes), default=0)
        for outcome in self.outcomes:
            lines.append(f"  {outcome.verdict:7} {outcome.id:{width}}  {_judged(outcome)}")
        if self.layers:
            lines += [f"  {line}" for line in told(self.layers).splitlines()]
        lines += [f"  {line}" for line in self.in_training]
        if self.left_out:
            lines.append(f"  {len(self.left_out)} layers not looked at alone: {_some(self.left_out)}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def about(self, path: str) -> str:
        """What is known of one of the port's layers, in words. Raises HarnessError where there is none at ``path``."""
        found = [layer for layer in self.layers if layer.path == path]
        if not found:
            raise HarnessError(
                f"no layer {path!r} was looked at" + (f": {why}" if (why := self.left_out.get(path)) else "")
            )
        return told(found)


def _hint(names: Sequence[str]) -> str:
    running = all(name.startswith("buffer.") for name in names)
    return "; nothing else differs, so look at the momentum of these running statistics" if running else ""


def edge_of(layers: Sequence[Layer], wrong: Layer, backward: bool) -> str:
    """ "A -> B": between A, the last layer before ``wrong`` that is right in the free run, and ``wrong``."""
    order = [layer for layer in layers if not _holds(layer, wrong) or layer is wrong]
    at = order.index(wrong)
    if backward:
        after = next((layer.path for layer in order[at + 1 :] if not _holds(wrong, layer)), "the end")
        return f"{wrong.path} -> {after}"
    before = next((layer.path for layer in reversed(order[:at]) if not _holds(wrong, layer)), "the start")
    return f"{before} -> {wrong.path}"


def _holds(outer: Layer, inner: Layer) -> bool:
    return inner.path.startswith(f"{outer.path}.")


def _judged(outcome: Outcome) -> str:
    if outcome.verdict != AGREE:
        return outcome.message
    arrays = f"{plural(len(outcome.tensors), 'array')}, at most {outcome.ratio:.2g} of the bound"
    return arrays if outcome.tensors else outcome.message


def _some(left_out: dict[str, str]) -> str:
    shown = [f"{path} ({why})" for path, why in list(left_out.items())[:3]]
    return ", ".join(shown) + (", ..." if len(left_out) > 3 else "")
