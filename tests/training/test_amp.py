"""Mixed precision: which dtype computes, the loss scale's life in a run, its state in checkpoints."""

import json
import logging
import math

import numpy as np
import pytest

from ms_ddpm import checkpoint
from ms_ddpm.errors import NonFiniteError, UserError


@pytest.fixture(scope="module")
def make_cell(mindspore):
    """A model of two weights: its gradient overflows float16 once the loss scale is above ``limit``.

    ``overflow_at`` and ``nan_at`` name batches whose gradient, or whose loss too, is not finite at any scale.
    """
    from mindspore import Parameter, nn, ops

    class Overflowing(nn.Cell):
        channels, image_size = 1, (8, 8)

        def __init__(self, limit=math.inf, overflow_at=(), nan_at=()):
            super().__init__()
            self.w = Parameter(np.full((1, 8, 8), 0.5, np.float32), name="w")
            self.draws, self.overflow_at, self.nan_at = 0, overflow_at, nan_at
            self.size = 0.0 if limit == math.inf else 60000 / limit

        def draw(self, rng, batch):
            self.draws += 1
            huge = np.float32(1e30 if self.draws in self.overflow_at else 0)
            bad = np.float32(np.nan if self.draws in self.nan_at else 0)
            zero = np.float32(0)  # given, so that no compiler sees through it
            return rng.standard_normal(batch[0].shape).astype(np.float32), huge, bad, zero

        def construct(self, image, noise, huge, bad, zero):
            error = self.w * image - noise
            # Its value is 0, and its gradient passes float16 at scale * factor, as a product's does at O1 and O2.
            half = ops.cast(self.w.sum() * zero, mindspore.float16)
            return (error * error).mean() + ops.cast(half, mindspore.float32) * (self.size + huge) + bad

    return Overflowing


@pytest.fixture
def train(make_cell, tmp_path):
    """Trains a fresh cell at ``amp_level``; the trainer, and what `on_step` told of every step."""
    from ms_ddpm import Trainer

    def run(steps=8, folder="run", cell=None, growth_interval=3, **options):
        seen = []
        trainer = Trainer(
            cell or make_cell(), "digits",
            **{
                "train_batch_size": 8, "train_num_steps": steps, "save_and_sample_every": 100, "log_every": 1,
                "train_lr": 1e-2, "results_folder": tmp_path / folder, "progress": False, "ema_update_every": 1,
                "amp_level": "O2", "on_step": lambda record: seen.append((state_of(trainer), record)), **options,
            },
        )  # fmt: skip
        trainer.scaler.growth_interval = growth_interval
        try:
            trainer.train()
        finally:
            trainer.close()  # `seen` keeps the trainer alive, and the directory is to be used again
        return trainer, seen

    return run


def state_of(trainer):
    return {
        **{name: p.asnumpy().copy() for name, p in trainer.cell.parameters_and_names()},
        **{f"ema.{k}": v for k, v in trainer.ema.state().items()},
        **trainer.optimizer.state(trainer.names),
        **{f"scaler.{k}": np.array(v) for k, v in trainer.scaler.state().items()},
    }


def moved(a, b):
    assert a.keys() == b.keys()
    return sorted(name for name in a if not np.array_equal(a[name], b[name]))


def scales(trainer):
    """Of every logged step; None where a step had none."""
    return [json.loads(line).get("loss_scale") for line in (trainer.folder / "log.jsonl").read_text().splitlines()]


# --- the scale in a run ---------------------------------------------------------------------------------------------


def test_an_overflow_halves_the_scale_and_changes_nothing_else(train, make_cell):
    trainer, seen = train(6, cell=make_cell(overflow_at={3}))
    states = [state for state, _ in seen]
    assert moved(states[1], states[2]) == ["scaler.good_steps", "scaler.scale"]
    assert scales(trainer) == [2.0**16, 2.0**16, 2.0**16, 2.0**15, 2.0**15, 2.0**15]
    assert "w" in moved(states[2], states[3])
    assert trainer.skipped == 1
    assert float(trainer.optimizer.steps.asnumpy()) == trainer.ema.calls == 5
    assert np.isfinite(seen[2][1]["loss"])
    assert not np.isfinite(seen[2][1]["grad_norm"])


def test_the_scale_doubles_after_the_interval_of_finite_steps(train):
    trainer, _ = train(8)
    assert scales(trainer) == [2.0**16] * 3 + [2.0**17] * 3 + [2.0**18] * 2


