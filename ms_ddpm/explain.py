"""What the parts of a convolutional network do to an image: convolution, pooling, activation, upsampling; and noise.

Each page is computed by MindSpore's operators on one image and drawn with captions; ``scripts/explain.py`` writes them.
Results of both signs are red above 0 and blue below. Sizes are true: what a convolution or a pooling makes smaller is
drawn smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mindspore import Tensor, ops

from . import figures
from .errors import UserError
from .random import stream

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 168  # pixels: about the larger side of the image as it is drawn
CELL = 30  # of a kernel's number
SMALLEST = 8  # pixels of a side, of which the largest kernel and two poolings leave something
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 4
KERNELS = {  # name: (kernel, whether its result has both signs)
    "blur: the mean of 3x3": (np.full((3, 3), 1 / 9, np.float32), False),
    "sharpen": (np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32), False),
    "edges, left to right": (SOBEL, True),
    "edges, top to bottom": (SOBEL.T.copy(), True),
    "outlines (Laplace)": (np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32), True),
}
WORDS = {  # of each page: its title, and what to look for
    "convolution": (
        "Convolution: every pixel becomes a weighted sum of its neighbours",
        "The numbers are the weights. Without padding a kernel of k pixels takes k - 1 from each side. Red is "
        "above 0, blue below. A network starts with random kernels, as in the last two, and learns better ones.",
    ),
    "kernel_sizes": (
        "Kernel sizes: how far a pixel sees",
        "A 1x1 kernel only scales (and may turn black into white). The larger it is, the more neighbours count "
        "and the more the borders lose; a padding of (k - 1)/2 zeros keeps the size, as in the networks here.",
    ),
    "pooling": (
        "Pooling: a square of pixels becomes one",
        "Max pooling keeps what answers most strongly anywhere in the square; of edges it keeps the red ones and "
        "forgets the blue. Average pooling blurs: red and blue cancel out. Squares of 2x2 halve the sides: what comes "
        "after sees twice as far.",
    ),
    "activation": (
        "Activation: what bends, so that layers are more than one",
        "ReLU sets everything below 0 to 0; LeakyReLU keeps a share of it, too pale to see at 0.01. PyTorch's "
        "nn.ReLU(0.01), which one meets, is no LeakyReLU: its first argument is inplace, and nothing leaks.",
    ),
    "upsampling": (
        "Upsampling: back to the size, not to the image",
        "Nearest repeats every pixel, bilinear goes evenly from one to the next. Neither brings back what the "
        "half no longer knows (the last picture): that is what a U-Net's skips carry past the bottom.",
    ),
}
Array = np.ndarray


# --- the operations: (C, H, W) float32 -> (C, H', W'), each channel by itself -----------------------------------------


def _each_channel(function: Callable[[Tensor], Tensor], image: Array) -> Array:
    return function(Tensor(np.ascontiguousarray(image[:, None], np.float32))).asnumpy()[:, 0]


def convolve(image: Array, kernel: Array, bias: float = 0.0, padding: int = 0) -> Array:
    """The image under ``kernel`` (k, k): what PyTorch's Conv2d does, without turning the kernel round.

    ``padding`` zeros are put around first; each side becomes H + 2 padding - k + 1.
    """
    size = len(kernel)
    conv = ops.Conv2D(1, size, pad_mode="pad", pad=padding)
    weight = Tensor(np.ascontiguousarray(kernel[None, None], np.float32))

    def apply(x: Tensor) -> Tensor:
        return conv(x, weight) + bias

    return _each_channel(apply, image)


def random_kernel(size: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Kernel (size, size) and bias as PyTorch's Conv2d(1, 1, size) starts with: uniform within +-1/size."""
    return rng.uniform(-1 / size, 1 / size, (size, size)).astype(np.float32), float(rng.uniform(-1 / size, 1 / size))


def pool(image: Array, size: int, kind: str) -> Array:
    """The largest (``kind`` "max") or the mean ("average") of every size x size square."""
    made = ops.MaxPool if kind == "max" else ops.AvgPool
    return _each_channel(made(kernel_size=size, strides=size, pad_mode="valid"), image)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "ReLU": lambda x: ops.relu(x),
    "LeakyReLU(0.01)": lambda x: ops.leaky_relu(x, 0.01),
    "LeakyReLU(0.2)": lambda x: ops.leaky_relu(x, 0.2),
    "SiLU": lambda x: ops.silu(x),
}


