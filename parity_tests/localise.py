"""The old name of `portparity.localise`."""

from ms_ddpm._moved import moved

moved(__name__, "portparity.localise", "parity_tests.localise")
