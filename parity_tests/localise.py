"""The old name of `portparity.localise`."""

from ._moved import moved

moved(__name__, "parity_tests.localise", "portparity.localise")
