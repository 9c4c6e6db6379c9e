"""ms_ddpm's networks in diffusers' directories."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import ms_ddpm
from ms_ddpm.storage import tensorfile
from parity_tests.backends.shared_mindspore import RNG
from portparity.arrays import given
from portparity.case import Arrays

from .networks import NETWORKS

# What an image's attention was called until 2023. A transformer's, in attn1 and attn2, never was.
_ATTENTION = re.compile(r"(attentions\.\d+)\.(to_q|to_k|to_v|to_out\.0)\.")
_OLDER = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def older_name(net: str, name: str) -> str:
    """What files of before 2023, and those of transformers 4, call the weight ``name``."""
    if net == "clip_text":
        return f"text_model.{name}"
    return _ATTENTION.sub(lambda found: f"{found[1]}.{_OLDER[found[2]]}.", name)


def sd_files(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The given weights through a file into our network, and what stands in the file that it writes."""
    make = {**NETWORKS, "clip_text": ms_ddpm.CLIPTextModel}[spec["net"]]
    kind = type(net := make(**spec["arguments"], rng=RNG))
    weights = given(inputs, "weight")
    if spec["older"]:
        weights = {older_name(spec["net"], name): value for name, value in weights.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{kind.WEIGHTS}.safetensors"
        net.save_pretrained(folder)  # for its configuration; the given weights take the place of its own
        file.write_bytes(tensorfile.serialise(weights, {"format": "pt"}))
        again = kind.from_pretrained(folder)
        again.save_pretrained(folder)
        return {f"weight.{name}": value for name, value in tensorfile.read(file).items()}
