#!/usr/bin/env python
"""Draw images from a trained model. The checkpoint holds its own configuration, so a directory is all that is needed.

  python scripts/sample.py --checkpoint runs/digits --num 64
  python scripts/sample.py --checkpoint runs/digits --sampler ddim --sampling_steps 50 --eta 0.5 --gif
  python scripts/sample.py --checkpoint runs/digits --interpolate 8 --dataset digits
  python scripts/sample.py --checkpoint runs/score_classes --labels 3 7 --guidance_scale 2 --sampler pc
  python scripts/sample.py --checkpoint runs/corruption_digits --sampling_steps 100 --amounts 0.2 0.6 1
  python scripts/sample.py --checkpoint runs/latent_autoencoder

Writes grid.png and samples.npz (arr_0, uint8, NHWC; what the model was trained on, for evaluate.py), and samples.gif
or interpolation.png where asked for. Of a class-conditional model also classes.png, a row for each class, class-K.png,
embedding.png, and labels in samples.npz.
Of a corruption model also restorations.png (images, the same with noise, and what the network makes of them) and
history.png (the steps of sampling). Of an autoencoder reconstructions.png, images above what it gives back, and these
in samples.npz.
Image i of a seed is the same picture whatever --num and --batch_size are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import Parser, add_machine_options, output_directory, run, start_machine
from ms_ddpm.config_systems import MAX_STEPS, SAMPLERS
from ms_ddpm.errors import UserError, quoted
from ms_ddpm.graph_errors import reports_to

GRID_MAX = 100  # larger sets are drawn whole into the .npz, and their first images into the grid


def build_parser() -> Parser:
    """The options of sample.py."""
    parser = Parser(prog="sample.py", description=__doc__)
    parser.add_argument(
        "--checkpoint", required=True, metavar="DIR", help="output directory of train.py, or a step-... in it"
    )
    parser.add_argument(
        "--which", choices=("last", "best"), default="last", help="which checkpoint of an output directory [last]"
    )
    parser.add_argument("--weights", choices=("ema", "model"), help="averaged or raw weights [ema; autoencoder: model]")
    parser.add_argument("--output_dir", metavar="DIR", help="where to write [DIR of --checkpoint]/samples-STEP")
    parser.add_argument(
        "--sampler",
        choices=(*SAMPLERS["diffusion"], *SAMPLERS["score"]),
        help="diffusion: ddpm or ddim [ddim where the steps are fewer than T]; score and latent: euler "
        "(Euler-Maruyama), pc (predictor-corrector), ode (probability flow by RK45) or heun [as configured]",
    )
    parser.add_argument(
        "--sampling_steps", type=int, metavar="S", help="steps of the chain [as configured for training]"
    )
    parser.add_argument("--labels", type=int, nargs="+", metavar="K", help="classes to draw, in turn [all]")
    parser.add_argument(
        "--guidance_scale", type=float, metavar="S", help="classifier-free guidance; 1: none [as configured]"
    )
    parser.add_argument("--eta", type=float, help="ddim: 0 deterministic ... 1 as noisy as ddpm [as configured]")
    parser.add_argument(
        "--denoise",
        action=argparse.BooleanOptionalAction,
        help="score, latent: end with the expected image [as configured]",
    )
    parser.add_argument("--eps", type=float, help="score, latent: time at which sampling ends [as configured]")
    parser.add_argument("--snr", type=float, help="pc: signal-to-noise ratio of the corrector [as configured]")
    parser.add_argument("--num", type=int, default=64, metavar="N", help="how many images [64]")
    parser.add_argument("--batch_size", type=int, default=250, metavar="B", help="images at a time [250]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--grid", type=int, metavar="COLUMNS", help="columns of grid.png [nearly square]")
    parser.add_argument("--gif", action="store_true", help="also samples.gif: the first 16 images being denoised")
    parser.add_argument("--npz", metavar="FILE", help="name of the .npz [samples.npz in --output_dir]")
    parser.add_argument(
        "--interpolate",
        type=int,
        metavar="K",
        help="also interpolation.png: rows of K steps between two images of --dataset",
    )
    parser.add_argument("--interpolate_t", type=int, metavar="T", help="how far the two are noised [T/2]")
    parser.add_argument(
        "--amounts", type=float, nargs="+", metavar="A",
        help="corruption: how much noise restorations.png shows, from 0 (none) to 1 (nothing else) [0.25 0.5 0.75 1]",
    )  # fmt: skip
    parser.add_argument(
        "--dataset",
        help="where --interpolate and the pictures of autoencoders and corruption models take their images [the one "
        "trained on; the latter two: what was held out of it]",
    )
    add_machine_options(parser)
    return parser


def interpolation_ends(config, args: dict):
    """Two sets of data set images to go between: (2, pairs, C, H, W) float32 in [0, 1]."""
    from ms_ddpm import data

    name = args["dataset"] or config.dataset
    source = data.open_configured(config, name)
    pairs = min(6, len(source) // 2)
    if pairs < 1:
        raise UserError(f"--interpolate needs 2 images, {name} has {len(source)}")
    return data.as_float(source.batch(range(2 * pairs))).reshape(2, pairs, *source.shape)


def draw_interpolation(diffusion, ends, args: dict):
    """Rows of images between the two of each pair, ends included: (pairs * K, C, H, W)."""
    import numpy as np

    from ms_ddpm import samplers

    t = args["interpolate_t"] or diffusion.num_timesteps // 2
    columns = [ends[0]]
    for lam in np.linspace(0, 1, args["interpolate"])[1:-1]:
        between = samplers.interpolate(diffusion, *ends, t, float(lam), seed=args["seed"])
        columns.append(np.clip(between.asnumpy(), 0, 1))
    columns.append(ends[1])
    return np.stack(columns, axis=1).reshape(-1, *ends.shape[2:])


def draw_classes(cell, drawn, labels, folder: Path) -> Path:
    """classes.png, class-K.png and embedding.png of a class-conditional model; gives the first."""
    from ms_ddpm import score_pictures

    score_pictures.save_class_grids(drawn, labels, folder)
    score_pictures.save_embedding_similarity(cell, folder / "embedding.png")
    return folder / "classes.png"


def draw_autoencoder(path: Path, args: dict, output_folder: Callable[[], Path]) -> list[str]:
    """reconstructions.png and samples.npz of the autoencoder in the checkpoint ``path``; what to say of them."""
    from ms_ddpm import autoencoder, checkpoint, images, labels, looking, origin, recipes

    cell = autoencoder.load_autoencoder(path, args["weights"] or "model")
    if args["labels"]:
        labels.require_conditional(cell)
    shown = looking.images_for(cell, recipes.config_of(path), args["num"], args["dataset"])
    folder = output_folder()
    decoded, picture = looking.look_at_autoencoder(cell, shown, folder, args["grid"])
    npz = Path(args["npz"]) if args["npz"] else folder / "samples.npz"
    trained_on = origin.Origin.of_checkpoint(checkpoint.read_state(path), path)
    images.save_npz(decoded, npz, None, trained_on and trained_on.as_array())
    return [f"{len(decoded)} reconstructions: {npz}, {picture}"]


def draw_corruption(cell, config, args: dict, folder: Path) -> list[str]:
    """restorations.png and history.png of a corruption model; what to say of them.

    Sampling needs no data set: where that of training is gone, a line says so.
    """
    from ms_ddpm import corruption_pictures, looking

    try:
        shown = looking.images_for(cell, config, looking.in_a_row(*cell.image_size), args["dataset"])
    except UserError as error:
        if args["dataset"] is not None:
            raise
        return [f"no restorations.png and history.png: {error}"]
    options = {"steps": args["sampling_steps"], "amounts": args["amounts"], "seed": args["seed"]}
    paths = corruption_pictures.look_at_corruption(cell, shown, folder, **options)
    return [f"with and without noise: {paths[0]}", f"steps of sampling: {paths[1]}"]


def check_system_options(system: str, args: dict) -> None:
    """Raises UserError for an option that the models of ``system`` have no picture for."""
    pictures = {"amounts": ("corruption",), "interpolate": ("diffusion",), "gif": (*SAMPLERS, "corruption")}
    for name, systems in pictures.items():
        if args[name] and system not in systems:
            raise UserError(f"--{name} is for {', '.join(systems)} models; this one is of the system {system}")


def first_chain(cell, num: int, labels, options: dict):
    """Every state of the first ``num`` images: (num, S + 1, C, H, W), not clipped."""
    from ms_ddpm import samplers
    from ms_ddpm.diffusion import GaussianDiffusion

    if isinstance(cell, GaussianDiffusion):
        rest = {name: value for name, value in options.items() if name != "sampler"}
        return samplers.SAMPLERS[options["sampler"]](cell, num, return_all_timesteps=True, **rest).asnumpy()
    rest = options if labels is None else {**options, "labels": labels[:num]}
    return cell.sample(num, return_all_timesteps=True, progress=True, **rest).asnumpy()


def main(argv: Sequence[str] | None = None) -> int:
    """Samples and writes the pictures."""
    args = vars(build_parser().parse_args(argv))
    ranges = {
        "num": (1, None),
        "batch_size": (1, None),
        "seed": (0, None),
        "grid": (1, 10000),
        "sampling_steps": (1, MAX_STEPS),
        "interpolate": (3, 1000),
        "interpolate_t": (1, None),
    }
    for name, (low, high) in ranges.items():
        if args[name] is not None and args[name] < low:
            raise UserError(f"--{name} is {quoted(args[name])}, expected at least {low}")
        if args[name] is not None and high is not None and args[name] > high:
            raise UserError(f"--{name} is {quoted(args[name])}, expected at most {high}")
    from ms_ddpm import checkpoint, looking

    looking.check_amounts(args["amounts"] or ())
    path = checkpoint.locate(Path(args["checkpoint"]), args["which"])
    state = checkpoint.read_state(path)
    start_machine(args)
    import numpy as np

    from ms_ddpm import images, origin, recipes, samplers, sampling, sizes

    asked = recipes.config_of(path)
    asked.device_target = args.get("device_target", "CPU")
    options = sampling.check_options(asked.system, {
        "sampler": args["sampler"], "steps": args["sampling_steps"], "eta": args["eta"],
        "guidance_scale": args["guidance_scale"], "denoise": args["denoise"], "eps": args["eps"],
        "snr": args["snr"],
    })  # fmt: skip
    check_system_options(asked.system, args)
    sizes.check_sampling(asked, args["num"], min(args["batch_size"], args["num"]))
    run_folder = path.parent.parent if path.parent.name == "checkpoints" else path

    def output_folder() -> Path:
        folder = output_directory(args["output_dir"] or str(run_folder / f"samples-{state['step']}"))
        reports_to(folder / "compiler")
        return folder

    if asked.system == "autoencoder":
        print("\n".join(draw_autoencoder(path, args, output_folder)))
        return 0
    cell, config = recipes.load(path, args["weights"] or "ema")
    labels = sampling.labels_for(cell, args["num"], args["labels"])
    if config.system == "diffusion":
        options.setdefault("sampler", samplers.default_sampler(cell, args["sampling_steps"]))
        if args["interpolate_t"] is not None and args["interpolate_t"] >= cell.num_timesteps:
            raise UserError(f"--interpolate_t is {args['interpolate_t']}, expected 1 to {cell.num_timesteps - 1}")
    sampling.check_request(cell, **options)
    ends = interpolation_ends(config, args) if args["interpolate"] else None
    folder = output_folder()

    common = {"seed": args["seed"], **options}
    drawn = sampling.draw_images(cell, args["num"], batch_size=args["batch_size"], labels=labels, **common)
    npz = Path(args["npz"]) if args["npz"] else folder / "samples.npz"
    trained_on = origin.Origin.of_checkpoint(state, path)
    images.save_npz(drawn, npz, labels, trained_on and trained_on.as_array())
    columns = args["grid"] or (sampling.columns_of(labels[:GRID_MAX]) if labels is not None else None)
    images.save_grid(drawn[:GRID_MAX], folder / "grid.png", columns=columns)
    print(f"{len(drawn)} images from step {state['step']}: {npz}, {folder / 'grid.png'}")
    if labels is not None:
        print(f"classes: {draw_classes(cell, drawn, labels, folder)}")
    if config.system == "corruption":
        print("\n".join(draw_corruption(cell, config, args, folder)))
    if args["gif"]:
        chain = first_chain(cell, min(16, args["num"]), labels, common)
        images.save_gif(np.clip(chain, 0, 1), folder / "samples.gif")
        print(f"animation: {folder / 'samples.gif'}")
    if args["interpolate"]:
        rows = draw_interpolation(cell, ends, args)
        images.save_grid(rows, folder / "interpolation.png", columns=args["interpolate"])
        print(f"interpolation: {folder / 'interpolation.png'}")
    return 0


if __name__ == "__main__":
    run(main)
