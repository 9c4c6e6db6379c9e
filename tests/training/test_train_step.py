"""One update: what a batch that is not finite leaves behind, which is nothing."""

import numpy as np
import pytest

BAD_STEP = 2  # of seven
RATES = [1e-2, 2e-2, 5e-2, 3e-2, 1e-2, 4e-2, 2e-2]


@pytest.fixture(scope="module")
def line(mindspore):
    """w * x + b against y."""
    from mindspore import Parameter, nn

    class Line(nn.Cell):
        def __init__(self):
            super().__init__()
            self.w = Parameter(np.linspace(-1, 1, 6, dtype=np.float32), name="w")
            self.b = Parameter(np.zeros(1, np.float32), name="b")

        def construct(self, x, y):
            error = self.w * x + self.b - y
            return (error * error).mean()

    return Line


def batches(steps, accumulate):
    rng = np.random.default_rng(3)
    return [
        [tuple(rng.standard_normal((4, 6)).astype(np.float32) for _ in "xy") for _ in range(accumulate)]
        for _ in range(steps)
    ]


def trained(cell, steps, rates, accumulate, fused):
    """The results of ``steps``, and the weights and moments after them."""
    from ms_ddpm.training.amp import DynamicLossScale
    from ms_ddpm.training.optim import AdamW
    from ms_ddpm.training.train_step import TrainStep

    optimizer = AdamW(cell.trainable_params(), fused=fused)
    step = TrainStep(cell, optimizer, DynamicLossScale(enabled=False), max_grad_norm=0.5, accumulate=accumulate)
    results = [step(rate, inputs) for rate, inputs in zip(rates, steps, strict=True)]
    return results, {**{p.name: p.asnumpy().copy() for p in cell.trainable_params()}, **optimizer.state(["w", "b"])}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("accumulate", "fused", "place"), [(1, False, 0), (1, True, 0), (2, False, 0), (2, True, 1), (3, True, 1)]
)
def test_a_run_with_one_bad_batch_ends_where_the_run_without_that_step_ends(line, accumulate, fused, place, bad):
    """``place``: which batch of the step is bad."""
    if fused:
        kernels = pytest.importorskip("ms_ddpm.ops.kernels")
        if not kernels.available():
            pytest.skip("the kernels are not built")
    steps = batches(len(RATES), accumulate)
    without = steps[:BAD_STEP] + steps[BAD_STEP + 1 :]
    x, y = steps[BAD_STEP][place]
    steps[BAD_STEP][place] = (x, np.where(np.arange(6) == 2, np.float32(bad), y))
    results, ended = trained(line(), steps, RATES, accumulate, fused)
    rates = RATES[:BAD_STEP] + RATES[BAD_STEP + 1 :]
    good, expected = trained(line(), without, rates, accumulate, fused)
    assert [result.applied for result in results] == [number != BAD_STEP for number in range(len(RATES))]
    assert not np.isfinite(results[BAD_STEP].loss)
    assert [result.loss for result in results if result.applied] == [result.loss for result in good]
    for name, value in expected.items():
        np.testing.assert_array_equal(ended[name], value, err_msg=name)
