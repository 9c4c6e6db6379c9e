"""The old name of `portparity.bundles`."""

from ._moved import moved

moved(__name__, "parity_tests.bundles", "portparity.bundles")
