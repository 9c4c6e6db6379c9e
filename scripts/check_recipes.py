#!/usr/bin/env python
"""Train one step and draw one picture with every recipe of configs/, each with its own network, on made-up data.

  python scripts/check_recipes.py                                     # every recipe on this machine's CPU
  python scripts/check_recipes.py --device_target GPU --recipe flowers64
  python scripts/check_recipes.py --kernels off --accumulate 2        # the operators that GPU and Ascend run
  python scripts/check_recipes.py --workers 2 --recipe flowers64      # under msrun

The parameters of the network are the recipe's; the batch, the sides of the images and the steps of sampling are few.
The data are made here, in the files that each recipe reads: idx, CIFAR's, a folder of photographs. Each recipe runs
scripts/train.py in a process of its own. The table says what the first step took, compilation included, and the whole
process, and its memory; recipes.json in --output_dir holds the same. Exit code 1 if a recipe failed.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm import registry
from ms_ddpm.cli import Parser, output_directory, run
from ms_ddpm.config.keys import DEFAULT_SYSTEM
from ms_ddpm.errors import UserError
from ms_ddpm.systems import System

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
IMAGES = 20  # made for each data set, and so the batch of a recipe that counts in epochs
BATCH = 2


def read_recipes() -> dict[str, dict[str, Any]]:
    """Name and values of every recipe, an autoencoder's before that of the latents it makes."""
    import yaml

    found = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONFIGS.glob("*.yaml"))}
    return dict(sorted(found.items(), key=lambda item: "autoencoder" in item[1]))


def system_of(recipe: Mapping[str, Any]) -> System:
    """The system of a recipe."""
    return registry.get(recipe.get("system", DEFAULT_SYSTEM))


def make_data(folder: Path) -> None:
    """Writes small data sets in the formats that the recipes read, under the last name of their paths."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)

    def idx(array: np.ndarray) -> bytes:
        return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()

    labels = (np.arange(IMAGES) * 3 % 10).astype(np.uint8)  # every class, not in order
    for name in ("mnist", "fashion_mnist"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for part in ("train", "t10k"):
            images = rng.integers(0, 256, (IMAGES, 28, 28), np.uint8)
            (folder / name / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
            (folder / name / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    cifar = folder / "cifar-10-batches-bin"
    cifar.mkdir(exist_ok=True)
    for number in range(1, 6):
        rows = rng.integers(0, 256, (IMAGES // 5, 1 + 3 * 32 * 32), np.uint8)
        rows[:, 0] = labels[number - 1 :: 5]
        (cifar / f"data_batch_{number}.bin").write_bytes(rows.tobytes())
    flowers = folder / "flowers"
    flowers.mkdir(exist_ok=True)
    for number in range(IMAGES):
        size = (90 + number, 80, 3)  # taller than wide
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(flowers / f"image_{number:05d}.jpg")


def arguments(
    recipe: Mapping[str, Any], name: str, data: Path, runs: Path, *, accumulate: int = 1, rest: Sequence[str] = ()
) -> list[str]:
    """What train.py is called with: the recipe ``name``, one step, one picture, made-up ``data``, below ``runs``."""
    chosen = ["--config", str(CONFIGS / f"{name}.yaml"), "--output_dir", str(runs / name)]
    if not str(recipe["dataset"]).startswith("digits"):
        chosen += ["--dataset", str(data / Path(recipe["dataset"]).name)]
    if recipe["image_size"] > 28:  # the score networks and the autoencoder are made for 28x28
        chosen += ["--image_size", "24", "16"]
    if "autoencoder" in recipe:
        chosen += ["--autoencoder", str(runs / Path(recipe["autoencoder"]).name)]
    if recipe.get("lr_schedule") == "exponential":  # per epoch: the whole data set is the step
        chosen += ["--epochs", "1", "--train_batch_size", str(IMAGES // accumulate)]
    else:
        chosen += ["--epochs", "null"] if "epochs" in recipe else []
        chosen += ["--train_num_steps", "1", "--train_batch_size", str(BATCH), "--save_and_sample_every", "1"]
    if "sampling_timesteps" in system_of(recipe).Config.__dataclass_fields__:
        chosen += ["--sampling_timesteps", "2"]
    chosen += ["--warmup_steps", "0"] if "warmup_steps" in recipe else []  # which is longer than this run
    held_out = BATCH if recipe.get("validation_images", 1) else 0
    few = {"validation_images": held_out, "num_samples": 1, "log_every": 1, "gradient_accumulate_every": accumulate}
    for key, value in few.items():
        chosen += [f"--{key}", str(value)]
    return [*chosen, *rest]


def environment(kernels: str) -> dict[str, str]:
    """What a process is told so that it computes with the C++ kernels "on" or "off".

    And with this interpreter: msrun starts whatever is called python.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"PATH": path, **({"MS_DDPM_KERNELS": "0"} if kernels == "off" else {})}


