"""Every check of the harness, MindSpore against PyTorch, one line a check; what `scripts/parity.py check` runs.

A graph is compiled for seconds and run for milliseconds, so CI compiles what `COMPILED` names: every formula, every
layer, whatever has the kernels in it, and of everything else one or two of each kind. Of the others it runs the same
operators one by one, but for `LONG_RUNS`; scripts/test.sh --all compiles them all, and runs what `HALF` names.
"""

from collections import Counter
from contextlib import contextmanager
from unittest import mock

import pytest

from parity_tests.cases import TIERS, TITLES, all_cases
from portparity.backends import why_not
from portparity.memo import forget
from portparity.selection import matches
from portparity.verdict import AGREE

CASES = all_cases()
MEMBERS = {}
for _case in CASES:
    MEMBERS.setdefault(_case.computation, []).append(_case)
KEYS = {computation.key for computation in MEMBERS}
COMPILED = (
    "maths/*", "layers/*", "state/*", "*-kernels-*", "modes/loss_scale-*",
    "step/p_mean_variance-pred_v-learned-selfcond-clip", "step/p_sample-pred_noise-learned-selfcond-graph",
    "step/model_predictions-pred_x0-clip-rederived", "step/ddim-pred_v-selfcond-eta0.5", "step/corruption-graph",
    "step/sd_guided_rescaled-graph",
    "step/scheduler_ddpm-*-learned_range-threshold-graph", "step/scheduler_ddim-*-rederived-threshold-graph",
    "step/score_ve-flow-preconditioned-graph", "step/score_vp-heun-guided2.5-graph",
    "step/score_subvp-pc_image-guided0-graph", "step/score_vp-euler-plain-graph", "step/score_ve-denoise-plain-graph",
    "network/unet_2_3-graph", "network/basic_net-graph", "network/autoencoder_training-graph",
    "network/score_latent-graph",
    "training/loss-pred_v-l2-learned-selfcond-graph", "training/adam-graph", "training/adamw-graph", "training/clip-*",
    "training/ema*", "training/one_step_2_3-graph", "training/corruption_loss-uniform-graph",
    "training/score_loss-ve-preconditioned_classes-graph", "training/score_steps-standin-graph",
    "training/autoencoder-12_steps-graph",
    "sampling/ddpm-pred_*-fixed-plain", "sampling/ddpm-pred_v-learned-selfcond", "sampling/ddim_eta*-pred_v-*",
    "sampling/ddim_eta*-pred_noise-fixed-plain", "sampling/ddim_eta1-pred_x0-fixed-selfcond", "sampling/sample-*",
    "sampling/interpolate", "sampling/corruption_*", "sampling/scheduler_*", "sampling/latent_euler",
    "sampling/score_euler-ve-plain", "sampling/score_pc-vp-plain", "sampling/score_heun-subvp-plain",
    "sampling/score_ode-vp-plain", "sampling/score_pc-ve-scale2.5", "sampling/score_*-denoise1",
    "sampling/score_euler-vp-preconditioned1", "sampling/score_likelihood-vp", "sampling/unet_ddim_50_eta1",
    "sampling/sd_mask-pndm-graph",
    "peers/published/ddpm*", "peers/published/scheduler_ddpm-*", "peers/published/scheduler_ddpm_*",
    "peers/diffusers/chain-*-pred_v*", "peers/diffusers/sampling/*",
    "peers/diffusers/tables-*", "peers/diffusers/times-*", "peers/diffusers/maths/*",
    "peers/diffusers/ddpm-pred_v-cosine-fixed-clip", "peers/diffusers/ddim-pred_v-eta0.5-rederived",
)  # fmt: skip
IN_A_NETWORK = (  # layers that a network among `COMPILED` has, compiled there, and in PyNative by themselves
    "layers/block_rms-*", "layers/block_rms_plain-*", "layers/resnet_block_rms-*", "layers/resnet_block_rms_widens-*",
    "layers/linear_attention-*", "layers/attention-*", "layers/transformer_block-*", "layers/spatial_transformer-*",
    "layers/self_attention*", "layers/cross_attention*", "layers/gradient_loss-graph",
)  # fmt: skip
# Operator by operator they take as long or longer: many steps of which each is checked alone, in chains of which others
# are compiled. Of the long ones unet_ddim_50_eta1 and one_step_2_3 are.
LONG_RUNS = (
    "sampling/unet_ddpm_1000", "sampling/unet_ddim_50", "training/digits_200_steps-graph", "sampling/ddpm-*",
    "sampling/ddim_*", "sampling/score_*", "peers/published/scheduler_ddpm", "peers/diffusers/chain-*",
)  # fmt: skip
HALF = (  # of both layouts, both levels, a network and a training step CI sees each in one of three
    "network/unet_2_3-float16_O2-*", "network/unet_2022-float16_O1-*", "training/one_step_2_3-float16_O2-*",
    "training/one_step_2022-float16_O*",
)  # fmt: skip


