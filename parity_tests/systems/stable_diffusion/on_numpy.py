"""Guidance in float64."""

from __future__ import annotations

from collections.abc import Mapping

from portparity.case import Arrays

from . import oracle


def sd_guided(spec: Mapping, inputs: Arrays) -> Arrays:
    """The guided output."""
    return {"eps": oracle.guided(inputs["plain"], inputs["prompted"], spec["scale"], spec["share"])[0]}


def sd_guided_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """The magnitude of its larger operand."""
    return {"eps": oracle.guided(inputs["plain"], inputs["prompted"], spec["scale"], spec["share"])[1]}


KINDS = {"sd_guided": sd_guided, "sd_guided_scales": sd_guided_scales}
