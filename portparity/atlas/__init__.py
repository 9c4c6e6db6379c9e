"""The operators' atlas: whose float32 is right, operator by operator.

    portparity operators --output_dir atlas

`entries` is the table of operators, `differences` that of what only words can say; `values` is what they are given,
`measure` and `judge` say how far off, `worker` asks in a process of its own and `run` sees to it; `page`, `markdown`
and `reproducer` are what a reader gets.
"""

from .entries import Entry, table
from .rows import Row
from .run import run

__all__ = ["Entry", "Row", "run", "table"]
