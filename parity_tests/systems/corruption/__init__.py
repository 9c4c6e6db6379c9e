"""Learning by corruption."""
