"""Whole networks. They know nothing of diffusion: a network maps (x, time, ...) to an array of the image's size."""

from .. import _prepare

_prepare()
