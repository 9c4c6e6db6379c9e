"""The old name of `portparity.report`."""

from ._moved import moved

moved(__name__, "parity_tests.report", "portparity.report")
