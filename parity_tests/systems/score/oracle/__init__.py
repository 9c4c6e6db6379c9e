"""Score models from their SDEs alone (`models`), and the layers of score networks (`nets`), in float64."""