def test_a_run_interrupted_within_an_interval_ends_in_the_same_bits(train, make_cell):
    """Overflows at steps 2 and 7; stopped after 4, 2 good steps into an interval of 3."""
    whole, _ = train(9, "whole", cell=make_cell(overflow_at={2, 7}))
    stopped, _ = train(4, "parts", cell=make_cell(overflow_at={2}))
    assert stopped.scaler.state() == {"enabled": True, "scale": 2.0**15, "good_steps": 2.0}
    resumed, _ = train(9, "parts", cell=make_cell(overflow_at={3}))  # its third step is the run's seventh
    assert moved(state_of(whole), state_of(resumed)) == []
    assert whole.skipped == resumed.skipped == 2
    assert scales(resumed) == scales(whole)


def test_overflows_at_the_start_are_no_diverging_run(train, make_cell):
    """From 65536 to 2 are 15 overflows in a row, of which three would stop a run."""
    trainer, _ = train(20, cell=make_cell(limit=2.0), max_nonfinite=3, growth_interval=2000)
    assert trainer.skipped == 15
    assert float(trainer.scaler.scale.asnumpy()) == 2.0
    assert checkpoint.load(checkpoint.locate(trainer.folder)).step == 20


def test_overflows_that_no_scale_ends_stop_the_run(train, make_cell):
    """16 halvings from 65536 to 1 are free; then they count."""
    with pytest.raises(NonFiniteError, match=r"3 steps in a row, from step 17 on"):
        train(50, cell=make_cell(overflow_at=set(range(1, 99))), max_nonfinite=3)


def test_a_loss_that_is_not_finite_counts_at_any_scale(train, make_cell):
    with pytest.raises(NonFiniteError, match=r"3 steps in a row, from step 2 on"):
        train(50, cell=make_cell(nan_at=set(range(2, 99))), max_nonfinite=3)


def test_a_checkpoint_that_falls_on_an_overflow_is_written(train, make_cell):
    trainer, _ = train(5, cell=make_cell(overflow_at={5}))
    assert checkpoint.steps(trainer.checkpoints) == [5]
    state = checkpoint.read_state(checkpoint.locate(trainer.folder))["training"]
    assert state["scaler"] == {"enabled": True, "scale": 2.0**16, "good_steps": 0.0}
    assert state["skipped_steps"] == 1


# --- going on at another level --------------------------------------------------------------------------------------


def test_a_float32_run_that_goes_on_in_float16_begins_with_the_initial_scale(train):
    train(3, amp_level="O0")
    trainer, _ = train(5, amp_level="O2", growth_interval=2000)
    assert scales(trainer) == [None] * 3 + [2.0**16] * 2


def test_a_float16_run_that_goes_on_in_float32_has_no_scale(train):
    train(3, growth_interval=2000)
    trainer, _ = train(5, amp_level="O0")
    assert float(trainer.scaler.scale.asnumpy()) == 1.0
    assert trainer.scaler.state() == {"enabled": False, "scale": 1.0, "good_steps": 0.0}


@pytest.mark.parametrize(
    ("old", "scale"),
    [({"scale": 1.0, "good_steps": 0.0}, 2.0**16), ({"scale": 64.0, "good_steps": 7.0}, 64.0)],
    ids=["float32", "float16"],
)
def test_states_of_0_1_0_did_not_say_whether_there_was_a_scale(mindspore, old, scale):
    from ms_ddpm.training.amp import DynamicLossScale

    scaler = DynamicLossScale()
    scaler.load_state(old)
    assert scaler.state()["scale"] == scale


# --- the scale itself -----------------------------------------------------------------------------------------------


def test_a_scale_that_cannot_grow_stays(mindspore):
    from mindspore import Tensor

    from ms_ddpm.training.amp import DynamicLossScale

    scaler = DynamicLossScale(init_scale=2.0**127, growth_interval=1)
    scaler.update(Tensor(True))
    assert scaler.state()["scale"] == 2.0**127


@pytest.mark.parametrize(
    "options", [{"init_scale": 0}, {"growth_factor": 1}, {"backoff_factor": 1.5}, {"growth_interval": 0}]
)
def test_impossible_scales_are_named(mindspore, options):
    from ms_ddpm.training.amp import DynamicLossScale

    with pytest.raises(UserError, match=next(iter(options))):
        DynamicLossScale(**options)


# --- the dtype ------------------------------------------------------------------------------------------------------


