"""What code says, as one number: to tell whether results that were kept are still those of the code as it is."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path


def _canonical(node: object) -> object:
    """A syntax tree without docstrings, positions and what only some versions of Python have."""
    if isinstance(node, list):
        return [_canonical(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name in ("type_params", "type_comment", "kind"):
            continue
        if name == "body" and isinstance(value, list):
            value = [s for s in value if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        fields.append((name, _canonical(value)))
    return (type(node).__name__, fields)


def hash_of(places: Iterable[Path]) -> str:
    """sha256 of the Python files ``places`` and of those below the folders among them; comments and layout aside."""
    digest = hashlib.sha256()
    for path in places:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(repr(_canonical(ast.parse(file.read_text(encoding="utf-8")))).encode())
    return digest.hexdigest()
