"""Layers, and what networks are put together from: norms, attention, embeddings, blocks. Whole ones are in `models`."""

from .. import _prepare

_prepare()