def test_the_cpu_computes_in_float16_and_not_in_bfloat16(mindspore):
    """Where this fails, MindSpore has learnt bfloat16: the harness then runs it; correct docs/precision.md."""
    from ms_ddpm import amp

    assert amp.why_not("float16") == ""
    assert "no bfloat16 convolutions and matrix products on CPU" in amp.why_not("bfloat16")
    assert mindspore.ops.ones((2,), mindspore.float32).asnumpy().tolist() == [1, 1]  # the failed try left no error


def test_a_dtype_that_the_device_lacks_is_refused_before_anything_is_changed(mindspore):
    from ms_ddpm import Unet, amp
    from ms_ddpm.nn.layers import Affine

    unet = Unet(8, dim_mults=(1,), channels=1, rng=0)
    before = unet.by_kernels
    with pytest.raises(UserError, match=r"'bfloat16', but MindSpore 2\.\d+.* use --amp_dtype float16 or --amp_level"):
        amp.apply_amp(unet, "O1", "bfloat16")
    assert unet.by_kernels == before
    assert {layer.compute_dtype for _, layer in unet.cells_and_names() if isinstance(layer, Affine)} == {None}


def networks():
    from ms_ddpm import Unet
    from ms_ddpm.models.autoencoder import AutoEncoder
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.models.conditional_unet import ConditionalScoreUnet, LatentScoreUnet
    from ms_ddpm.models.score_unet import ScoreUnet
    from ms_ddpm.nn.transformer import SpatialTransformer

    return {
        "Unet": Unet(8, dim_mults=(1, 2), rng=0),
        "Unet of 2022": Unet(8, dim_mults=(1, 2), norm="group", downsample="conv", rng=0),
        "ScoreUnet": ScoreUnet(abs, rng=0),
        "ConditionalScoreUnet": ConditionalScoreUnet(abs, rng=0),
        "LatentScoreUnet": LatentScoreUnet(abs, rng=0),
        "AutoEncoder": AutoEncoder(rng=0),
        "BasicNet": BasicNet(rng=0),
        "SpatialTransformer": SpatialTransformer(8, 4, rng=0),
    }


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
def test_what_hands_on_float32(mindspore, level):
    """At O1 every layer; at O2 a Unet's last convolution and its time embedding, and nothing of another network."""
    from ms_ddpm import amp
    from ms_ddpm.nn.layers import Affine

    of_a_unet = {"time_mlp.linear1", "time_mlp.linear2", "final_conv"}
    for name, network in networks().items():
        amp.apply_amp(network, level)
        layers = {inner: layer for inner, layer in network.cells_and_names() if isinstance(layer, Affine)}
        at_o2 = of_a_unet if name.startswith("Unet") else set()
        expected = {"O0": set(), "O1": set(layers), "O2": at_o2}[level]
        half = set() if level == "O0" else set(layers)
        assert {inner for inner, layer in layers.items() if layer.compute_dtype == mindspore.float16} == half, name
        assert {inner for inner, layer in layers.items() if layer.output_dtype == mindspore.float32} == expected, name


def test_an_unknown_dtype_is_named(mindspore, train):
    with pytest.raises(UserError, match="amp_dtype is 'float8', expected one of: float16, bfloat16"):
        train(amp_dtype="float8")


def test_bfloat16_has_no_loss_scale_and_sets_every_layer(mindspore, monkeypatch):
    """On a device that has it; here its word is taken for that."""
    from ms_ddpm import Unet, amp
    from ms_ddpm.nn.layers import Affine

    monkeypatch.setattr(amp, "why_not", lambda dtype: "")
    unet = Unet(8, dim_mults=(1,), channels=1, rng=0)
    amp.apply_amp(unet, "O1", "bfloat16")
    layers = [layer for _, layer in unet.cells_and_names() if isinstance(layer, Affine)]
    assert {(layer.compute_dtype, layer.output_dtype) for layer in layers} == {(mindspore.bfloat16, mindspore.float32)}
    assert [amp.needs_loss_scale(*pair) for pair in (("O1", "bfloat16"), ("O2", "float16"), ("O0", "float16"))] == [
        False, True, False,
    ]  # fmt: skip


def test_a_dtype_without_a_level_says_that_it_changes_nothing(mindspore, caplog):
    from ms_ddpm import Unet, amp

    with caplog.at_level(logging.WARNING, "ms_ddpm"):
        amp.apply_amp(Unet(8, dim_mults=(1,), channels=1, rng=0), "O0", "bfloat16")
    assert "amp_dtype bfloat16 changes nothing at amp_level O0" in caplog.text
