"""Measure samples against the images they should look like.

  python scripts/evaluate.py --samples runs/quickstart
  python scripts/evaluate.py --samples runs/flowers/samples-700000
  python scripts/evaluate.py --samples somebody-elses.npz --dataset ~/flowers

They are compared with what their model was trained on, which samples.npz or the run that it lies in says.
For the built-in digits, 8x8 or drawn as 28x28: Frechet distance in a small classifier's hidden layer, histogram of the
digits it reads, the distance to the nearest training image (memorisation) and, of a class-conditional model, how many
are taken for the digit that was asked for. Real against real gives 0.1 to 0.2, uniform noise 43.
For other data: FID through torch-fidelity, where it and its weights are on disk.
Writes metrics.json beside the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import FIELDS, add_options
from ..errors import UserError
from . import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates and writes metrics.json."""
    parser = Parser(prog="evaluate.py", description=__doc__)
    parser.add_argument("--samples", required=True, metavar="PATH", help="samples.npz, or the directory it is in")
    parser.add_argument(
        "--dataset", help="'digits', 'digits28' or the path of real images [what the model was trained on]"
    )
    parser.add_argument("--output_dir", metavar="DIR", help="where metrics.json goes [beside the samples]")
    parser.add_argument("--fid_weights", metavar="FILE", help="InceptionV3 weights of torch-fidelity [its cache]")
    add_options(
        parser.add_argument_group("machine (nothing here computes on it; taken for symmetry)"), ("device_target",)
    )
    args = parser.parse_args(argv)
    device = vars(args).get("device_target", FIELDS["device_target"].default)
    if device.lower() not in ("cpu", "gpu", "ascend"):
        raise UserError(f"device_target is {device!r}, expected one of: CPU, GPU, Ascend")

    from ..metrics import evaluation
    from ..pictures import images
    from ..storage import origin
    from . import output_directory

    path = Path(args.samples)
    path = path / "samples.npz" if path.is_dir() else path
    samples, labels = images.load_labelled_npz(path)
    real = origin.choose(path, samples.shape[1:], args.dataset)
    metrics = evaluation.evaluate(samples, labels, real.dataset, background=real.background, weights=args.fid_weights)
    folder = output_directory(args.output_dir or str(path.parent))
    evaluation.write_metrics(metrics, folder / "metrics.json")
    print(evaluation.describe(metrics))
    print(f"written: {folder / 'metrics.json'}")
    return 0