def activate(image: Array, name: str) -> Array:
    """Every value through the function called ``name`` in `ACTIVATIONS`."""
    return _each_channel(ACTIVATIONS[name], image)


def upsample(image: Array, mode: str, factor: int = 2) -> Array:
    """``factor`` times as large, by "nearest" neighbours or "bilinear" (pixels are squares, as in PyTorch)."""
    size = tuple(side * factor for side in image.shape[1:])

    def apply(x: Tensor) -> Tensor:
        if mode == "nearest":
            return ops.interpolate(x, size=size, mode="nearest")
        return ops.interpolate(x, size=size, mode="bilinear", align_corners=False)

    return _each_channel(apply, image)


# --- the pages -------------------------------------------------------------------------------------------------------


def _scale(image: Array) -> int:
    return max(1, round(SIDE / max(image.shape[1:])))


def _size(image: Array) -> str:
    return f"{image.shape[1]}x{image.shape[2]}"


class _Drawn:
    """Pictures of what one image became, all at its scale."""

    def __init__(self, image: Array):
        self.image, self.scale = image, _scale(image)
        self.height, self.width = (side * self.scale + 2 for side in image.shape[1:])

    def panel(
        self, made: Array, caption: str, *, both_signs: bool = False, largest: float | None = None,
        above: Image | None = None,
    ) -> Image:  # fmt: skip
        """``made`` with a caption, its size under it, and perhaps something above.

        Of values of both signs the deepest colours stand for ``largest``: give one to panels that are compared.
        """
        tile = figures.signed(made, self.scale, largest) if both_signs else figures.tile(made, self.scale)
        tile = figures.padded(tile, height=self.height)
        parts = [figures.captioned(tile, f"{caption}\n{_size(made)}", self.width)]
        return figures.below(([above] if above is not None else []) + parts, gap=6, align=0.5)

    def original(self, above: Image | None = None) -> Image:
        """The image itself."""
        return self.panel(self.image, "the image", above=above)


