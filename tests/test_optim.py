"""Optimizers against float64 formulas: PyTorch's semantics, to float32 precision."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError

SHAPES = ((3, 4), (5,), (2, 1, 2, 2))


def adam64(weights, gradients, lr, betas, eps, weight_decay, decoupled):
    """Adam in float64, from the paper's Algorithm 1 (and Loshchilov & Hutter's Algorithm 2 for the decay)."""
    w = weights.astype(np.float64)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        g = g.astype(np.float64)
        if decoupled:
            w = w - lr * weight_decay * w
        else:
            g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


@pytest.mark.parametrize(("name", "decay"), [("Adam", 0.0), ("Adam", 0.1), ("AdamW", 0.1)])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.99), (0.0, 0.9)])
def test_adam_is_the_papers_to_float32_precision(mindspore, rng, name, decay, betas):
    from mindspore import Parameter, Tensor

    import ms_ddpm

    start = [rng.standard_normal(s).astype(np.float32) for s in SHAPES]
    parameters = [Parameter(Tensor(a), name=f"p{i}") for i, a in enumerate(start)]
    optimizer = getattr(ms_ddpm, name)(parameters, lr=1e-2, betas=betas, weight_decay=decay)

    @mindspore.jit
    def step(a, b, c):
        return optimizer((a, b, c))

    history = []
    for _ in range(20):
        gradients = [(rng.standard_normal(s) * 10.0 ** rng.integers(-9, 0, s)).astype(np.float32) for s in SHAPES]
        history.append(gradients)
        step(*map(Tensor, gradients))
    for i, parameter in enumerate(parameters):
        truth = adam64(start[i], [g[i] for g in history], 1e-2, betas, 1e-8, decay, name == "AdamW")
        moved = np.abs(truth - start[i]).max()
        assert moved > 0.02
        error = np.abs(parameter.asnumpy() - truth).max()
        assert error < 2e-6, f"{error:.2e} after moving {moved:.2f}"


def test_tiny_gradients_move_weights_as_in_pytorch(mindspore):
    """eps is added after the bias correction: at gradients of 1e-8 the first step is lr/2, not lr * 0.03."""
    from mindspore import Parameter, Tensor

    from ms_ddpm import Adam

    parameter = Parameter(Tensor(np.zeros(3, np.float32)), name="p")
    Adam([parameter], lr=1e-2)([Tensor(np.full(3, 1e-8, np.float32))])
    assert parameter.asnumpy() == pytest.approx(-5e-3, rel=1e-4)


def test_clipping_scales_as_pytorch_and_returns_the_norm(mindspore):
    from ms_ddpm.optim import clip_by_global_norm

    flat = np.array([3, 4], np.float32)
    for limit, expected in ((1.0, flat * (1 / (5 + 1e-6))), (10.0, flat)):
        clipped, norm = clip_by_global_norm(mindspore.Tensor(flat), limit)
        assert float(norm.asnumpy()) == pytest.approx(5)
        assert clipped.asnumpy() == pytest.approx(expected, rel=1e-6)
    _, norm = clip_by_global_norm(mindspore.Tensor(np.array([np.inf, 1], np.float32)), 1.0)
    assert np.isinf(norm.asnumpy())


def test_weight_decay_defaults_are_pytorchs(mindspore):
    from mindspore import Parameter, Tensor

    import ms_ddpm

    for name, decay in (("Adam", 0.0), ("AdamW", 0.01)):
        parameter = Parameter(Tensor(np.ones(1, np.float32)), name="p")
        getattr(ms_ddpm, name)([parameter], lr=0.5)([Tensor(np.zeros(1, np.float32))])
        assert parameter.asnumpy()[0] == pytest.approx(1 - 0.5 * decay)


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


def test_the_loss_scale_halves_on_overflow_and_doubles_after_the_interval(mindspore):
    from mindspore import Tensor

    from ms_ddpm.amp import DynamicLossScale

    scaler = DynamicLossScale(init_scale=8.0, growth_interval=3)
    seen = []
    for finite in (True, True, True, False, True, True, True, False, False):
        scaler.update(Tensor(finite))
        seen.append(scaler.state()["scale"])
    assert seen == [8, 8, 16, 8, 8, 8, 16, 8, 4]


@pytest.mark.parametrize("options", [{"lr": -1}, {"betas": (1.0, 0.9)}, {"betas": (0.9,)}, {"eps": -1e-8}])
def test_impossible_settings_are_named(mindspore, options):
    from mindspore import Parameter, Tensor

    from ms_ddpm import Adam

    with pytest.raises(UserError, match=next(iter(options))):
        Adam([Parameter(Tensor(np.ones(1, np.float32)), name="p")], **options)


def test_learning_rates_warm_up_and_follow_their_curve():
    from ms_ddpm.lr_schedules import lr_schedule

    rate = lr_schedule("cosine", base_lr=2.0, total_steps=110, warmup_steps=10)
    assert [rate(step) for step in (0, 4)] == pytest.approx([2 / 11, 10 / 11])
    assert [rate(step) for step in (10, 60, 110)] == pytest.approx([2, 1, 0])
    assert lr_schedule(lambda step: max(0.2, 0.98**step), base_lr=1.0, total_steps=9)(200) == 0.2
    assert lr_schedule("linear", base_lr=1.0, total_steps=4)(3) == pytest.approx(0.25)
    assert lr_schedule("constant", base_lr=3.0, total_steps=4)(3) == 3
    for bad in ({"name_or_function": "exotic"}, {"warmup_steps": 4}):
        with pytest.raises(UserError):
            lr_schedule(**{"name_or_function": "constant", "base_lr": 1.0, "total_steps": 4, **bad})
