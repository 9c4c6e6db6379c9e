"""Draw what the parts of a convolutional network, and the kinds of noise, do to an image.

  python scripts/explain.py                                            # a handwritten digit, every page
  python scripts/explain.py --dataset digits28 --index 7 --page pooling --page activation
  python scripts/explain.py --dataset ~/flowers --channels 3 --image_size 96 --output_dir runs/flower_parts

The pages, each a PNG with captions that say what to look for:
  convolution   a pixel becomes a weighted sum of its neighbours: blur, sharpen, edges, and random 2x2 kernels
  kernel_sizes  random kernels and means of 1x1 to 5x5
  pooling       maximum and mean of 2x2 and 4x4 squares, of the image and of its edges
  activation    ReLU, LeakyReLU and SiLU on a random kernel's answer, with their curves
  upsampling    nearest and bilinear, from half the size back, and what stays lost
  noise         the kinds of noise of the corruption model (--system corruption) at growing amounts
overview.png holds all of them. Red is above 0, blue below; what an operation makes smaller is drawn smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UserError
from . import Parser, add_machine_options, output_directory, start_machine

PAGES = ("convolution", "kernel_sizes", "pooling", "activation", "upsampling", "noise")
SIDES = {"digits": 8}  # of data sets that are not 28x28


def build_parser() -> Parser:
    """The options of explain.py."""
    parser = Parser(prog="explain.py", description=__doc__)
    parser.add_argument(
        "--dataset", default="digits28",
        help="digits, digits28, or a folder of images, MNIST, Fashion-MNIST or CIFAR files, an .npz [digits28]",
    )  # fmt: skip
    parser.add_argument("--index", type=int, default=0, metavar="I", help="which image of it [0]")
    parser.add_argument("--image_size", type=int, metavar="S", help="side of the image, at least 8 [28; digits: 8]")
    parser.add_argument("--channels", type=int, default=1, choices=(1, 3), help="1 grey, 3 colour [1]")
    parser.add_argument(
        "--page", action="append", choices=PAGES, metavar="NAME", help="one page, may be repeated [every page]"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random kernels [0]")
    parser.add_argument("--output_dir", default="runs/explain", metavar="DIR", help="where to write [runs/explain]")
    add_machine_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the pages and writes them."""
    args = vars(build_parser().parse_args(argv))
    side = args["image_size"] or SIDES.get(args["dataset"], 28)
    for name, value, least in (("index", args["index"], 0), ("image_size", side, 8), ("seed", args["seed"], 0)):
        if value < least:
            raise UserError(f"--{name} is {value}, expected at least {least}")
    from .. import data

    source = data.open_images(args["dataset"], image_size=(side, side), channels=args["channels"])
    if args["index"] >= len(source):
        raise UserError(
            f"--index is {args['index']}, but {args['dataset']} has {len(source)} images: 0 to {len(source) - 1}"
        )
    image = data.as_float(source.get(args["index"]))
    start_machine(args)

    from ..systems.corruption import explain

    folder = output_directory(args["output_dir"])
    for path in explain.write_pages(image, folder, args["page"] or (), args["seed"]):
        print(path)
    return 0
