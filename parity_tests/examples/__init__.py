"""The old place of `portparity.examples`."""
