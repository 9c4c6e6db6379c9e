"""LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924, eq. 1) and what stands in for it without its weights.

Names in the state dict are those of the published files: ``features.*`` torchvision's, ``lin*.model.1.weight`` the
authors'.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Fire(nn.Module):
    """Iandola et al. 2016 (https://arxiv.org/abs/1602.07360), section 3.2."""

    def __init__(self, dim: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(dim, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> (B, 2 expand, H, W)."""
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], dim=1)


def squeezenet() -> tuple[nn.Sequential, tuple[int, ...]]:
    """SqueezeNet 1.1's features, and the layers looked at."""
    pool = [nn.MaxPool2d(3, stride=2, ceil_mode=True) for _ in range(3)]
    features = nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool[0], Fire(64, 16, 64), Fire(128, 16, 64), pool[1],
        Fire(128, 32, 128), Fire(256, 32, 128), pool[2], Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256),
        Fire(512, 64, 256),
    )  # fmt: skip
    return features, (1, 4, 7, 9, 10, 11, 12)


def alexnet() -> tuple[nn.Sequential, tuple[int, ...]]:
    """AlexNet's features (Krizhevsky 2014, https://arxiv.org/abs/1404.5997), and the layers looked at."""
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    return features, (1, 4, 7, 9, 11)


def vgg16() -> tuple[nn.Sequential, tuple[int, ...]]:
    """VGG-16's features (Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556), and the layers looked at."""
    layers: list[nn.Module] = []
    for widths in ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512)):
        if layers:
            layers.append(nn.MaxPool2d(2))
        for dim, dim_out in pairwise(widths):
            layers += [nn.Conv2d(dim, dim_out, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers), (3, 8, 15, 22, 29)


NETWORKS = {
    "squeeze": (squeezenet, (64, 128, 256, 384, 384, 512, 512)),
    "alex": (alexnet, (64, 192, 384, 256, 256)),
    "vgg": (vgg16, (64, 128, 256, 512, 512)),
}


class Lin(nn.Module):
    """One weight per channel; its dropout was for learning them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(dim, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        return self.model(x)


def unit_length(x: Tensor) -> Tensor:
    """x / ||x|| over the channels of each pixel."""
    return x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)


class LPIPS(nn.Module):
    """d(x, y) = sum over layers of mean over pixels of w . (x'/||x'|| - y'/||y'||)^2."""

    def __init__(self, net: str = "squeeze") -> None:
        super().__init__()
        build, widths = NETWORKS[net]
        self.features, self.taps = build()
        for i, width in enumerate(widths):
            self.add_module(f"lin{i}", Lin(width))
        self.requires_grad_(False)
        self.eval()

    def tapped(self, x: Tensor) -> list[Tensor]:
        """The layers looked at, of images (B, 1 or 3, H, W) in [0, 1]."""
        shift = x.new_tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
        scale = x.new_tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)
        x = (2 * x - 1 - shift) / scale
        found = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                found.append(x)
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Images in [0, 1] -> distances (B,)."""
        total = 0
        for i, (of_x, of_y) in enumerate(zip(self.tapped(x), self.tapped(y), strict=True)):
            squared = (unit_length(of_x) - unit_length(of_y)) ** 2
            total = total + self.get_submodule(f"lin{i}")(squared).mean(dim=(1, 2, 3))
        return total


def gradient_loss(x: Tensor, y: Tensor, scales: int = 4, eps: float = 1e-3) -> Tensor:
    """Multi-scale gradient loss (Li & Snavely 2018, https://arxiv.org/abs/1804.00607, eq. 4), no perceptual metric.

    Mean over scales 1, 1/2, 1/4 ... of rho(d/dx (x - y)) + rho(d/dy (x - y)), with rho(d) = sqrt(d^2 + eps^2) - eps
    where the paper has |d|. (B, C, H, W) twice -> scalar.
    """

    def rho(d: Tensor) -> Tensor:
        return (torch.sqrt(d**2 + eps**2) - eps).mean()

    r, terms = x - y, []
    while len(terms) < scales and min(r.shape[2:]) >= 2:
        terms.append(rho(r.diff(dim=3)) + rho(r.diff(dim=2)))
        r = F.avg_pool2d(r, 2)
    return torch.stack(terms).mean()
