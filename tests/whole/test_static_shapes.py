"""Every graph is compiled once: on an Ascend a second compilation costs minutes, and a third is a leak of time."""

import re
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

pytestmark = pytest.mark.graph


@pytest.fixture
def compilations(mindspore):
    """``with compilations() as made``: afterwards {function: how many graphs were compiled of it}."""
    from mindspore.graph import api

    @contextmanager
    def counting():
        before, made = set(api.ms_compile_cache), Counter()
        yield made
        for phase in api.ms_compile_cache - before:  # "module.function.file.line..."
            made[re.match(r"[\w.]*?\.(\w+)\./", phase).group(1)] += 1

    return counting


@pytest.fixture(scope="module")
def diffusion(mindspore):
    from ms_ddpm import GaussianDiffusion
    from tests.small import SmallNet

    def make(**options):
        return GaussianDiffusion(SmallNet(**options), image_size=8, timesteps=8)

    return make


@pytest.fixture(scope="module")
def sampled(diffusion):
    """A diffusion that two tests sample from."""
    return diffusion()


def test_the_counter_counts(mindspore, compilations):
    def twice(x, factor):
        return x * factor

    graph = mindspore.jit(twice)
    with compilations() as made:
        for batch in (2, 3, 2):
            graph(mindspore.Tensor(np.ones(batch, np.float32)), 2)
        graph(mindspore.Tensor(np.ones(2, np.float32)), 3)  # a constant of the graph
    assert made == {"twice": 3}


def test_a_training_run_compiles_each_graph_once(diffusion, compilations, tmp_path, monkeypatch):
    """25 images in batches of 4: with accumulation, validation, two checkpoints with samples, a warm-up of the rate."""
    from ms_ddpm import Trainer, data, samplers
    from ms_ddpm.ops import kernels

    monkeypatch.setenv("TQDM_DISABLE", "1")
    digits = data.open_images("digits", image_size=(8, 8), channels=1)
    few, _ = data.split(digits, len(digits) - 25, 0)

    def sample_fn(cell, num):
        return samplers.sample_images(cell, num, batch_size=min(num, 2), progress=False)

    with kernels.switched_off(), compilations() as made:
        trainer = Trainer(
            diffusion(), few, train_batch_size=4, gradient_accumulate_every=2, train_num_steps=6, validation_images=6,
            save_and_sample_every=3, num_samples=3, sample_fn=sample_fn, ema_update_every=2, warmup_steps=3,
            lr_schedule="cosine", results_folder=tmp_path, progress=False,
        )  # fmt: skip
        trainer.ema.update_after_step = 2  # so that it copies, then blends
        trainer.train()
        trainer.sample_grid()
    assert made == {"add": 1, "finish": 1, "loss": 1, "_copy_graph": 1, "_blend_graph": 1, "p_sample": 1}


@pytest.mark.slow
def test_self_conditioning_is_two_graphs_and_dropout_none(diffusion, compilations):
    """One network call, or two: whoever draws the coin, each is compiled once."""
    from ms_ddpm.ops import kernels
    from ms_ddpm.training.amp import DynamicLossScale
    from ms_ddpm.training.optim import Adam
    from ms_ddpm.training.train_step import TrainStep

    cell = diffusion(self_condition=True, dropout=0.1)
    rng = np.random.default_rng(0)
    images = rng.random((2, 1, 8, 8), dtype=np.float32)
    with kernels.switched_off(), compilations() as made:
        step = TrainStep(
            cell, Adam(cell.trainable_params()), DynamicLossScale(enabled=False), max_grad_norm=1.0, accumulate=1
        )
        for i in range(8):
            step(1e-4 * (i + 1), [(images, *cell.set_train().draw(rng, (images,)))])
    assert made == {"whole": 2}


def test_sampling_compiles_one_step_for_any_number_steps_and_eta(sampled, compilations):
    from ms_ddpm import samplers

    with compilations() as made:
        for num, steps, eta in ((10, 3, 0.0), (4, 5, 1.0), (5, 2, 0.5)):  # 10 and 5 are no multiples of the batch
            images = samplers.sample_images(
                sampled, num, batch_size=4, sampler="ddim", steps=steps, eta=eta, progress=False
            )
            assert images.shape == (num, 1, 8, 8)
    assert made == {"ddim_step": 1}


def test_the_images_of_a_batch_that_was_filled_up_are_those_of_a_full_one(sampled):
    """Each image has a noise stream of its own, so what fills the last batch up changes none of the others."""
    from ms_ddpm import samplers

    options = {"sampler": "ddim", "steps": 3, "eta": 1.0, "progress": False}
    filled = samplers.sample_images(sampled, 6, batch_size=4, **options)
    whole = samplers.sample_images(sampled, 8, batch_size=4, **options)
    assert np.array_equal(filled, whole[:6])


@pytest.mark.parametrize("name", ["PNDMScheduler", "UniPCMultistepScheduler"])
def test_a_scheduler_of_few_steps_compiles_one_step_for_any_chain(mindspore, compilations, name):
    """What it remembers grows, its order too: the graph is the same."""
    import ms_ddpm

    scheduler, x = getattr(ms_ddpm, name)(), np.ones((2, 1, 4, 4), np.float32)
    with compilations() as made:
        for steps in (5, 8):
            scheduler.set_timesteps(steps)
            for time in scheduler.timesteps:
                x = scheduler.step(x, time, x).prev_sample.asnumpy()
    assert made == {"step": 1}
    assert np.isfinite(x).all()
