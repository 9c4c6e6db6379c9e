"""An adapter as training leaves it."""

import numpy as np


def trained(adapters, name, rng, **options):
    """A new adapter with a B that is not 0, so that it does something."""
    adapters.add(name, rng=rng, **options)
    factors = {
        path: made._replace(up=0.3 * rng.standard_normal(made.up.shape).astype(np.float32))
        for path, made in adapters.factors(name).items()
    }
    adapters.load(name, factors, scale=options.get("scale", 1.0))
    return factors