def check_made(folder: Path) -> dict[str, Any]:
    """The log line of the first step of the run in ``folder``.

    Raises UserError where something that the run should leave is not there.
    """
    try:
        record = json.loads((folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{folder} has no log of a step: {error}") from None
    if not isinstance(record["loss"], float) or not isinstance(record["grad_norm"], float) or record["grad_norm"] <= 0:
        raise UserError(f"{folder}: the loss is {record['loss']}, the gradient's norm {record['grad_norm']}")
    for made in (folder / "samples" / "step-00000001.png", folder / "checkpoints" / "step-00000001" / "state.json"):
        if not made.is_file():
            raise UserError(f"{made} was not written")
    return record


def first_step_seconds(folder: Path, record: Mapping[str, Any], workers: int) -> float:
    """What the first step of the run in ``folder`` took, of its ``record`` in the log."""
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    images = config["train_batch_size"] * config["gradient_accumulate_every"] * workers
    return round(images / record["images_per_s"], 1)


def run_recipe(command: Sequence[str], folder: Path, env: Mapping[str, str], workers: int) -> dict[str, Any]:
    """Runs train.py with ``command`` in a process of its own (under msrun: of theirs); a row of the report."""
    began = time.monotonic()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    done = subprocess.run(command, env={**os.environ, **env}, **streams)
    row: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1)}
    (folder.parent / f"{folder.name}.log").write_text(done.stdout, encoding="utf-8")
    try:
        if done.returncode:
            raise UserError(f"exit code {done.returncode}: {(done.stdout.strip().splitlines() or [''])[-1]}")
        record = check_made(folder)
    except UserError as error:
        return {**row, "problem": str(error)}
    first = first_step_seconds(folder, record, workers)
    return {**row, "first_step_s": first, "peak_rss_mb": record["peak_rss_mb"], "loss": record["loss"]}


def build_parser() -> Parser:
    """The options of check_recipes.py."""
    parser = Parser(prog="check_recipes.py", description=__doc__)
    parser.add_argument("--recipe", action="append", metavar="NAME", help="one recipe, may be repeated [every one]")
    parser.add_argument("--device_target", default="CPU", metavar="NAME", help="CPU, GPU or Ascend [CPU]")
    parser.add_argument("--kernels", choices=("on", "off"), default="on", help="off: without the C++ kernels [on]")
    parser.add_argument("--accumulate", type=int, default=1, metavar="N", help="batches per step [1]")
    parser.add_argument("--mode", type=int, choices=(0, 1), default=0, help="0 graph, 1 PyNative [0]")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes under msrun [1]")
    parser.add_argument("--output_dir", default="runs/recipes", metavar="DIR", help="where to write [runs/recipes]")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recipes; 0 if all went well, 1 if not."""
    args = build_parser().parse_args(argv)
    recipes = read_recipes()
    for name in args.recipe or ():
        if name not in recipes:
            raise UserError(f"--recipe is {name!r}, expected one of: {', '.join(recipes)}")
    for name in ("accumulate", "workers"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} is {getattr(args, name)}, expected at least 1")
    wanted = set(args.recipe or recipes)
    wanted |= {Path(recipes[name]["autoencoder"]).name for name in wanted if "autoencoder" in recipes[name]}
    folder = output_directory(args.output_dir).absolute()
    data, runs = folder / "data", folder / "runs"
    if runs.exists():
        raise UserError(f"{runs} is there already; choose another --output_dir, or delete it")
    data.mkdir(exist_ok=True)
    runs.mkdir()
    make_data(data)

    env = environment(args.kernels)
    alone = [sys.executable]
    rest = ["--device_target", args.device_target, "--mode", str(args.mode)]
    msrun = []
    if args.workers > 1:
        msrun = [str(Path(sys.executable).with_name("msrun")), f"--worker_num={args.workers}",
                 f"--local_worker_num={args.workers}", "--join=True", f"--log_dir={folder / 'msrun'}"]  # fmt: skip
    rows = {}
    print(f"{'recipe':26} {'first step':>10} {'in all':>8} {'memory':>9}", flush=True)
    for name in [name for name in recipes if name in wanted]:
        train = [str(ROOT / "scripts" / "train.py")]
        given = arguments(recipes[name], name, data, runs, accumulate=args.accumulate, rest=rest)
        if msrun and not system_of(recipes[name]).in_one_process:
            row = run_recipe([*msrun, *train, *given, "--distribute"], runs / name, env, args.workers)
        else:
            row = run_recipe([*alone, *train, *given], runs / name, env, workers=1)
        rows[name] = row
        said = row.get("problem", "ok")
        first, memory = row.get("first_step_s", 0), row.get("peak_rss_mb", 0)
        print(f"{name:26} {first:8.1f} s {row['seconds']:6.1f} s {memory:6.0f} MB  {said}", flush=True)
        (folder / "recipes.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return int(any("problem" in row for row in rows.values()))


if __name__ == "__main__":
    run(main)
