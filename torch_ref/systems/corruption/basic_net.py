"""BasicNet: three 5x5 convolutions down, three up, skips added (docs/systems.md: the corruption article's)."""

from torch import Tensor, nn


class BasicNet(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W), H and W divisible by 4. A ReLU ends it too, as there."""

    def __init__(self, in_channels: int = 1, out_channels: int = 1, widths: tuple[int, int] = (32, 64)) -> None:
        super().__init__()
        wide, deep = widths

        def conv(dim: int, dim_out: int) -> nn.Conv2d:
            return nn.Conv2d(dim, dim_out, kernel_size=5, padding=2)

        self.channels = in_channels
        self.down_layers = nn.ModuleList([conv(in_channels, wide), conv(wide, deep), conv(deep, deep)])
        self.up_layers = nn.ModuleList([conv(deep, deep), conv(deep, wide), conv(wide, out_channels)])
        self.act = nn.ReLU()
        self.downscale = nn.MaxPool2d(2)
        self.upscale = nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        """The skips are what a layer gives before it is pooled."""
        skips = []
        for i, layer in enumerate(self.down_layers):
            x = self.act(layer(x))
            if i < 2:
                skips.append(x)
                x = self.downscale(x)
        for i, layer in enumerate(self.up_layers):
            if i > 0:
                x = self.upscale(x) + skips.pop()
            x = self.act(layer(x))
        return x
