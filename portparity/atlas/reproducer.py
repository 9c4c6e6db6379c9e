"""An offender as ten lines that anybody can run: the arguments, the two expressions, what came out."""

from __future__ import annotations

from . import values
from .entries import Entry
from .rows import Row

BY_KIND = " if a.dtype.kind == 'f' else torch.from_numpy(a)"
ROUND = "{0} = torch.from_numpy({0}).bfloat16().float().numpy()"
ANSWERS = {"MindSpore": "ours", "PyTorch": "theirs", "float64": "truth"}
REPEATED = 64  # one number many times: vectors take another way through a kernel than what is left over


def text(row: Row, entry: Entry | None = None) -> str:
    """Python for ``row``, whose operator is ``entry``; "" where there is nothing to run.

    It prints the three answers at the place that the row names.
    """
    if entry is None:
        return _words(row)
    head = ["import mindspore as ms, numpy as np, torch", "from mindspore import Tensor, mint, nn, ops"]
    head += ["from torch.nn import functional as F"] if "F." in row.theirs else []
    names = ", ".join(entry.arguments)
    half = row.dtype != "float32"
    cast = f".astype(ms.{row.dtype})" if row.dtype == "bfloat16" else ""
    layer = [f"layer = {entry.layer}"] if entry.layer else []
    made = _arguments(row, entry)
    ours = [f"def f({names}): return {entry.mindspore}"]
    theirs = [f"def g({names}): return {entry.torch}"]
    graph = "ms.jit(f)" if row.mode == "graph" else "f"
    given = ", ".join(f"Tensor({n}){cast if values.is_float(a) else ''}" for n, a in entry.arguments.items())
    whole = any(not values.is_float(a) for a in entry.arguments.values())
    of_torch = f"[torch.from_numpy(a).to(t){BY_KIND if whole else ''} for a in ({names},)]"
    leaves = f"[v.requires_grad_(){' if v.is_floating_point() else v' if whole else ''} for v in a]"
    as_float = ".float()" if half else ""
    if row.part.startswith("grad"):
        wanted = list(entry.arguments).index(row.part.split()[-1]) if " " in row.part else 0
        pull = "pull = ops.GradOperation(get_all=True, sens_param=True)"
        ours += [pull, f"def h({names}, c): return pull(f)({names}, c)"]
        graph = "ms.jit(h)" if row.mode == "graph" else "h"
        shape = row.cotangent or "np.float32(1)"
        lines = [
            f"c = np.asarray({shape}).astype(np.{'float16' if row.dtype == 'float16' else 'float32'})",
            *([ROUND.format("c")] if row.dtype == "bfloat16" else []),
            *_called(graph, f"({given}, Tensor(c){cast})[{wanted}]{as_float}.asnumpy()", row.calls),
            "def gradient(t):",
            f"    a = {of_torch}",
            f"    return torch.autograd.grad(g(*{leaves}), a[{wanted}], torch.from_numpy(c).to(t))[0].double().numpy()",
            f"theirs, truth = gradient(torch.{row.dtype}), gradient(torch.float64)",
        ]
    else:
        lines = [
            *_called(graph, f"({given}){as_float}.asnumpy()", row.calls),
            f"theirs, truth = (g(*{of_torch}).double().numpy() for t in (torch.{row.dtype}, torch.float64))",
        ]
    shown = (f'"{who}", {name}.flat[{row.at}]' for who, name in ANSWERS.items())
    last = [f"print({', '.join(shown)})"]
    if row.calls > 1:
        last.append(f'print("MindSpore, first call", first.flat[{row.at}])')
    if row.part.startswith("shape") or not row.truth:
        last = ['print("MindSpore", ours, "PyTorch", theirs)']
    return "\n".join([*head, *made, *layer, *ours, *theirs, *lines, *last]) + "\n"


def _called(function: str, rest: str, calls: int) -> list[str]:
    """The line that calls MindSpore, or those that call it more than once."""
    if calls == 1:
        return [f"ours = {function}{rest}"]
    return [f"call = {function}", f"first = call{rest}", f"ours = [call{rest} for _ in range({calls - 1})][-1]"]


def _arguments(row: Row, entry: Entry) -> list[str]:
    """The lines that make the arguments."""
    kind = "float16" if row.dtype == "float16" else "float32"
    if row.part.startswith("shape"):
        return [f"{name} = np.full({row.part.removeprefix('shape ')}, 0.5, np.{kind})" for name in entry.arguments]
    if values.is_elementwise(entry.arguments):
        numbers = dict(pair.split(" = ") for pair in row.where.split(", ")) if " = " in row.where else {}
        lines = []
        for name in entry.arguments:
            number = numbers.get(name, "0.5")
            number = f"np.{number.lstrip('-')} * {-1 if number[0] == '-' else 1}" if "n" in number else number
            lines.append(f"{name} = np.full({REPEATED}, {number}, np.{kind})")
        return lines
    halves = [ROUND.format(n) for n, a in entry.arguments.items() if row.dtype == "bfloat16" and values.is_float(a)]
    texts = values.structured_texts(entry.arguments, row.dtype)
    region = row.region or values.ORDINARY
    lines = []
    for name, (made, *changes) in texts[region].items():
        lines.append(f"{name} = {made}")
        lines += [change.replace("x", name, 1) for change in changes]
    return lines + halves


def _words(row: Row) -> str:
    """For a row whose expressions need no arguments."""
    *before, last = row.ours.split("; ")
    *their_before, their_last = row.theirs.split("; ")
    head = ["import mindspore as ms, numpy as np, torch", "from mindspore import Tensor, mint, nn, ops"]
    head += ["from torch.nn import functional as F"] if "F." in row.theirs else []
    if row.mode == "graph":
        before, last = ["@ms.jit", "def asked():", *(f"    {line}" for line in before), f"    return {last}"], "asked()"
    return (
        "\n".join([*head, *before, f'print("MindSpore", {last})', *their_before, f'print("PyTorch", {their_last})'])
        + "\n"
    )
