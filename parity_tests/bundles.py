"""The old name of `portparity.bundles`."""

from ms_ddpm._moved import moved

moved(__name__, "portparity.bundles", "parity_tests.bundles")
