"""`portparity.check`: a PyTorch module and its port, two lines to a verdict."""

from .check import check, record
from .compared import Compared, compare
from .report import Report

__all__ = ["Compared", "Report", "check", "compare", "record"]
