"""Draw images from a trained model. The checkpoint holds its own configuration, so a directory is all that is needed.

  python scripts/sample.py --checkpoint runs/digits --num 64
  python scripts/sample.py --checkpoint runs/digits --sampler ddim --sampling_steps 50 --eta 0.5 --gif
  python scripts/sample.py --checkpoint runs/digits --interpolate 8 --dataset digits
  python scripts/sample.py --checkpoint runs/score_classes --labels 3 7 --guidance_scale 2 --sampler pc
  python scripts/sample.py --checkpoint runs/corruption_digits --sampling_steps 100 --amounts 0.2 0.6 1
  python scripts/sample.py --checkpoint runs/latent_autoencoder
  python scripts/sample.py --checkpoint stable-diffusion --prompt "a red three" "a blue seven" --lora my_lora:0.8
  python scripts/sample.py --checkpoint ddpm-cifar10-32 --scheduler DDIM --num_inference_steps 50

Writes grid.png and samples.npz (arr_0, uint8, NHWC; what the model was trained on, for evaluate.py), and samples.gif
or interpolation.png where asked for. Of a class-conditional model also classes.png, a row for each class, class-K.png,
embedding.png, and labels in samples.npz.
Of a corruption model also restorations.png (images, the same with noise, and what the network makes of them) and
history.png (the steps of sampling). Of an autoencoder reconstructions.png, images above what it gives back, and these
in samples.npz.
A directory as diffusers writes it (with a model_index.json) is drawn from too: a file for each picture, grid.png (a row
for each prompt), samples.npz, and samples.json, which says how they were made.
Image i of a seed is the same picture whatever --num and --batch_size are.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .. import registry
from ..errors import UserError, quoted
from ..systems import Option
from . import Parser, add_machine_options, start_machine

INDEX = "model_index.json"  # of a directory as diffusers writes it
SCHEDULERS = ("DDPM", "DDIM", "PNDM", "EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep")
ALSO = {"sampling_steps": "--num_inference_steps"}  # as diffusers calls it
UNDERSTOOD = ("sampling_steps", "eta", "guidance_scale")  # the systems' options that a pipeline has too
OURS = ("weights", "labels", "gif", "dataset")  # and what a pipeline has not
OF_DIRECTORIES: dict[str, dict] = {
    "prompt": {"nargs": "+", "metavar": "TEXT", "help": "what to draw, one text or more"},
    "negative_prompt": {"nargs": "+", "metavar": "TEXT", "help": "what not to draw: one text, or one for each prompt"},
    "scheduler": {"choices": SCHEDULERS, "help": "in the place of the directory's"},
    "lora": {"nargs": "+", "metavar": "FILE[:SCALE]", "help": "LoRA files of any format, several at once [scale 1]"},
    "init_image": {"metavar": "FILE", "help": "begins with this image instead of noise"},
    "strength": {"type": float, "metavar": "S", "help": "how much of it is noised, up to 1 [0.8; with --mask: 1]"},
    "mask": {"metavar": "FILE", "help": "an image, white where --init_image is drawn anew"},
    "height": {"type": int, "metavar": "H", "help": "a multiple of 8 [as trained; as --init_image]"},
    "width": {"type": int, "metavar": "W", "help": "a multiple of 8 [as trained; as --init_image]"},
    "clip_skip": {"type": int, "metavar": "N", "help": "how many last layers of the text encoder are left out [0]"},
    "variant": {"metavar": "NAME", "help": "fp16: the networks' files that are named so"},
    "dtype": {"choices": ("float32", "float16", "bfloat16"), "help": "of the networks [float32]"},
}


@cache
def options_of_systems() -> dict[str, tuple[Option, str]]:
    """The options that systems add: flag -> the option and, for help, what each system has to say of it."""
    found: dict[str, dict[str, list[str]]] = {}
    first: dict[str, Option] = {}
    for name in registry.names():
        system = registry.get(name)
        for option in (*system.sampling, *system.looking):
            known = first.setdefault(option.flag, option)
            choices = tuple(dict.fromkeys((*known.choices, *option.choices)))
            first[option.flag] = dataclasses.replace(known, choices=choices)
            found.setdefault(option.flag, {}).setdefault(option.help, []).append(name)
    return {
        flag: (first[flag], "; ".join(f"{', '.join(names)}: {help}" for help, names in helps.items()))
        for flag, helps in found.items()
    }


def build_parser() -> Parser:
    """The options of sample.py."""
    parser = Parser(prog="sample.py", description=__doc__)
    parser.add_argument(
        "--checkpoint", required=True, metavar="DIR",
        help="output directory of train.py, or a step-... in it; or a pipeline's directory as diffusers writes it",
    )  # fmt: skip
    parser.add_argument(
        "--which", choices=("last", "best"), default="last", help="which checkpoint of an output directory [last]"
    )
    parser.add_argument("--weights", choices=("ema", "model"), help="averaged or raw weights [ema; autoencoder: model]")
    parser.add_argument(
        "--output_dir", metavar="DIR", help="where to write [DIR of --checkpoint]/samples-STEP, of a pipeline /samples"
    )
    parser.add_argument("--labels", type=int, nargs="+", metavar="K", help="classes to draw, in turn [all]")
    parser.add_argument("--num", type=int, metavar="N", help="how many images [64], with --prompt of each prompt [4]")
    parser.add_argument(
        "--batch_size", type=int, metavar="B", help="images at a time [250; a directory: 64, 4 of prompts]"
    )
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--grid", type=int, metavar="COLUMNS", help="columns of grid.png [nearly square]")
    parser.add_argument("--gif", action="store_true", help="also samples.gif: the first 16 images being denoised")
    parser.add_argument("--npz", metavar="FILE", help="name of the .npz [samples.npz in --output_dir]")
    parser.add_argument(
        "--dataset",
        help="where --interpolate and the pictures of autoencoders and corruption models take their images [the one "
        "trained on; the latter two: what was held out of it]",
    )
    group = parser.add_argument_group("what the systems' models take besides")
    for flag, (option, help) in options_of_systems().items():
        settings = {"help": help, "metavar": option.metavar, "type": option.kind, "choices": option.choices or None}
        if option.kind is bool:
            settings = {"help": help, "action": argparse.BooleanOptionalAction}
        elif option.many:
            settings["nargs"] = "+"
        group.add_argument(f"--{flag}", *filter(None, [ALSO.get(flag)]), **settings)
    group = parser.add_argument_group(
        "a pipeline's directory, as diffusers writes it",
        "Beside --num_inference_steps [50; DDPM: 1000], --guidance_scale [7.5] and --eta.",
    )
    for flag, settings in OF_DIRECTORIES.items():
        group.add_argument(f"--{flag}", **settings)
    add_machine_options(parser)
    return parser


def check_owner(args: dict) -> bool:
    """Whether --checkpoint is a directory as diffusers writes it. Raises UserError for options that are not for it."""
    place = Path(args["checkpoint"]).expanduser()
    if (place / INDEX).is_file():
        for name in (*OURS, *(flag for flag in options_of_systems() if flag not in UNDERSTOOD)):
            if args[name]:
                raise UserError(f"--{name} is for models that train.py made; {place} is a directory of diffusers'")
        return True
    from ..storage.directories import folder_of, like_a_hubs_name

    asked = [name for name in OF_DIRECTORIES if args[name] is not None]
    at_a_hub = like_a_hubs_name(place) and not place.parent.exists()  # and no run's directory, misspelt
    if not place.exists() and (asked or at_a_hub):
        folder_of(args["checkpoint"])  # says how its files are got
    if asked:
        raise UserError(f"--{asked[0]} is for a directory as diffusers writes it, and {place} has no {INDEX}")
    return False


def check_ranges(args: dict) -> None:
    """Raises UserError for a number that is out of its range."""
    ranges = {"num": (1, None), "batch_size": (1, None), "seed": (0, None), "grid": (1, 10000)}
    ranges |= {"height": (8, None), "width": (8, None), "clip_skip": (0, None)}
    ranges |= {flag: (option.least, option.most) for flag, (option, _) in options_of_systems().items()}
    for name, value in args.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name} is {quoted(value)}, expected a finite number")
    for name, (low, high) in ranges.items():
        if args[name] is not None and low is not None and args[name] < low:
            raise UserError(f"--{name} is {quoted(args[name])}, expected at least {low}")
        if args[name] is not None and high is not None and args[name] > high:
            raise UserError(f"--{name} is {quoted(args[name])}, expected at most {high}")


def main(argv: Sequence[str] | None = None) -> int:
    """Samples and writes the pictures."""
    args = vars(build_parser().parse_args(argv))
    check_ranges(args)
    if check_owner(args):
        start_machine(args)  # before anything imports MindSpore, which reads its surroundings then
        from ..pipelines.sample import DirectorySampling

        DirectorySampling(args).draw()
        return 0
    args["num"] = args["num"] or 64
    args["batch_size"] = args["batch_size"] or 250
    from ..pictures import looking
    from ..storage import checkpoint

    looking.check_amounts(args["amounts"] or ())
    path = checkpoint.locate(Path(args["checkpoint"]), args["which"])
    state = checkpoint.read_state(path)
    start_machine(args)

    from ..systems import recipes, sizes
    from ..systems.sample import Sampling

    config = recipes.config_of(path)
    config.device_target = args.get("device_target", "CPU")
    run = Sampling(path, state, config, args)
    sizes.check_sampling(config, args["num"], min(args["batch_size"], args["num"]))
    run.system.sample(run)
    return 0
