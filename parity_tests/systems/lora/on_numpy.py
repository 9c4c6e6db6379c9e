"""What LoRA files give back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from portparity.case import Arrays


def lora_files(spec: Mapping, inputs: Arrays) -> Arrays:
    """The weights as they are, and each adapter's alpha at every layer it is in."""
    weights = {name: value for name, value in inputs.items() if name.startswith("weight.")}
    layers = [name.removeprefix("weight.").removesuffix(".A") for name in weights if name.endswith(".A")]
    alphas = {adapter: options["alpha"] for adapter, options in spec["adapters"].items()}
    return weights | {f"alpha.{layer}": np.float32(alphas[layer.partition(".")[0]]) for layer in layers}


KINDS = {"lora_files": lora_files}
