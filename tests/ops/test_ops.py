"""Framework workarounds: that they work, and whether the fault behind each is still there."""

import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.graph  # operators inside graphs have faults of their own


def test_expm1_is_exact_where_mindspores_cancels(mindspore):
    from ms_ddpm.ops.expm1 import expm1

    x = np.array([-1e-3, -1e-2, -0.1, -1, -20], np.float32)
    truth = np.expm1(x.astype(np.float64))
    ours = np.abs(expm1(mindspore.Tensor(x)).asnumpy() / truth - 1)
    assert ours.max() < 3e-7
    stock = np.abs(mindspore.ops.expm1(mindspore.Tensor(x)).asnumpy() / truth - 1)
    assert stock.max() > 1e-6, "ops.expm1 is exact now: ms_ddpm/ops/expm1.py can go"


def _graphs_see(mindspore, put):
    from mindspore import Parameter, nn, ops

    class Weight(nn.Cell):
        def __init__(self):
            super().__init__()
            self.w = Parameter(np.ones(3, np.float32), name="w")

        def construct(self, x):
            return (self.w * x).sum()

    cell = Weight()

    @mindspore.jit
    def read(x):
        return cell(x)

    @mindspore.jit
    def change(x):
        return ops.assign(cell.w, cell.w - x)

    x = mindspore.Tensor(np.ones(3, np.float32))
    change(x), read(x)
    put(cell.w, np.full(3, 5, np.float32))
    first = float(read(x).asnumpy())
    change(x)
    return first, float(read(x).asnumpy()), float(cell.w.asnumpy()[0])


def test_set_value_is_seen_by_graphs_that_have_run(mindspore):
    from ms_ddpm.ops.assign import set_value

    assert _graphs_see(mindspore, set_value) == (15, 12, 4)


def test_set_data_is_still_not_seen(mindspore):
    seen = _graphs_see(mindspore, lambda p, value: p.set_data(mindspore.Tensor(value)))
    assert seen != (15, 12, 4), "Parameter.set_data reaches graphs now: ms_ddpm/ops/assign.py can go"


@pytest.fixture(scope="module")
def dropout_graph(mindspore):
    from ms_ddpm.ops.dropout import HashDropout

    layers = [HashDropout(0.25, layer) for layer in range(2)]

    @mindspore.jit
    def graph(x, key):
        return layers[0](x, key), layers[1](x, key)

    def run(key):
        x = mindspore.Tensor(np.ones((64, 256), np.float32))
        return [y.asnumpy() for y in graph(x, mindspore.Tensor(key, mindspore.int32))]

    return run


def test_dropout_masks_are_a_function_of_key_and_layer(dropout_graph):
    first, other_layer = dropout_graph(7)
    assert np.array_equal(first, dropout_graph(7)[0])
    assert not np.array_equal(first, other_layer)
    assert not np.array_equal(first, dropout_graph(8)[0])


def test_dropout_keeps_the_share_it_says_and_the_mean(dropout_graph):
    """16,384 draws: a share off by 0.02 is 6 standard deviations."""
    for key in (-(2**31), -1, 0, 12345):
        for y in dropout_graph(key):
            kept = (y != 0).mean()
            assert abs(kept - 0.75) < 0.02, kept
            assert np.allclose(y[y != 0], 1 / 0.75)
            for axis in (0, 1):  # no stripes
                assert np.ptp((y != 0).mean(axis)) < 0.6


def test_dropout_masks_of_neighbouring_keys_are_independent(dropout_graph):
    masks = [dropout_graph(key)[0].ravel() != 0 for key in range(4)]
    correlation = np.corrcoef(masks)
    assert np.abs(correlation - np.eye(4)).max() < 0.05, correlation


@pytest.mark.parametrize(
    ("name", "low", "high"), [("exp", -20, 3), ("log", 0.5, 2), ("tanh", -3, 3)], ids=["exp", "log", "tanh"]
)
def test_elementary_functions_are_exact_and_still_needed(mindspore, name, low, high):
    """Within one float of the exact value where they are computed wide, and MindSpore's own are not."""
    from mindspore import ops

    from ms_ddpm.ops import elementary

    x = np.random.default_rng(0).uniform(low, high, 100_000).astype(np.float32)
    truth = getattr(np, name)(x.astype(np.float64))
    unit = np.spacing(np.abs(truth).astype(np.float32)).astype(np.float64)
    own = getattr(ops, name)

    def worst(function):
        y = function(mindspore.Tensor(x)).asnumpy().astype(np.float32)
        return np.max(np.abs(y - truth) / unit)

    assert worst(lambda x: own(elementary.wide(x))) <= 1
    if name == "exp":
        assert worst(elementary.exp) <= 1
    assert worst(own) > 4, f"MindSpore's own {name} is exact now: ops/elementary.py can go"


