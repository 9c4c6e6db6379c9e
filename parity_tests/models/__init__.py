"""Originals and ports on which `portparity.check` is tried: small, and with what real ones are made of."""
