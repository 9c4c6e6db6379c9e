"""What a configuration needs: how many parameters, how much memory. Plain arithmetic; MindSpore is not imported.

A width of a billion, or a million images at a time, is refused here in one line before anything is allocated. All sizes
in bytes are lower bounds, so that nothing is refused that could have run.

Why arithmetic, and not the model's own shapes: importing MindSpore alone takes ten times as long as such a refusal, its
tensors are allocated when they are made, and their sizes end at 2^63. tests/systems/test_sizes.py builds every
recipe, and every option of every system, and refuses a number that is not the built model's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import registry
from ..config import Config, image_sides
from ..devices import memory

if TYPE_CHECKING:
    from mindspore import nn

FLOAT = 4  # bytes


def conv(dim_in: int, dim_out: int, kernel: int = 1, bias: bool = True) -> int:
    """Parameters of a convolution, plain or transposed, with a square kernel; with a kernel of 1, of a linear layer."""
    return dim_in * dim_out * kernel**2 + (dim_out if bias else 0)


def check_network(config: Config, copies: int = 1) -> None:
    """Raises UserError where images and network do not go together, or ``copies`` of the weights into no memory."""
    system = registry.of(config)
    system.check_sizes(config)
    count = system.parameter_count(config)
    memory.require(copies * FLOAT * count, f"a network of {count:,} parameters", system.smaller)


def _copies(config: Config) -> int:
    """How often the host holds the weights in training."""
    return 5 if config.device_target.lower() == "cpu" else 2


def check_built(config: Config, cell: nn.Cell) -> None:
    """Raises UserError where what training adds to the built Cell's weights cannot fit into memory.

    Of a system that does not count its parameters beforehand; `check_training` has refused the others by now.
    """
    system = registry.of(config)
    if system.parameter_count(config) == 0:
        count = sum(parameter.size for parameter in cell.get_parameters())
        size = (_copies(config) - 1) * FLOAT * count
        memory.require(size, f"training a network of {count:,} parameters", system.smaller)


def check_training(config: Config) -> None:
    """Raises UserError where training as ``config`` says cannot fit into memory: weights, batches, skips, samples.

    Weights count five times on the CPU (with the average, a gradient and Adam's two moments), twice elsewhere (the host
    makes and saves them), where the device's memory is not known here.
    """
    on_cpu = config.device_target.lower() == "cpu"
    check_network(config, copies=_copies(config))
    height, width = image_sides(config)
    image = config.channels * height * width
    batch, kept = config.train_batch_size, registry.of(config).kept_per_image(config) if on_cpu else 0
    memory.require(
        FLOAT * batch * (2 * image * config.gradient_accumulate_every + kept),
        f"training on {batch:,} x {config.gradient_accumulate_every:,} images of {height}x{width}",
        "make train_batch_size, gradient_accumulate_every, image_size or dim smaller",
    )
    memory.require(batch * config.workers * FLOAT * image, f"loading {config.workers} batches ahead", "lower workers")
    check_sampling(config, config.num_samples, min(config.num_samples, 64), "num_samples")


def check_sampling(config: Config, num: int, batch: int, name: str = "--num") -> None:
    """Raises UserError where ``num`` images, drawn ``batch`` at a time, cannot fit into memory."""
    height, width = image_sides(config)
    image = config.channels * height * width
    on_cpu = config.device_target.lower() == "cpu"
    memory.require(
        FLOAT * (2 * num * image + (batch * registry.of(config).kept_per_image(config) if on_cpu else 0)),
        f"drawing {num:,} images of {height}x{width}, {batch:,} at a time,",
        f"make {name} smaller" if name == "num_samples" else "make --num or --batch_size smaller",
    )
