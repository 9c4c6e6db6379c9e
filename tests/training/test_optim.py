"""Optimizers' state, bad settings, learning rates. Their numbers are for parity_tests (tier 4)."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError

SHAPES = ((3, 4), (5,), (2, 1, 2, 2))


def test_optimizer_state_survives_a_round_trip(mindspore, rng):
    from mindspore import Parameter, Tensor

    from ms_ddpm import AdamW

    def make():
        return AdamW([Parameter(Tensor(np.ones(s, np.float32)), name=f"p{i}") for i, s in enumerate(SHAPES)])

    names = ["a", "b", "c"]
    first, second = make(), make()
    first([Tensor(rng.standard_normal(s).astype(np.float32)) for s in SHAPES])
    state = first.state(names)
    assert state["exp_avg.a"].shape == SHAPES[0]
    second.load_state(names, state)
    for key, value in second.state(names).items():
        assert np.array_equal(value, state[key]), key


@pytest.mark.parametrize("options", [{"lr": -1}, {"betas": (1.0, 0.9)}, {"betas": (0.9,)}, {"eps": -1e-8}])
def test_impossible_settings_are_named(mindspore, options):
    from mindspore import Parameter, Tensor

    from ms_ddpm import Adam

    with pytest.raises(UserError, match=next(iter(options))):
        Adam([Parameter(Tensor(np.ones(1, np.float32)), name="p")], **options)


def test_learning_rates_warm_up_and_follow_their_curve():
    from ms_ddpm.training.lr_schedules import lr_schedule

    rate = lr_schedule("cosine", base_lr=2.0, total_steps=110, warmup_steps=10)
    assert [rate(step) for step in (0, 4)] == pytest.approx([2 / 11, 10 / 11])
    assert [rate(step) for step in (10, 60, 110)] == pytest.approx([2, 1, 0])
    assert lr_schedule(lambda step: max(0.2, 0.98**step), base_lr=1.0, total_steps=9)(200) == 0.2
    assert lr_schedule("linear", base_lr=1.0, total_steps=4)(3) == pytest.approx(0.25)
    assert lr_schedule("constant", base_lr=3.0, total_steps=4)(3) == 3
    for bad in ({"name_or_function": "exotic"}, {"warmup_steps": 4}):
        with pytest.raises(UserError):
            lr_schedule(**{"name_or_function": "constant", "base_lr": 1.0, "total_steps": 4, **bad})
