"""The old name of `portparity.examples.classifier`."""

from .._moved import moved

moved(__name__, "parity_tests.examples.classifier", "portparity.examples.classifier")
