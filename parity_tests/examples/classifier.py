"""The old name of `portparity.examples.classifier`."""

from ms_ddpm._moved import moved

moved(__name__, "portparity.examples.classifier", "parity_tests.examples.classifier")
