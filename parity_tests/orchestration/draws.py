"""What a step draws, number by number, for every system: `CHECKS`."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .twin import stream

if TYPE_CHECKING:
    from mindspore import nn

T, SIDES = 5, (2, 3)
SHAPE = (4, 1, *SIDES)
DRAW, VALIDATION = 4, 5


def equal(told, expected, what: str) -> None:
    """Both are the same numbers, or both None."""
    assert (told is None) == (expected is None), f"{what} is {told}, expected {expected}"
    if expected is not None:
        assert np.array_equal(told, expected), f"{what} is {np.ravel(told)[:4]}, expected {np.ravel(expected)[:4]}"


def network(**facts) -> nn.Cell:
    """A network of the shape that the systems ask for; it answers 0.5 x."""
    from mindspore import nn

    class Half(nn.Cell):
        channels, out_dim, self_condition, dropout = 1, 1, False, 0.0

        def construct(self, x, *others):
            return 0.5 * x

    made = Half()
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def make_diffusion(model: nn.Cell | None = None, **options) -> nn.Cell:
    """A small diffusion over images that are not square."""
    from ms_ddpm import GaussianDiffusion

    return GaussianDiffusion(model or network(), image_size=SIDES, **{"timesteps": T, **options})


def check_diffusion(folder: Path) -> None:
    """Times from 0 to T - 1, noise, the coin, offset noise, and in training a key of dropout for every batch."""
    model = make_diffusion(network(self_condition=True, dropout=0.5), offset_noise_strength=0.1)
    images, times, keys, coins = (np.zeros(SHAPE, np.float32),), [], [], []
    for training in (False, True):
        model.set_train(training)
        for number in range(20):
            t, noise, coin, offset, key = model.draw(stream(0, DRAW, number), images)
            rng = stream(0, DRAW, number)
            equal(t, rng.integers(0, T, SHAPE[0], dtype=np.int32), "t")
            equal(noise, rng.standard_normal(SHAPE, dtype=np.float32), "noise")
            equal(coin, rng.random() < 0.5, "the coin of self-conditioning")
            equal(offset, rng.standard_normal(SHAPE[:2], dtype=np.float32), "offset noise")
            equal(key, np.int32(rng.integers(-(2**31), 2**31)) if training else None, "the key of dropout")
            times, coins = [*times, *t], [*coins, bool(coin)]
            keys += [int(key)] if training else []
    assert set(times) == set(range(T)), f"times drawn: {sorted(set(times))}, expected all of 0 to {T - 1}"
    assert len(set(keys)) == len(keys) == 20, "keys of dropout repeat"
    assert len(set(coins)) == 2, "self-conditioning is always on or always off"


def nearest(x: np.ndarray, noise: np.ndarray) -> list[int]:
    """Which noise each image gets, so that the sum of distances is least: all permutations tried."""
    distance = ((x[:, None] - noise[None]) ** 2).sum((2, 3, 4)) ** 0.5
    return list(min(permutations(range(len(x))), key=lambda order: sum(distance[i, k] for i, k in enumerate(order))))


def check_immiscible(folder: Path) -> None:
    """The noise of each image is the nearest to the image as it is noised: in [-1, 1], whatever range it came in."""
    for normalize in (True, False):
        model, told_apart = make_diffusion(immiscible=True, auto_normalize=normalize), set()
        for number in range(12):
            images = stream(1, number).random(SHAPE, dtype=np.float32) ** 3
            seen = 2 * images - 1 if normalize else images
            rng = stream(0, DRAW, number)
            t = rng.integers(0, T, SHAPE[0], dtype=np.int32)
            noise = rng.standard_normal(SHAPE, dtype=np.float32)
            order = nearest(seen, noise)
            drawn = model.draw(stream(0, DRAW, number), (images,))
            equal(drawn[0], t, "t")
            equal(drawn[1], noise[order], "assigned noise")
            wrong = {
                "inverse": np.argsort(order).tolist(), "not at all": [0, 1, 2, 3],
                "by other images": nearest(images if normalize else 2 * images - 1, noise),
            }  # fmt: skip
            told_apart |= {name for name, other in wrong.items() if other != order}
        assert told_apart == set(wrong), f"the fixture tells only {told_apart} apart"


def check_score(folder: Path) -> None:
    """Times, noise and hidden classes of a conditional score model."""
    from ms_ddpm.nn.sde import SDES
    from ms_ddpm.systems.score.score_model import ScoreModel

    for power, dropped in ((1.0, 0.0), (2.0, 0.4)):
        model = ScoreModel(
            network(num_classes=3, null_class=True), SDES["vp"](), image_size=SIDES, channels=1, num_classes=3,
            class_dropout=dropped, time_power=power,
        )  # fmt: skip
        for number in range(6):
            drawn = model.draw(stream(0, DRAW, number), (np.zeros(SHAPE, np.float32), np.array([0, 2, 1, 2])))
            rng = stream(0, DRAW, number)
            equal(drawn[0], (1e-5 + (1 - 1e-5) * rng.random(SHAPE[0]) ** power).astype(np.float32), "t")
            equal(drawn[1], rng.standard_normal(SHAPE, dtype=np.float32), "z")
            assert len(drawn) == (3 if dropped else 2)
            if dropped:
                equal(drawn[2], (rng.random(SHAPE[0]) < dropped).astype(np.int32), "hidden classes")


def check_corruption(folder: Path) -> None:
    """Amounts, one for each image, and noise of every kind."""
    from ms_ddpm.systems.corruption.corruption import Corruption

    images = stream(1, 0).random(SHAPE, dtype=np.float32)
    for kind in ("uniform", "gaussian", "salt_and_pepper", "poisson", "multiplicative"):
        amount, z = Corruption(network(), image_size=SIDES, noise_kind=kind).draw(stream(0, DRAW, 3), (images,))
        rng = stream(0, DRAW, 3)
        equal(amount, rng.random(SHAPE[0], dtype=np.float32), f"amounts of {kind} noise")
        if kind in ("uniform", "salt_and_pepper"):
            equal(z, rng.random(SHAPE, dtype=np.float32), f"{kind} noise")
        elif kind == "poisson":
            photons = images.astype(np.float64) / amount.astype(np.float64).reshape(-1, 1, 1, 1) ** 2
            equal(z, rng.poisson(photons).astype(np.float32), f"{kind} noise")
        else:
            equal(z, rng.standard_normal(SHAPE, dtype=np.float32), f"{kind} noise")


class Worker:
    """Worker ``rank`` of ``world``, as far as data go."""

    def __init__(self, rank: int, world: int):
        self.rank, self.world = rank, world


def in_training(count: int) -> tuple[nn.Cell, np.ndarray, np.ndarray]:
    """A small model with classes and dropout, in training mode; ``count`` images and their labels."""
    model = make_diffusion(network(dropout=0.5))
    model.conditional = True
    model.set_train(True)
    pixels = stream(1, 1).integers(0, 256, (count, *SHAPE[1:])).astype(np.uint8)
    return model, pixels, np.arange(count, dtype=np.int32) + 10


def check_inputs_of_a_step(folder: Path) -> None:
    """Images, labels and draws of every batch of a run are named by its number, whoever asks and from where on."""
    from ms_ddpm.data import array_source
    from ms_ddpm.training.train_step import step_inputs

    model, pixels, labels = in_training(7)

    def batch(number: int) -> list[np.ndarray]:
        places = [divmod(place, 7) for place in range(number * 4, number * 4 + 4)]
        chosen = [stream(9, 2, epoch).permutation(7)[row] for epoch, row in places]
        x = pixels[chosen]
        mirrored = stream(9, 3, number, 0).random(4) < 0.5
        x[mirrored] = x[mirrored][..., ::-1]
        rng = stream(9, DRAW, number)
        t, noise = rng.integers(0, T, 4, dtype=np.int32), rng.standard_normal(SHAPE, dtype=np.float32)
        return [np.divide(x, 255, dtype=np.float32), labels[chosen], t, noise, rng.integers(-(2**31), 2**31)]

    assert len({int(batch(number)[-1]) for number in range(12)}) == 12
    for start, rank, world, accumulate in ((0, 0, 1, 1), (4, 0, 1, 2), (4, 1, 2, 2)):
        told = list(
            step_inputs(
                model, array_source("pixels", pixels, labels), 4, accumulate, seed=9, flip=True, start=start, steps=2,
                workers=1, group=Worker(rank, world),
            )
        )  # fmt: skip
        assert [len(step) for step in told] == [accumulate] * 2
        for i, inputs in enumerate(inputs for step in told for inputs in step):
            number = start + i * world + rank
            images, classes, t, noise, coin, offset, key = inputs
            for name, mine, wanted in zip(
                ("images", "labels", "t", "noise", "the key of dropout"), (images, classes, t, noise, key),
                batch(number), strict=True,
            ):  # fmt: skip
                equal(mine, wanted, f"{name} of batch {number}")
            assert (coin, offset) == (False, None)


def check_validation(folder: Path) -> None:
    """The mean loss of held-out images: in whole batches, labels their own, draws named by the batch, no dropout."""
    from ms_ddpm.data import array_source
    from ms_ddpm.training.train_step import mean_loss

    model, pixels, labels = in_training(11)
    seen = []

    def loss(*inputs):
        import mindspore as ms

        seen.append([value.asnumpy() if isinstance(value, ms.Tensor) else value for value in inputs])
        return ms.Tensor(np.float32(len(seen) ** 2))

    mean = mean_loss(loss, model, array_source("pixels", pixels, labels), 4, 9)
    assert mean == (1 + 4) / 2, f"the mean of losses 1 and 4 is {mean}"
    assert model.training, "after validation the model is not in training mode"
    for i, inputs in enumerate(seen):
        rng, rows = stream(9, VALIDATION, i), slice(4 * i, 4 * i + 4)
        equal(inputs[0], np.divide(pixels[rows], 255, dtype=np.float32), "images held out")
        equal(inputs[1], labels[rows], "labels of images held out")
        equal(inputs[2], rng.integers(0, T, 4, dtype=np.int32), "t")
        equal(inputs[3], rng.standard_normal(SHAPE, dtype=np.float32), "noise")
        equal(inputs[6], None, "the key of dropout")
    few = array_source("pixels", pixels[:3], labels[:3])
    assert mean_loss(lambda *inputs: loss(*inputs), model, few, 4, 9) == 9, "fewer images than a batch are one batch"


CHECKS = {
    "draws/diffusion": check_diffusion,
    "draws/immiscible": check_immiscible,
    "draws/score": check_score,
    "draws/corruption": check_corruption,
    "draws/inputs_of_a_step": check_inputs_of_a_step,
    "draws/validation": check_validation,
}
