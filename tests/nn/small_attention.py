"""The smallest network with diffusers' names of attention, in MindSpore and in PyTorch."""

from mindspore import nn, ops

from ms_ddpm.nn.layers import Conv2d, Linear


class SmallAttention(nn.Cell):
    """softmax(q k^T / sqrt(6)) v and a projection: (B, T, 5) -> the same, 6 wide inside."""

    def __init__(self, rng):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (Linear(5, 6, bias=False, rng=rng) for _ in range(3))
        self.to_out = nn.CellList([Linear(6, 5, rng=rng)])

    def construct(self, x):
        weights = ops.softmax(ops.bmm(self.to_q(x), self.to_k(x).swapaxes(1, 2)) / 6**0.5, -1)
        return self.to_out[0](ops.bmm(weights, self.to_v(x)))


class _Of(nn.Cell):
    """A Cell with one child of the given name."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)


class SmallBlock(nn.Cell):
    """(B, 3, H, W) -> (B, H/2 W/2, 5): a 3x3 convolution of stride 2, one of 1x1, attention over the pixels."""

    def __init__(self, rng):
        super().__init__()
        block = _Of(attn1=SmallAttention(rng))
        attention = _Of(proj_in=Conv2d(4, 5, 1, rng=rng), transformer_blocks=nn.CellList([block]))
        resnet = _Of(conv1=Conv2d(3, 4, 3, stride=2, padding=1, rng=rng))
        parts = _Of(attentions=nn.CellList([attention]), resnets=nn.CellList([resnet]))
        self.down_blocks = nn.CellList([parts])

    def construct(self, x):
        parts = self.down_blocks[0]
        y = parts.attentions[0].proj_in(parts.resnets[0].conv1(x))
        tokens = y.reshape(y.shape[0], y.shape[1], -1).swapaxes(1, 2)
        return parts.attentions[0].transformer_blocks[0].attn1(tokens)


def torch_twin():
    """The same in PyTorch, with the same names of its weights."""
    import torch

    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.to_q, self.to_k, self.to_v = (torch.nn.Linear(5, 6, bias=False) for _ in range(3))
            self.to_out = torch.nn.ModuleList([torch.nn.Linear(6, 5)])

        def forward(self, x):
            weights = torch.softmax(self.to_q(x) @ self.to_k(x).transpose(1, 2) / 6**0.5, -1)
            return self.to_out[0](weights @ self.to_v(x))

    class Of(torch.nn.Module):
        def __init__(self, **children):
            super().__init__()
            for name, child in children.items():
                setattr(self, name, child)

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            listed = torch.nn.ModuleList
            block = Of(attn1=Attention())
            attention = Of(proj_in=torch.nn.Conv2d(4, 5, 1), transformer_blocks=listed([block]))
            resnet = Of(conv1=torch.nn.Conv2d(3, 4, 3, stride=2, padding=1))
            self.down_blocks = listed([Of(attentions=listed([attention]), resnets=listed([resnet]))])

        def forward(self, x):
            parts = self.down_blocks[0]
            y = parts.attentions[0].proj_in(parts.resnets[0].conv1(x))
            return parts.attentions[0].transformer_blocks[0].attn1(y.flatten(2).transpose(1, 2))

    return Block()
