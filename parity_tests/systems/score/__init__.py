"""Score models: SDEs, losses, samplers and likelihood (`models`), and the networks that estimate a score (`nets`)."""