def kernel_picture(kernel: Array) -> Image:
    """The numbers of a kernel in a grid, coloured by their signs."""
    peak = float(np.abs(kernel).max()) or 1.0
    field = figures.signed(0.6 * kernel[None], CELL, peak)
    for row, column in np.ndindex(kernel.shape):
        value = float(kernel[row, column])
        words = f"{value:.0f}" if value == round(value) else f"{value:.2f}".replace("0.", ".")
        number = figures.stamp(words)
        field.paste(
            figures.INK,
            (1 + column * CELL + (CELL - number.width) // 2, 1 + row * CELL + (CELL - number.height) // 2), number,
        )  # fmt: skip
    return field


def convolution(image: Array, seed: int = 0) -> Image:
    """Kernels that are made for something, and two 2x2 kernels as a network starts with."""
    drawn, rng = _Drawn(image), stream(seed)
    height = 3 * CELL + 2
    panels = [drawn.original(figures.padded(figures.text(""), height=height))]
    for name, (kernel, both) in KERNELS.items():
        above = figures.padded(kernel_picture(kernel), height=height)
        panels.append(drawn.panel(convolve(image, kernel), name, both_signs=both, above=above))
    for number in ("one", "another"):
        kernel, bias = random_kernel(2, rng)
        above = figures.padded(kernel_picture(kernel), height=height)
        panels.append(drawn.panel(convolve(image, kernel, bias), f"{number} random 2x2", both_signs=True, above=above))
    return _page("convolution", _rows(panels, 4))


def kernel_sizes(image: Array, seed: int = 0) -> Image:
    """Random kernels, and means, of 1 to 5 pixels."""
    drawn, rng = _Drawn(image), stream(seed)
    first, second = [drawn.original()], [drawn.original()]
    for size in range(1, 6):
        kernel, bias = random_kernel(size, rng)
        first.append(drawn.panel(convolve(image, kernel, bias), f"random {size}x{size}", both_signs=True))
        second.append(drawn.panel(convolve(image, np.full((size, size), 1 / size**2)), f"mean of {size}x{size}"))
    return _page("kernel_sizes", _rows(first + second, 6))


def pooling(image: Array, seed: int = 0) -> Image:
    """Maximum and mean of squares, of the image and of its edges."""
    drawn = _Drawn(image)
    edges = convolve(image, SOBEL)
    rows = []
    for made, name, both in ((image, "the image", False), (edges, "its edges", True)):
        colours = {"both_signs": both, "largest": float(np.abs(made.mean(0)).max())}
        rows.append(drawn.panel(made, name, **colours))
        for kind in ("max", "average"):
            for size in (2, 4):
                rows.append(drawn.panel(pool(made, size, kind), f"{kind} of {size}x{size}", **colours))
    return _page("pooling", _rows(rows, 5))


def activation(image: Array, seed: int = 0) -> Image:
    """The answer of a random 5x5 kernel through several activations."""
    drawn, rng = _Drawn(image), stream(seed)
    kernel, _ = random_kernel(5, rng)
    kernel -= kernel.mean()  # of both signs wherever there is an edge
    answer = convolve(image, kernel)
    answer /= max(float(np.abs(answer.mean(0)).max()), 1e-12)
    size = (drawn.width - 40, 90)
    blank = figures.padded(figures.text(""), height=_curve(None, size).height)
    panels = [
        drawn.original(blank),
        drawn.panel(answer, "a random 5x5's answer", both_signs=True, largest=1.0, above=blank),
    ]
    for name in ACTIVATIONS:
        made = activate(answer, name)
        panels.append(drawn.panel(made, name, both_signs=True, largest=1.0, above=_curve(name, size)))
    return _page("activation", _rows(panels, 6))


def _curve(name: str | None, size: tuple[int, int]) -> Image:
    x = np.linspace(-1, 1, 41, dtype=np.float32)
    y = activate(x[None, None], name)[0, 0] if name else x
    return figures.line_chart({"": (x, y)}, x_label="", y_label="", y_range=(-0.3, 1.0), size=size)


def upsampling(image: Array, seed: int = 0) -> Image:
    """From half the size back to the whole, by the nearest pixel and by bilinear interpolation."""
    drawn = _Drawn(image[:, : image.shape[1] // 2 * 2, : image.shape[2] // 2 * 2])
    half = pool(drawn.image, 2, "average")
    panels = [drawn.original(), drawn.panel(half, "average of 2x2")]
    panels += [drawn.panel(upsample(half, mode), f"{mode}, from the half") for mode in ("nearest", "bilinear")]
    lost = drawn.image - upsample(half, "nearest")
    panels.append(drawn.panel(lost, "image less nearest", both_signs=True))
    return _page("upsampling", _rows(panels, 5))


def noise(image: Array, seed: int = 0) -> Image:
    """Every kind of noise that the corruption model knows, at growing amounts."""
    from .corruption_pictures import noise_strip

    return noise_strip(image, seed=seed)


PAGES: dict[str, Callable[[Array, int], Image]] = {
    "convolution": convolution, "kernel_sizes": kernel_sizes, "pooling": pooling, "activation": activation,
    "upsampling": upsampling, "noise": noise,
}  # fmt: skip


def _page(name: str, picture: Image) -> Image:
    return figures.page(picture, *WORDS[name])


def _rows(panels: Sequence[Image], columns: int) -> Image:
    """Panels in rows, each in a field of the widest, their tops on one line."""
    width = max(panel.width for panel in panels)
    fields = [figures.below([figures.padded(panel, width)]) for panel in panels]
    lines = [figures.beside(fields[i : i + columns], align=0.0) for i in range(0, len(fields), columns)]
    return figures.below(lines, gap=16)


def write_pages(image: Array, folder: str | Path, names: Sequence[str] = (), seed: int = 0) -> list[Path]:
    """Writes the pages called ``names`` (default: all) of `PAGES` as NAME.png, and all of them as overview.png.

    Args:
        image: (C, H, W) float32 in [0, 1], sides of at least 8.
        folder: where they go; made where it is missing.
        names: keys of `PAGES`.
        seed: of the random kernels.

    Returns:
        The paths written, the overview last.

    Raises:
        UserError: an image too small, an unknown name, a folder that cannot be written.
    """
    if image.ndim != 3 or min(image.shape[1:]) < SMALLEST:
        raise UserError(f"an image of shape {image.shape}, expected (C, H, W) with sides of at least {SMALLEST}")
    for name in names:
        if name not in PAGES:
            raise UserError(f"the page is {name!r}, expected one of: {', '.join(PAGES)}")
    pages = {name: PAGES[name](image, seed) for name in names or PAGES}
    paths = [figures.save(picture, Path(folder) / f"{name}.png") for name, picture in pages.items()]
    overview = figures.below(list(pages.values()), gap=8)
    return [*paths, figures.save(overview, Path(folder) / "overview.png")]
