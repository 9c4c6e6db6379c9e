"""What the parts of a convolutional network do to an image: convolution, pooling, activation, upsampling; and noise.

Each page is computed by MindSpore's operators on one image and drawn with captions; ``scripts/explain.py`` writes them.
Results of both signs are red above 0 and blue below. Sizes are true: what a convolution or a pooling makes smaller is
drawn smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mindspore import Tensor, ops

from ...errors import UserError
from ...maths.random import stream
from ...pictures import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

SIDE = 168  # pixels: about the larger side of the image as it is drawn
CELL = 30  # of a kernel's number
CAPTION = 160  # of the longest caption
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


@dataclass
class Panel:
    """What became of an image, (C, H, W), with a caption.

    Attributes:
        made, caption: both.
        largest: of values of both signs the magnitude with the deepest colours; one for panels that are compared.
        above: draws what stands above it, on axes as wide as the image.
    """

    made: Array
    caption: str
    largest: float | None = None
    above: Callable[[Axes], None] | None = None


def _peak(made: Array) -> float:
    return float(np.abs(made.mean(0)).max())


def _both_signs(made: Array, caption: str, above: Callable[[Axes], None] | None = None) -> Panel:
    return Panel(made, caption, _peak(made), above)


def _page(name: str, panels: Sequence[Panel], columns: int, above: int = 0) -> Image:
    """Panels in rows with ``above`` pixels over each, all at the scale of the first, which is the largest."""
    scale = max(1, round(SIDE / max(panels[0].made.shape[1:])))
    height, width = (side * scale for side in panels[0].made.shape[1:])
    with figures.drawing() as figure:
        for i, panel in enumerate(panels):
            left, top = i % columns * (max(width, CAPTION) + 10), i // columns * (above + height + 60)
            if panel.above:
                panel.above(figures.field(figure, left + 16, top, width - 32, above - 20))
            top += above
            made = panel.made.repeat(scale, axis=1).repeat(scale, axis=2)
            high, wide = made.shape[1:]
            axes = figures.field(figure, left + (width - wide) // 2, top + (height - high) // 2, wide, high)
            if panel.largest is None:
                axes.imshow(figures.opaque(made[None])[0])
            else:
                axes.imshow(made.mean(0), **figures.signed(panel.largest))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.patch.set(edgecolor=figures.LINE, linewidth=2)  # a frame, whose inner half is behind the image
            said = f"{panel.caption}\n{panel.made.shape[1]}x{panel.made.shape[2]}"
            under = (height - high) // 2 + high - height - 8  # all captions of a row at one height
            axes.annotate(said, (0.5, 0), (0, under), "axes fraction", "offset points", ha="center", va="top")
        return figures.page(figures.rendered(figure), *WORDS[name])


def _numbers(kernel: Array) -> Callable[[Axes], None]:
    """The weights of a kernel in squares that are coloured by their signs."""

    def draw(axes: Axes) -> None:
        axes.imshow(kernel, **figures.signed(1.7 * float(np.abs(kernel).max())))  # pale, for the words on it
        for (row, column), value in np.ndenumerate(kernel):
            words = f"{value:.0f}" if value == round(value) else f"{value:.2f}".replace("0.", ".")
            axes.text(column, row, words, fontsize=11, ha="center", va="center")
        (wide, high), middle = axes.bbox.size / CELL / 2, (len(kernel) - 1) / 2
        axes.set(xlim=(middle - wide, middle + wide), ylim=(middle + high, middle - high))
        axes.set_axis_off()

    return draw


def convolution(image: Array, seed: int = 0) -> Image:
    """Kernels that are made for something, and two 2x2 kernels as a network starts with."""
    rng, panels = stream(seed), [Panel(image, "the image")]
    for name, (kernel, both) in KERNELS.items():
        panels.append((_both_signs if both else Panel)(convolve(image, kernel), name, above=_numbers(kernel)))
    for number in ("one", "another"):
        kernel, bias = random_kernel(2, rng)
        panels.append(_both_signs(convolve(image, kernel, bias), f"{number} random 2x2", _numbers(kernel)))
    return _page("convolution", panels, 4, above=3 * CELL + 20)


def kernel_sizes(image: Array, seed: int = 0) -> Image:
    """Random kernels, and means, of 1 to 5 pixels."""
    rng = stream(seed)
    first, second = [Panel(image, "the image")], [Panel(image, "the image")]
    for size in range(1, 6):
        kernel, bias = random_kernel(size, rng)
        first.append(_both_signs(convolve(image, kernel, bias), f"random {size}x{size}"))
        second.append(Panel(convolve(image, np.full((size, size), 1 / size**2)), f"mean of {size}x{size}"))
    return _page("kernel_sizes", first + second, 6)


def pooling(image: Array, seed: int = 0) -> Image:
    """Maximum and mean of squares, of the image and of its edges."""
    panels = []
    edges = convolve(image, SOBEL)
    for made, name, largest in ((image, "the image", None), (edges, "its edges", _peak(edges))):
        panels.append(Panel(made, name, largest))
        for kind in ("max", "average"):
            panels += [Panel(pool(made, size, kind), f"{kind} of {size}x{size}", largest) for size in (2, 4)]
    return _page("pooling", panels, 5)


def activation(image: Array, seed: int = 0) -> Image:
    """The answer of a random 5x5 kernel through several activations."""
    kernel, _ = random_kernel(5, stream(seed))
    kernel -= kernel.mean()  # of both signs wherever there is an edge
    answer = convolve(image, kernel)
    answer /= max(_peak(answer), 1e-12)
    panels = [Panel(image, "the image"), Panel(answer, "a random 5x5's answer", 1.0)]
    panels += [Panel(activate(answer, name), name, 1.0, _curve(name)) for name in ACTIVATIONS]
    return _page("activation", panels, 6, above=120)


def _curve(name: str) -> Callable[[Axes], None]:
    """What an activation makes of -1 to 1."""

    def draw(axes: Axes) -> None:
        x = np.linspace(-1, 1, 41, dtype=np.float32)
        axes.plot(x, activate(x[None, None], name)[0, 0], color=figures.COLOURS[0], linewidth=2)
        axes.set(xlim=(-1, 1), ylim=(-0.35, 1.05), xticks=(-1, 0, 1), yticks=(0, 1))
        axes.grid()

    return draw


def upsampling(image: Array, seed: int = 0) -> Image:
    """From half the size back to the whole, by the nearest pixel and by bilinear interpolation."""
    image = image[:, : image.shape[1] // 2 * 2, : image.shape[2] // 2 * 2]
    half = pool(image, 2, "average")
    panels = [Panel(image, "the image"), Panel(half, "average of 2x2")]
    panels += [Panel(upsample(half, mode), f"{mode}, from the half") for mode in ("nearest", "bilinear")]
    return _page("upsampling", [*panels, _both_signs(image - upsample(half, "nearest"), "image less nearest")], 5)


def noise(image: Array, seed: int = 0) -> Image:
    """Every kind of noise that the corruption model knows, at growing amounts."""
    from .pictures import noise_strip

    return noise_strip(image, seed=seed)


PAGES: dict[str, Callable[[Array, int], Image]] = {
    "convolution": convolution, "kernel_sizes": kernel_sizes, "pooling": pooling, "activation": activation,
    "upsampling": upsampling, "noise": noise,
}  # fmt: skip


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
    overview = figures.stacked(list(pages.values()), gap=8)
    return [*paths, figures.save(overview, Path(folder) / "overview.png")]
