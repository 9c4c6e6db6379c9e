"""torch_ref's networks against diffusers' and transformers' own, where these are installed.

MindSpore's side of the same cases is in test_cases.py.
"""

import pytest

from parity_tests.systems.clip_text import peers as clip_text
from parity_tests.systems.stable_diffusion import peers as stable_diffusion
from portparity import run
from portparity.verdict import AGREE

CASES = [
    case
    for tier in (clip_text, stable_diffusion)
    for case in tier.tier_peers()
    if "torch" in case.computation.candidates
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_torch_ref_agrees(case):
    pytest.importorskip("torch")
    [outcome] = run([case], "torch")
    assert outcome.verdict == AGREE, outcome.message


def test_every_network_is_compared_with_the_kernels_and_without():
    pytest.importorskip("diffusers")
    ids = {case.id for case in stable_diffusion.tier_peers()}
    assert len(ids) == 10
    assert {name.removesuffix("-kernels") for name in ids} == {case.id for case in CASES if "/sd_" in case.id}
