"""The old name of `portparity.ports`."""

from ms_ddpm._moved import moved

moved(__name__, "portparity.ports", "parity_tests.ports")
