"""Tier "peers" of the text encoder: transformers' CLIPTextModel is the truth, in double, and the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from parity_tests.make import cases
from parity_tests.peers import of_installed
from portparity.arrays import perturbed
from portparity.case import Arrays, Case

from .cases import NETWORKS, network_computation


def transformers_leg(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Every token's vector, the end's, and the gradients of all parameters, whose names are those of torch_ref's."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from portparity.on_torch import load, tensor, vjp

    class WithEnd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = CLIPTextModel(CLIPTextConfig(**spec["arguments"], bos_token_id=0))

        def forward(self, ids):
            found = self.net(ids)
            return torch.cat([found.last_hidden_state, found.pooler_output[:, None]], 1)

    module = WithEnd()
    load(module, inputs, dtype)
    args = {"ids": tensor(inputs["ids"], dtype)}
    return vjp(module, module, args, tensor(inputs["cotangent"], dtype), (), dtype)


def transformers_cases(seed: int = 0) -> Iterator[Case]:
    """Both text encoders, each once."""
    for name in NETWORKS:
        made = network_computation(name, "pynative", seed)
        spec = {**made.spec, "reference": "transformers"}
        reference = partial(transformers_leg, spec)
        references = (reference, *(perturbed(reference, i) for i in range(len(made.references) - 1)))
        made = replace(
            made, key=f"peers/transformers/{name}", truth=partial(transformers_leg, spec, dtype="float64"),
            references=references, further=(), spec=spec,
        )  # fmt: skip
        yield from cases("peers", made, mode="pynative")


def tier_peers(seed: int = 0) -> Iterator[Case]:
    """transformers, where it is installed."""
    yield from of_installed(LIBRARIES, seed)


LIBRARIES = {("transformers",): transformers_cases}
