"""A process that trains, or samples, through the real Trainer and prints its resident memory as it goes.

  python -m tests.memory_run FOLDER --steps 2000 -- --dim 8 --timesteps 20

Lines of standard output: {"step": ..., "rss_mb": ...}. What follows ``--`` are options of scripts/train.py.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys

PAGE = os.sysconf("SC_PAGESIZE")


def rss_mb() -> float:
    """Resident memory of this process now, in MiB, without Python's garbage."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE / 2**20


def report(step: int) -> None:
    print(json.dumps({"step": step, "rss_mb": round(rss_mb(), 2)}), flush=True)


def train(options: list[str], every: int) -> None:
    from ms_ddpm import runtime
    from ms_ddpm.cli import Parser
    from ms_ddpm.cli.train import build_trainer
    from ms_ddpm.config import add_options, resolve
    from ms_ddpm.devices.distributed import ALONE

    parser = Parser(prog="memory_run")
    add_options(parser)
    config = resolve(vars(parser.parse_args(options)), None)
    runtime.setup("CPU", mode=config.mode, seed=config.seed)
    trainer = build_trainer(config, ALONE)
    trainer.progress = False
    trainer.on_step = lambda record: report(record["step"]) if record["step"] % every == 0 else None
    trainer.train()


def sample(times: int, every: int) -> None:
    """Draws again and again with both samplers from one model."""
    from ms_ddpm import runtime

    runtime.setup("CPU")
    from ms_ddpm import GaussianDiffusion, Unet, samplers

    diffusion = GaussianDiffusion(Unet(8, dim_mults=(1, 2), channels=1, rng=0), image_size=8, timesteps=8)
    for i in range(1, times + 1):
        sampler = ("ddpm", "ddim")[i % 2]
        steps = 8 if sampler == "ddpm" else 4
        samplers.sample_images(diffusion, 4, sampler=sampler, steps=steps, batch_size=4, seed=i, progress=False)
        if i % every == 0:
            report(i)


def main() -> None:
    own, _, options = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--what", choices=("train", "sample"), default="train")
    args = parser.parse_args(own.split())
    if args.what == "sample":
        return sample(args.steps, args.every)
    train([*options.split(), "--train_num_steps", str(args.steps), "--output_dir", args.folder], args.every)


if __name__ == "__main__":
    main()
