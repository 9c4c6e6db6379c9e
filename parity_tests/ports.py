"""The old name of `portparity.ports`."""

from ._moved import moved

moved(__name__, "parity_tests.ports", "portparity.ports")
