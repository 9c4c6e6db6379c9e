"""The old name of `portparity.report`."""

from ms_ddpm._moved import moved

moved(__name__, "portparity.report", "parity_tests.report")
