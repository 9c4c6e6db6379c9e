"""What a model takes and gives, whatever it is nested in: a shape in JSON and the arrays in it.

A tree is a tensor or a literal, or a tuple, list, dict or dataclass of trees. `taken_apart` gives its shape and its
leaves, `put_together` makes it again of other leaves (another framework's tensors), `named` gives names to the leaves
of an output: "y" of one tensor, "y.0" and "y.1" of a pair, "y.sample" of a field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

LITERALS = (bool, int, float, str, type(None))
Shape = dict[str, Any]  # {"tensor": i}, {"literal": value}, {"tuple": [...]}, {"list": [...]} or {"dict": {...}}


class NotATree(ValueError):
    """Something that another framework cannot be given: a callable, an object with a state of its own."""


def taken_apart(tree: Any, is_tensor: Callable[[Any], bool]) -> tuple[Shape, list[Any]]:
    """The shape of ``tree`` and its tensors in order. Raises NotATree."""
    leaves: list[Any] = []

    def walk(node: Any) -> Shape:
        if is_tensor(node):
            leaves.append(node)
            return {"tensor": len(leaves) - 1}
        if isinstance(node, LITERALS):
            return {"literal": node}
        if dataclasses.is_dataclass(node) and not isinstance(node, type):
            node = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
        if isinstance(node, Mapping):
            return {"dict": {str(key): walk(value) for key, value in node.items()}}
        if isinstance(node, (tuple, list)):
            return {"list" if isinstance(node, list) else "tuple": [walk(value) for value in node]}
        raise NotATree(f"a {type(node).__name__}")

    return walk(tree), leaves


def can_be_replaced(tree: Any, is_tensor: Callable[[Any], bool]) -> bool:
    """Whether `put_together` makes the same of it: a dataclass or a class of somebody's own would become a dict."""
    if type(tree) in (tuple, list):
        return all(can_be_replaced(value, is_tensor) for value in tree)
    if type(tree) is dict:
        return all(can_be_replaced(value, is_tensor) for value in tree.values())
    return is_tensor(tree) or isinstance(tree, LITERALS)


def put_together(shape: Shape, leaves: Sequence[Any]) -> Any:
    """The tree of ``shape`` with other leaves."""
    ((kind, content),) = shape.items()
    if kind == "tensor":
        return leaves[content]
    if kind == "literal":
        return content
    if kind == "dict":
        return {key: put_together(value, leaves) for key, value in content.items()}
    made = [put_together(value, leaves) for value in content]
    return made if kind == "list" else tuple(made)


def paths(shape: Shape, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """How one comes to each leaf, in their order: keys and positions."""
    ((kind, content),) = shape.items()
    if kind == "tensor":
        return [at]
    if kind == "literal":
        return []
    parts = content.items() if kind == "dict" else enumerate(content)
    return [path for key, value in parts for path in paths(value, (*at, key))]


def names(shape: Shape, root: str) -> list[str]:
    """The names of the leaves, in their order."""
    return [".".join(map(str, (root, *path))) for path in paths(shape)]