def test_sigmoid_is_exact_and_still_needed(mindspore):
    from ms_ddpm.ops.elementary import sigmoid

    x = np.random.default_rng(0).uniform(-20, 20, 100_000).astype(np.float32)
    truth = 1 / (1 + np.exp(-x.astype(np.float64)))

    def worst(function):  # in units of 1
        return np.max(np.abs(function(mindspore.Tensor(x)).asnumpy() - truth)) * 2**24

    assert worst(sigmoid) <= 1
    assert worst(mindspore.ops.sigmoid) > 4, "MindSpore's own sigmoid is exact now: ops.elementary.sigmoid can go"


def test_sums_over_batch_and_pixels_by_products_are_those_of_the_arrays(mindspore):
    from ms_ddpm.ops.sums import batch_mean, spread_all

    rng = np.random.default_rng(0)
    x, gain = rng.standard_normal((3, 5, 2, 4)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    mean = batch_mean(mindspore.Tensor(x)).asnumpy()
    assert mean == pytest.approx(x.mean(axis=(0, 2, 3), keepdims=True), abs=1e-6)

    def gained(g):
        return (spread_all(g, mindspore.Tensor(x)) * mindspore.Tensor(x)).sum()

    gradient = mindspore.grad(gained)(mindspore.Tensor(gain)).asnumpy()
    assert gradient == pytest.approx(x.sum(axis=(0, 2, 3)), abs=1e-5)
    spread = spread_all(mindspore.Tensor(gain), mindspore.Tensor(x)).asnumpy()
    assert np.array_equal(spread, np.broadcast_to(gain[None, :, None, None], x.shape))


def test_sums_by_products_are_those_of_the_arrays(mindspore):
    from ms_ddpm.ops.sums import channel_sum, spread

    rng = np.random.default_rng(0)
    x, gain = rng.standard_normal((2, 5, 3, 4)).astype(np.float32), rng.standard_normal((2, 5, 1, 1)).astype(np.float32)
    assert channel_sum(mindspore.Tensor(x)).asnumpy() == pytest.approx(x.sum(axis=1, keepdims=True), abs=1e-6)

    def gained(g):
        return (spread(g, mindspore.Tensor(x)) * mindspore.Tensor(x)).sum()

    gradient = mindspore.grad(gained)(mindspore.Tensor(gain)).asnumpy()
    assert gradient == pytest.approx(x.sum(axis=(2, 3), keepdims=True), abs=1e-5)
    assert spread(mindspore.Tensor(gain), mindspore.Tensor(x)).asnumpy() == pytest.approx(
        np.broadcast_to(gain, x.shape)
    )


def test_a_vector_is_split_into_as_many_pieces_as_any_network_has_parameters(mindspore):
    """1,000 of different sizes, in one graph: Stable Diffusion's has 686."""
    from mindspore import Tensor, ops

    from ms_ddpm.devices.runtime import compiled
    from ms_ddpm.ops.split import AT_ONCE, Pieces

    sizes = tuple(1 + 7 * i % 5 for i in range(1000))
    assert len(sizes) > AT_ONCE
    pieces = Pieces(sizes)

    def some(flat):
        parts = pieces(flat)
        return ops.concat((parts[999], parts[640], parts[63], parts[0]))

    flat = np.arange(sum(sizes), dtype=np.float32)
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    expected = np.concatenate([parts[i] for i in (999, 640, 63, 0)])
    np.testing.assert_array_equal(compiled(some)(Tensor(flat)).asnumpy(), expected)


def test_more_groups_than_one_operator_takes_are_split_in_turn(mindspore):
    from mindspore import Tensor

    from ms_ddpm.ops.split import AT_ONCE, Pieces

    sizes = [1, 2] * (AT_ONCE * AT_ONCE // 2 + 1)
    pieces = Pieces(sizes)
    assert pieces.inner is not None
    flat = np.arange(sum(sizes), dtype=np.float32)
    found = pieces(Tensor(flat))
    assert [p.shape[0] for p in found] == sizes
    np.testing.assert_array_equal(np.concatenate([p.asnumpy() for p in found]), flat)


@pytest.mark.slow  # of MindSpore alone: no change here makes it pass or fail
def test_one_split_by_many_sizes_is_still_too_deep(mindspore):
    """When this fails, `ms_ddpm.ops.split` can go."""
    from mindspore import Tensor
    from mindspore.ops.auto_generate import SplitWithSize

    from ms_ddpm.devices.runtime import compiled

    split, sizes = SplitWithSize(), (1,) * 300

    def pieces(flat):
        return split(flat, sizes, 0)[0]

    with pytest.raises(RuntimeError, match="Exceed function call depth limit"):
        compiled(pieces)(Tensor(np.zeros(300, np.float32)))


@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_one_of_two_arrays_is_chosen_and_nan_in_the_other_stays_out(mindspore, shape):
    from mindspore import Tensor

    from ms_ddpm.devices.runtime import compiled
    from ms_ddpm.ops.choose import choose

    graph = compiled(choose)
    x, bad = np.arange(np.prod(shape), dtype=np.float32).reshape(shape), np.full(shape, np.nan, np.float32)
    for condition, first, second in ((True, x, bad), (False, bad, x)):
        np.testing.assert_array_equal(graph(Tensor(condition), Tensor(first), Tensor(second)).asnumpy(), x)


PEAK_OF_CHOICE = """
import sys
import numpy as np
from ms_ddpm import runtime
runtime.setup("CPU")
from mindspore import Tensor, ops
from ms_ddpm.ops.choose import choose
chosen = {"choose": choose, "select": ops.select}[sys.argv[1]]
x, y = (Tensor(np.full(25_000_000, value, np.float32)) for value in (1.0, 2.0))
before = runtime.peak_rss_mb()
runtime.compiled(chosen)(Tensor(True), x, y).asnumpy()
print((runtime.peak_rss_mb() - before) / (100e6 / 2**20))
"""


@pytest.mark.slow
def test_a_choice_by_a_scalar_takes_less_memory_than_select(mindspore, tmp_path):
    """When the second is no more than the first, `ms_ddpm.ops.choose` can go."""
    script = tmp_path / "peak.py"
    script.write_text(PEAK_OF_CHOICE)
    took = [
        float(subprocess.run([sys.executable, script, name], capture_output=True, text=True, check=True).stdout)
        for name in ("choose", "select")
    ]
    assert took[0] < 4, took
    assert took[1] > took[0] + 3, took


def test_the_parser_still_looks_up_the_source_of_every_cell(mindspore, monkeypatch):
    """When this fails, `ms_ddpm.ops.source_lines` can go."""
    import inspect
    import sys
    import types

    from mindspore import nn

    from ms_ddpm.ops import source_lines

    class Twice(nn.Cell):
        def construct(self, x):
            return x * 2

    looked = []
    counting = types.ModuleType("inspect")
    vars(counting).update(vars(inspect))
    counting.getsourcelines = lambda thing: looked.append(thing) or inspect.getsourcelines(thing)
    parser = sys.modules[source_lines.PARSER]
    monkeypatch.setattr(parser, "inspect", counting)
    net = nn.SequentialCell(*(Twice() for _ in range(5)))
    assert mindspore.jit(net.construct)(mindspore.Tensor(1.0)).asnumpy() == 32
    assert sum("Twice" in str(thing) for thing in looked) > 1


def test_a_source_is_looked_up_once_and_is_that_of_the_function_as_it_is(mindspore, monkeypatch, tmp_path):
    import inspect
    import sys

    from ms_ddpm.ops import source_lines

    assert sys.modules[source_lines.PARSER].inspect.getsourcelines is source_lines.getsourcelines
    looked, stock = [], inspect.getsourcelines
    monkeypatch.setattr(inspect, "getsourcelines", lambda thing: looked.append(thing) or stock(thing))
    monkeypatch.setattr(source_lines, "_found", {})

    def function():
        return 1

    first = source_lines.getsourcelines(function)
    assert first == stock(function)
    first[0].clear()  # whoever gets the lines may change them
    assert source_lines.getsourcelines(function) == stock(function)
    assert len(looked) == 1

    def function():  # a notebook's cell that runs again
        return 2

    assert source_lines.getsourcelines(function) == stock(function)
    assert source_lines.getsourcelines(tmp_path.__class__) == stock(tmp_path.__class__)
