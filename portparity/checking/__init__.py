"""`portparity.check`: a PyTorch module and its port, two lines to a verdict."""

from .check import check, record
from .report import Report

__all__ = ["Report", "check", "record"]
