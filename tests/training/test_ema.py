"""The average of the weights swapped in and out. Its schedule is for parity_tests (training/ema*)."""

import numpy as np
import pytest


@pytest.fixture
def trained(mindspore):
    """A cell whose weight a graph increases by 1 a step."""
    from mindspore import Parameter, nn, ops

    class Counter(nn.Cell):
        def __init__(self):
            super().__init__()
            self.w = Parameter(np.zeros(2, np.float32), name="w")

    cell = Counter()

    @mindspore.jit
    def step(x):
        return ops.assign(cell.w, cell.w + x)

    one = mindspore.Tensor(np.ones(2, np.float32))
    return cell, lambda: step(one)


def test_the_defaults_are_ema_pytorchs(trained):
    """Acts at 1, 11, 21, ...; copies up to 101; call 111 averages with decay 1 - 11^(-2/3)."""
    from ms_ddpm import EMA

    ema = EMA(trained[0])
    assert (ema.update_every, ema.decay(101), ema.decay(10**9)) == (10, 0, 0.995)
    assert ema.decay(111) == pytest.approx(1 - 11 ** (-2 / 3))


def test_swapped_gives_graphs_the_average_and_then_the_weights_again(mindspore, trained):
    from ms_ddpm import EMA

    cell, step = trained
    ema = EMA(cell, update_every=2)

    @mindspore.jit
    def read(x):
        return cell.w + x

    zero = mindspore.Tensor(np.zeros(2, np.float32))
    for n in range(1, 7):
        step()
        ema.update()
        average = (n - 1) // 2 * 2 + 1
        with ema.swapped():
            assert read(zero).asnumpy()[0] == average
        assert read(zero).asnumpy()[0] == n
        assert cell.w.asnumpy()[0] == n


def test_swapped_restores_after_an_error_and_refuses_nesting(trained):
    from ms_ddpm import EMA

    cell, step = trained
    ema = EMA(cell)
    ema.update()
    step()
    with pytest.raises(ZeroDivisionError), ema.swapped():
        raise ZeroDivisionError
    assert cell.w.asnumpy()[0] == 1
    with ema.swapped():
        with pytest.raises(RuntimeError, match="swapped"), ema.swapped():
            pass
        with pytest.raises(RuntimeError, match="swapped"):
            ema.update()
    assert cell.w.asnumpy()[0] == 1