def among(patterns, case):
    return any(matches(case, pattern) for pattern in patterns)


def behind_all(case):
    """Whether it is left to scripts/test.sh --all as it stands."""
    if case.mode == "pynative":
        return among(HALF, case)
    return not among(COMPILED, case) or (among(IN_A_NETWORK, case) and not case.computation.spec.get("kernels"))


def has_no_twin(case):
    """Whether no case of its own has the same computation in PyNative."""
    key = case.computation.key
    return case.mode == "graph" and key.removesuffix("-graph") + "-pynative" not in KEYS


WITHOUT = [case for case in CASES if behind_all(case) and has_no_twin(case) and not among(LONG_RUNS, case)]
PARAMETERS = [pytest.param(case, marks=pytest.mark.slow if behind_all(case) else ()) for case in CASES]


@contextmanager
def without_a_compiler():
    """Graphs are the functions that they are made of, and none is taken for one that was compiled."""
    ms = pytest.importorskip("mindspore")
    forget()
    with mock.patch.object(ms, "jit", lambda function, **options: function):
        yield
    forget()


def check(case, outcomes, *around):
    if reason := why_not("mindspore", case.computation.spec):
        pytest.skip(reason)
    outcome = outcomes(case, MEMBERS[case.computation], *around)
    assert outcome.verdict == AGREE, f"{outcome.message}; see: python scripts/parity.py check --case '{case.id}'"


@pytest.mark.parametrize("case", PARAMETERS, ids=lambda case: case.id)
def test_agrees(case, outcomes):
    check(case, outcomes)


@pytest.mark.parametrize("case", WITHOUT, ids=lambda case: case.id)
def test_agrees_operator_by_operator(case, outcomes):
    check(case, outcomes, without_a_compiler)


def test_there_are_at_least_400_checks_and_every_name_is_unique():
    names = Counter(case.id for case in CASES)
    assert len(names) >= 400
    assert [name for name, count in names.items() if count > 1] == []
    assert len(MEMBERS) == len({computation.key for computation in MEMBERS})


def test_every_tier_has_checks_and_calls_them_by_its_name():
    for tier in TIERS:
        ids = [case.id for case in CASES if case.tier == tier]
        assert ids, tier
        assert all(name.startswith(f"{TITLES[tier]}/") for name in ids), tier


def test_both_execution_modes_are_covered():
    for tier in ("0", "1", "2", "3", "4"):
        assert {case.mode for case in CASES if case.tier == tier} == {"graph", "pynative"}, tier


def test_the_kernels_are_judged_beside_what_they_replace():
    ids = {case.id for case in CASES}
    by_kernels = [name for name in ids if "-kernels-" in name]
    assert len(by_kernels) >= 500
    plain = {name.replace("-kernels-", "-") for name in by_kernels if name.startswith("network/")}
    assert plain <= ids
    assert {case.computation.spec.get("kernels", False) for case in CASES if "-kernels-" in case.id} == {True}


def test_specs_are_json_and_no_two_computations_share_one():
    import json

    specs = Counter(json.dumps(computation.spec, sort_keys=True) + computation.key for computation in MEMBERS)
    assert max(specs.values()) == 1


def test_no_pattern_of_what_ci_compiles_names_nothing():
    for pattern in (*COMPILED, *IN_A_NETWORK, *LONG_RUNS, *HALF):
        assert any(matches(case, pattern) for case in CASES), pattern


def test_ci_compiles_some_of_every_kind_and_leaves_out_no_arithmetic_but_long_runs():
    graphs = [case for case in CASES if case.mode == "graph"]
    kinds = {case.computation.spec["kind"] for case in graphs}
    left = kinds - {case.computation.spec["kind"] for case in graphs if not behind_all(case)}
    assert left == {"latent_loss", "gradient_loss"}  # with score_latent and latent_euler, and autoencoder-12_steps
    run = {case.id for case in WITHOUT}
    left = {case.id for case in graphs if behind_all(case) and has_no_twin(case)} - run
    assert {name.split("/")[0] for name in left} == {"sampling", "training", "peers"}
    assert len(left) < 50, left
