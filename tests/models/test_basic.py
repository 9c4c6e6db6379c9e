"""BasicNet and its pooling: the PyTorch class of docs/systems.md's article loads, and ties go where PyTorch's go."""

import importlib

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from ms_ddpm.ops import kernels

ARTICLE = {
    "down_layers.0.weight": (32, 1, 5, 5), "down_layers.0.bias": (32,), "down_layers.1.weight": (64, 32, 5, 5),
    "down_layers.1.bias": (64,), "down_layers.2.weight": (64, 64, 5, 5), "down_layers.2.bias": (64,),
    "up_layers.0.weight": (64, 64, 5, 5), "up_layers.0.bias": (64,), "up_layers.1.weight": (32, 64, 5, 5),
    "up_layers.1.bias": (32,), "up_layers.2.weight": (1, 32, 5, 5), "up_layers.2.bias": (1,),
}  # fmt: skip


def test_names_and_shapes_are_those_of_the_documents_class(mindspore):
    from ms_ddpm.models.basic import BasicNet
    from torch_ref.systems.corruption.basic_net import BasicNet as Reference

    shapes = {name: tuple(p.shape) for name, p in BasicNet(rng=0).parameters_and_names()}
    assert shapes == ARTICLE
    assert {name: tuple(p.shape) for name, p in Reference().state_dict().items()} == ARTICLE
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 309_057


@pytest.mark.parametrize("by_kernels", [False, True])
def test_a_pytorch_checkpoint_gives_the_same_images(mindspore, rng, by_kernels):
    import torch

    from ms_ddpm import convert
    from ms_ddpm.models.basic import BasicNet
    from torch_ref.systems.corruption.basic_net import BasicNet as Reference

    if by_kernels and kernels.why_not():
        pytest.skip(kernels.why_not())
    torch.manual_seed(0)
    reference, net = Reference(), BasicNet(use_kernels=by_kernels)
    state = {name: value.numpy() for name, value in reference.state_dict().items()}
    convert.from_torch(net, state)
    assert all(np.array_equal(value, state[name]) for name, value in convert.to_torch(net).items())
    with pytest.raises(UserError, match=r"missing up_layers\.2\.bias; unexpected bias"):
        convert.from_torch(net, {("bias" if name == "up_layers.2.bias" else name): v for name, v in state.items()})
    x = rng.random((2, 1, 28, 28), dtype=np.float32)
    assert np.abs(net(mindspore.Tensor(x)).asnumpy() - reference(torch.tensor(x)).detach().numpy()).max() < 2e-6


def test_initial_weights_follow_pytorchs_distribution(mindspore):
    from ms_ddpm.models.basic import BasicNet

    net = BasicNet(rng=0)
    for layer in (*net.down_layers, *net.up_layers):
        bound = np.prod(layer.weight.shape[1:]) ** -0.5
        weight = layer.weight.asnumpy()
        assert 0.95 * bound < np.abs(weight).max() <= bound
        assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.06)
        assert np.abs(layer.bias.asnumpy()).max() <= bound


@pytest.mark.parametrize("backend", ["by_operators", "by_kernels"])
def test_of_equal_values_the_first_of_a_square_gets_the_gradient(mindspore, backend):
    import torch

    from ms_ddpm.ops.pooling import MaxPool2

    pool = MaxPool2()
    pool.place(importlib.import_module(f"ms_ddpm.ops.{backend}"))
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 6, 8)).astype(np.float32)  # full of ties
    cotangent = np.arange(2 * 3 * 3 * 4, dtype=np.float32).reshape(2, 3, 3, 4)
    order = (0, 2, 3, 1) if backend == "by_kernels" else (0, 1, 2, 3)
    back = np.argsort(order)

    def pulled(x, cotangent):
        return (pool(x) * cotangent).sum()

    given = (mindspore.Tensor(a.transpose(order).copy()) for a in (x, cotangent))
    gradient = mindspore.grad(pulled)(*given).asnumpy().transpose(back)
    leaf = torch.tensor(x, requires_grad=True)
    (torch.nn.MaxPool2d(2)(leaf) * torch.tensor(cotangent)).sum().backward()
    assert np.array_equal(gradient, leaf.grad.numpy())


@pytest.mark.parametrize("by_kernels", [False, True])
def test_a_network_that_has_diverged_says_so(mindspore, rng, by_kernels):
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.ops.assign import set_value

    if by_kernels and kernels.why_not():
        pytest.skip(kernels.why_not())
    x = mindspore.Tensor(rng.random((1, 1, 8, 8), dtype=np.float32))
    for place in (0, 3):
        net = BasicNet(widths=(3, 4), rng=0, use_kernels=by_kernels)
        layer = [*net.down_layers, *net.up_layers][place]
        set_value(layer.bias, np.full(layer.bias.shape, np.nan))
        assert np.isnan(net(x).asnumpy()).all()


def test_stock_relu_still_hides_nan(mindspore):
    """Why `ops.relu.ReLU` exists; when this fails it may go."""
    from mindspore import Tensor, ops

    from ms_ddpm.ops.relu import ReLU

    values = np.array([np.nan, -np.inf, -1, -0.0, 0, 2, np.inf] * 10, np.float32)
    assert np.array_equal(ReLU()(Tensor(values)).asnumpy()[:7], [np.nan, 0, 0, 0, 0, 2, np.inf], equal_nan=True)
    assert ops.relu(Tensor(values)).asnumpy()[0] == 0


def test_stock_maximum_still_shares_its_gradient_among_equals(mindspore):
    """Why `ops.pooling.Larger` has a gradient of its own; when this fails it may go."""
    from mindspore import Tensor, ops

    def total(a, b):
        return ops.maximum(a, b).sum()

    one = Tensor(np.ones(1, np.float32))
    assert [float(g.asnumpy()[0]) for g in mindspore.jit(mindspore.grad(total, (0, 1)))(one, one)] == [0.5, 0.5]


def test_wanted_kernels_that_are_not_there_are_an_error(mindspore):
    from ms_ddpm.models.basic import BasicNet

    with kernels.switched_off():
        assert not BasicNet(widths=(3, 4), rng=0).by_kernels
        with pytest.raises(UserError, match="cannot be used"):
            BasicNet(widths=(3, 4), rng=0, use_kernels=True)
