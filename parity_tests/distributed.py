"""Workers as a leg of the harness: the gradient of a batch whose images several MindSpore processes share.

`leg` starts this file under msrun; every worker takes its part of the inputs' images, and what `TrainStep` averaged
over the workers is judged against one process on the whole batch.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from portparity.case import Arrays, Leg

SHARED = ("img", "t", "noise")  # one per image


def leg(spec: Mapping, workers: int = 2) -> Leg:
    """The leg that computes loss and gradients of ``spec`` (kind "loss") by ``workers`` processes."""
    return partial(_run, spec, workers)


def _run(spec: Mapping, workers: int, inputs: Arrays) -> Arrays:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        Path(folder, "spec.json").write_text(json.dumps(spec))
        np.savez(Path(folder, "inputs.npz"), **inputs)
        command = [
            str(Path(sys.executable).with_name("msrun")), f"--worker_num={workers}", f"--local_worker_num={workers}",
            f"--master_port={port}", "--join=True", f"--log_dir={folder}/logs", __file__, folder,
        ]  # fmt: skip
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
        if done.returncode:
            raise RuntimeError(f"msrun ended with {done.returncode}: {done.stdout[-2000:]}")
        found = [dict(np.load(Path(folder, f"worker-{rank}.npz"))) for rank in range(workers)]
    for rank, other in enumerate(found):
        for name, value in other.items():
            if not np.array_equal(value, found[0][name]):
                raise RuntimeError(f"{name} of worker {rank} is not bit for bit that of worker 0")
    return found[0]


def work(folder: Path) -> int:
    """One worker: its share of the batch through one `TrainStep`, the gradient read from Adam's first moment."""
    from ms_ddpm.devices import distributed

    if distributed.is_scheduler():
        return distributed.run_scheduler(str(folder))
    distributed.share_cores(None)
    from ms_ddpm.training.amp import DynamicLossScale
    from ms_ddpm.training.optim import Adam
    from ms_ddpm.training.train_step import TrainStep
    from parity_tests.backends.shared_mindspore import diffusion_of, names_inside, product_mode

    spec = json.loads((folder / "spec.json").read_text())
    inputs = dict(np.load(folder / "inputs.npz"))
    group = distributed.start()
    diffusion = diffusion_of(spec, inputs).set_train(True)
    names = names_inside(diffusion)
    ours = {id(p): name for name, p in diffusion.parameters_and_names()}
    # With betas[0] = 0 the first moment is the gradient; a learning rate of 0 and no clipping leave all else alone.
    optimizer = Adam(diffusion.trainable_params(), 0.0, betas=(0.0, 0.9))
    with product_mode("graph"):
        step = TrainStep(
            diffusion, optimizer, DynamicLossScale(enabled=False), max_grad_norm=1e30, accumulate=1, group=group
        )
    mine = [np.array_split(inputs[name], group.world)[group.rank] for name in SHARED]
    result = step(0.0, [(*mine, False, None)])
    labels = [names[ours[id(p)]] for p in diffusion.trainable_params()]
    state = optimizer.state(labels)
    gradients = {f"grad.weight.{label}": state[f"exp_avg.{label}"] for label in labels}
    np.savez(folder / f"worker-{group.rank}.npz", loss=np.float32(result.loss), **gradients)
    group.close()
    return 0


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
