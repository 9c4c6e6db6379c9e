"""DDPMScheduler and DDIMScheduler: what they take and refuse, and that they do what GaussianDiffusion's samplers do."""

import copy
import json
from itertools import pairwise

import numpy as np
import pytest

from ms_ddpm import schedules
from ms_ddpm.errors import UserError

SHAPE = (2, 3, 4, 4)


@pytest.fixture(scope="module")
def schedulers(mindspore):
    """The module, with steps run operator by operator: nothing is compiled."""
    from ms_ddpm import runtime, schedulers

    with runtime.execution_mode(1):
        yield schedulers


def arrays(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)


def one_line(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- schedules and spacings ---


def test_zero_terminal_snr_keeps_the_first_and_ends_in_pure_noise():
    betas = schedules.beta_schedule("scaled_linear", 100)
    abar, rescaled = np.cumprod(1 - betas), np.cumprod(1 - schedules.zero_terminal_snr(betas))
    assert rescaled[-1] == 0
    assert rescaled[0] == pytest.approx(abar[0], rel=1e-12)
    assert (np.diff(rescaled) < 0).all()
    shifted = np.sqrt(rescaled) / (np.sqrt(abar) - np.sqrt(abar[-1]) + 1e-300)
    assert np.ptp(shifted[:-1]) < 1e-12  # one shift and one factor for all


@pytest.mark.parametrize("name", list(schedules.SCHEDULER_BETAS))
def test_every_schedule_of_diffusers_is_one_at_any_length(name):
    for steps in (10, 1000):
        betas = schedules.SCHEDULER_BETAS[name](steps, 1e-4, 0.02)
        assert betas.dtype == np.float64
        assert betas.shape == (steps,)
        assert 0 < betas.min() <= betas.max() < 1


@pytest.mark.parametrize(
    ("spacing", "offset", "steps", "expected"),
    [
        ("leading", 0, 5, [800, 600, 400, 200, 0]),
        ("leading", 1, 5, [801, 601, 401, 201, 1]),
        ("trailing", 0, 5, [999, 799, 599, 399, 199]),
        ("linspace", 0, 5, [999, 749, 500, 250, 0]),
        ("leading", 0, 3, [666, 333, 0]),
        ("trailing", 3, 3, [999, 666, 332]),  # the offset is for "leading" alone
        ("linspace", 0, 1, [0]),
    ],
)
def test_times_of_each_spacing(spacing, offset, steps, expected):
    assert schedules.spaced_times(1000, steps, spacing, offset) == expected


def test_every_number_of_steps_gives_as_many_times_strictly_descending():
    for spacing in schedules.SPACINGS:
        for steps in range(1, 1001):
            times = schedules.spaced_times(1000, steps, spacing)
            assert len(times) == steps, (spacing, steps)
            assert all(after < before for before, after in pairwise(times)), (spacing, steps)
            assert 0 <= times[-1] <= times[0] < 1000, (spacing, steps)


# --- steps ---


def tape_chain(scheduler, tape, gain, **options):
    x = tape[0]
    for i, time in enumerate(scheduler.timesteps.asnumpy().tolist(), 1):
        noise = tape[i] if i < len(tape) else np.zeros(SHAPE, np.float32)
        x = scheduler.step(gain * x, time, x, noise=noise, **options).prev_sample.asnumpy()
    return x


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_a_chain_is_the_one_of_our_own_sampler(schedulers, kind):
    from mindspore import nn

    from ms_ddpm import GaussianDiffusion, samplers

    class Known(nn.Cell):
        channels, out_dim, self_condition = SHAPE[1], SHAPE[1], False

        def construct(self, x, t, x_self_cond=None):
            return 0.8 * x

    diffusion = GaussianDiffusion(
        Known(), image_size=SHAPE[2:], timesteps=20, objective="pred_v", beta_schedule="cosine", auto_normalize=False
    )
    common = {"num_train_timesteps": 20, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
    if kind == "ddpm":
        scheduler, options, arguments = schedulers.DDPMScheduler(**common), {}, {}
    else:
        scheduler = schedulers.DDIMScheduler(**common, timestep_spacing="trailing")
        scheduler.set_timesteps(5)
        options, arguments = {"eta": 1.0, "use_clipped_model_output": True}, {"steps": 5, "eta": 1.0}
    tape = arrays(20 if kind == "ddpm" else 5)
    ours = samplers.SAMPLERS[kind](diffusion, SHAPE[0], noise=tape, progress=False, **arguments).asnumpy()
    theirs = tape_chain(scheduler, tape, np.float32(0.8), **options)
    np.testing.assert_allclose(theirs, ours, atol=2e-6)


def test_times_may_be_tensors_and_noise_a_seeded_generator(schedulers):
    from mindspore import Tensor

    x, output, _ = arrays(3)
    scheduler = schedulers.DDPMScheduler()
    scheduler.set_timesteps(10)
    noise = np.random.default_rng(3).standard_normal(SHAPE, dtype=np.float32)
    given = scheduler.step(Tensor(output), scheduler.timesteps[2], Tensor(x), noise=Tensor(noise))
    drawn = scheduler.step(output, 700, x, noise=np.random.default_rng(3))
    assert np.array_equal(given.prev_sample.asnumpy(), drawn.prev_sample.asnumpy())
    assert np.array_equal(given[1].asnumpy(), drawn.pred_original_sample.asnumpy())


def test_noise_is_not_asked_for_where_none_is_added(schedulers):
    x, output, _ = arrays(3)
    assert np.isfinite(schedulers.DDPMScheduler().step(output, 0, x).prev_sample.asnumpy()).all()
    ddim, rng = schedulers.DDIMScheduler(), np.random.default_rng(0)
    ddim.set_timesteps(10)
    before = rng.bit_generator.state
    ddim.step(output, 900, x, noise=rng)
    assert rng.bit_generator.state == before


def test_fixed_large_log_and_learned_give_numbers(schedulers):
    """diffusers takes the root of a logarithm there; what is meant is exp(log(variance) / 2)."""
    x, output, noise = arrays(3)
    both = np.concatenate([output, -np.abs(noise)], 1)
    large = [
        schedulers.DDPMScheduler(variance_type=kind).step(output, 500, x, noise=noise).prev_sample.asnumpy()
        for kind in ("fixed_large", "fixed_large_log")
    ]
    assert np.array_equal(*large)
    scheduler = schedulers.DDPMScheduler(variance_type="learned")
    quiet, loud = (scheduler.step(both, 500, x, noise=z).prev_sample.asnumpy() for z in (0 * noise, noise))
    np.testing.assert_allclose(loud - quiet, np.exp(-np.abs(noise) / 2) * noise, atol=1e-6)


@pytest.mark.parametrize("kind", ["learned", "learned_range"])
def test_a_learned_variance_beyond_all_numbers_does_not_reach_the_last_step(schedulers, kind):
    """exp(200 / 2) is infinite in float32, and no noise times infinity is not a number."""
    x, output, _ = arrays(3)
    ends = []
    for raw in (0.0, 200.0):
        both = np.concatenate([output, np.full_like(output, raw)], 1)
        ends.append(schedulers.DDPMScheduler(variance_type=kind).step(both, 0, x).prev_sample.asnumpy())
    assert np.isfinite(ends[0]).all()
    assert np.array_equal(*ends)


def test_a_threshold_is_a_quantile_of_its_own_image(schedulers):
    scheduler = schedulers.DDIMScheduler(
        prediction_type="sample", thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=3.0
    )
    scheduler.set_timesteps(10)
    output = arrays(1)[0] * np.array([0.1, 2.0], np.float32).reshape(2, 1, 1, 1)
    x_start = scheduler.step(output, 500, output).pred_original_sample.asnumpy()
    assert np.array_equal(x_start[0], output[0])  # all within 1: s = 1
    s = min(np.quantile(np.abs(output[1]), 0.9), 3.0)
    np.testing.assert_allclose(x_start[1], np.clip(output[1] / s, -1, 1), rtol=1e-6)


def test_half_precision_samples_stay_so_and_are_computed_in_float32(schedulers):
    import mindspore as ms
    from mindspore import Tensor

    x, output, noise = arrays(3)
    scheduler = schedulers.DDIMScheduler()
    scheduler.set_timesteps(10)
    half = [Tensor(value.astype(np.float16)) for value in (output, x, noise)]
    wide = [Tensor(value.asnumpy().astype(np.float32)) for value in half]
    narrow, full = (scheduler.step(o, 900, s, eta=1.0, noise=z).prev_sample for o, s, z in (half, wide))
    assert narrow.dtype == ms.float16
    assert np.array_equal(narrow.asnumpy(), full.asnumpy().astype(np.float16))
    noised = scheduler.add_noise(half[1], half[2], [0, 1])
    assert noised.dtype == ms.float16
    assert (noised != half[1]).any()  # in float16 1 - abar_0 would be 0


def test_one_graph_serves_every_step(mindspore, monkeypatch):
    from ms_ddpm import runtime
    from ms_ddpm.schedulers import DDPMScheduler

    made, compiled = [], runtime.compiled
    monkeypatch.setattr(runtime, "compiled", lambda function: made.append(compiled(function)) or made[-1])
    scheduler = DDPMScheduler(variance_type="learned_range")
    scheduler.set_timesteps(5)
    x, output, noise = arrays(3)
    for time in scheduler.timesteps:
        x = scheduler.step(np.concatenate([output, output], 1), time, x, noise=noise).prev_sample.asnumpy()
    assert len(made) == 1
    assert np.isfinite(x).all()


def test_velocity_and_noised_image_tell_the_image(schedulers):
    x_start, noise, _ = arrays(3)
    scheduler, times = schedulers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"), np.array([3, 700])
    x_t, v = scheduler.add_noise(x_start, noise, times), scheduler.get_velocity(x_start, noise, times)
    abar = scheduler.alphas_cumprod.asnumpy()[times].reshape(2, 1, 1, 1)
    back = np.sqrt(abar) * x_t.asnumpy() - np.sqrt(1 - abar) * v.asnumpy()
    np.testing.assert_allclose(back, x_start, atol=1e-5)  # abar here is the float32 one
    one = scheduler.add_noise(x_start[:1], noise[:1], 700).asnumpy()
    assert np.array_equal(one, scheduler.add_noise(x_start[:1], noise[:1], [700]).asnumpy())


# --- configuration ---


def test_a_configuration_goes_from_scheduler_to_scheduler_and_back(schedulers, tmp_path):
    ddim = schedulers.DDIMScheduler(set_alpha_to_one=False, beta_schedule="scaled_linear", steps_offset=1)
    ddpm = schedulers.DDPMScheduler.from_config(ddim.config, variance_type="fixed_large")
    assert ddpm.config.variance_type == "fixed_large"
    assert ddpm.config["set_alpha_to_one"] is False  # kept for the way back
    assert dict(schedulers.DDIMScheduler.from_config(ddpm.config).config) == dict(ddim.config) | {
        "variance_type": "fixed_large"
    }
    (tmp_path / "scheduler_config.json").write_text(json.dumps(dict(ddim.config)))
    for source in (tmp_path, str(tmp_path / "scheduler_config.json")):
        assert dict(schedulers.DDIMScheduler.from_config(source).config) == dict(ddim.config)


def test_a_scheduler_can_be_copied_and_its_config_not_changed(schedulers):
    scheduler = schedulers.DDPMScheduler(trained_betas=np.linspace(0.01, 0.1, 10), num_train_timesteps=10)
    other = copy.deepcopy(scheduler)
    assert dict(other.config) == dict(scheduler.config)
    json.dumps(scheduler.config)
    with pytest.raises(TypeError, match="from_config"):
        scheduler.config["beta_end"] = 1
    with pytest.raises(AttributeError, match="beta_start"):
        _ = scheduler.config.nothing
    assert len(other) == 10


# --- bad input: one line each ---

BAD_ARGUMENTS = [
    ({"prediction_type": "noise"}, "prediction_type is 'noise', expected one of: epsilon, sample, v_prediction"),
    ({"beta_schedule": "cosine"}, "beta_schedule is 'cosine', expected one of: linear, "),
    ({"timestep_spacing": "even"}, "timestep_spacing is 'even', expected one of: linspace, leading, trailing"),
    ({"num_train_timesteps": 0}, "num_train_timesteps is 0, expected a whole number from 1"),
    ({"num_train_timesteps": True}, "num_train_timesteps is True"),
    ({"beta_end": 2}, "beta_end is 2, expected a number between 0 and 1"),
    ({"beta_start": "a"}, "beta_start is 'a'"),
    ({"clip_sample": "no"}, "clip_sample is 'no', expected true or false"),
    ({"clip_sample_range": 0}, "clip_sample_range is 0, expected a number above 0"),
    ({"sample_max_value": float("nan")}, "sample_max_value is nan"),
    ({"dynamic_thresholding_ratio": 1.5}, "dynamic_thresholding_ratio is 1.5, expected a number from 0 to 1"),
    ({"steps_offset": -1}, "steps_offset is -1"),
    ({"trained_betas": [0.1, 0.2]}, "trained_betas has shape (2,), expected (num_train_timesteps,) = (1000,)"),
    ({"trained_betas": [[1], [2, 3]]}, "expected a list of numbers"),
    ({"trained_betas": [0.1, 1.2], "num_train_timesteps": 2}, "betas from 0.1 to 1.2, expected all in (0, 1)"),
    ({"num_train_timesteps": 1, "rescale_betas_zero_snr": True}, "expected at least 2"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS, ids=lambda value: str(value)[:40])
def test_a_wrong_argument_is_named(schedulers, arguments, message):
    for kind in (schedulers.DDPMScheduler, schedulers.DDIMScheduler):
        with pytest.raises(UserError) as caught:
            kind(**arguments)
        assert message in one_line(caught)


def test_a_wrong_variance_type_is_named(schedulers):
    with pytest.raises(UserError, match="variance_type is 'other', expected one of: fixed_small, "):
        schedulers.DDPMScheduler(variance_type="other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inference_steps": 1001}, "num_inference_steps is 1001, expected 1 to num_train_timesteps (1000)"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0, expected 1"),
        ({"num_inference_steps": 2.5}, "num_inference_steps is 2.5, expected 1 to 1000"),
        ({"num_inference_steps": 5, "timesteps": [3, 2]}, "expected exactly one of them"),
        ({}, "expected exactly one of them"),
        ({"timesteps": [100, 50, 51]}, "timesteps has 51 after 50, expected descending order"),
        ({"timesteps": [5, 5]}, "timesteps has 5 after 5"),
        ({"timesteps": [1000, 3]}, "timesteps has 1000, expected 0 to 999"),
        ({"timesteps": [3, -1]}, "timesteps has -1, expected 0 to 999"),
        ({"timesteps": []}, "expected a list of whole numbers"),
        ({"timesteps": [[1], [2, 3]]}, "timesteps are [[1], [2, 3]], expected a list of whole numbers"),
        ({"timesteps": [2.5, 1.0]}, "expected a list of whole numbers"),
    ],
)
def test_wrong_timesteps_are_named(schedulers, arguments, message):
    for kind in (schedulers.DDPMScheduler, schedulers.DDIMScheduler):
        scheduler = kind()
        with pytest.raises(UserError) as caught:
            scheduler.set_timesteps(**arguments)
        assert message in one_line(caught)
        assert scheduler.timesteps.shape == (1000,)  # as before


def test_an_offset_beyond_the_last_timestep_is_named(schedulers):
    with pytest.raises(UserError, match="makes the first timestep 1000, expected at most 999"):
        schedulers.DDIMScheduler(steps_offset=1).set_timesteps(1000)


STEP = {"model_output": np.zeros(SHAPE, np.float32), "timestep": 500, "sample": np.zeros(SHAPE, np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestep": 1000}, "timestep is 1000, expected one whole number from 0 to 999"),
        ({"timestep": -1}, "timestep is -1"),
        ({"timestep": 1.5}, "timestep is 1.5"),
        ({"timestep": [[1], [2, 3]]}, "timestep is [[1], [2, 3]], expected one whole number"),
        ({"timestep": 501}, "timestep is 501, which is none of `timesteps`; the nearest of them is 500"),
        ({"model_output": np.zeros((2, 6, 4, 4), np.float32)}, "model_output has shape (2, 6, 4, 4), expected (2, 3,"),
        ({"sample": np.zeros((2, 3), np.float32)}, "model_output has shape (2, 3, 4, 4), expected (2, 3)"),
        ({"sample": np.zeros(SHAPE, np.int32)}, "sample is int32, expected a Tensor of float32"),
        ({"sample": None}, "sample is NoneType"),
        ({"noise": None}, "adds noise, and none was given; give noise="),
        ({"noise": np.zeros((1, 3, 4, 4), np.float32)}, "noise has shape (1, 3, 4, 4), expected the sample's"),
    ],
)
def test_a_wrong_step_is_named(schedulers, change, message):
    for kind, options in ((schedulers.DDPMScheduler, {}), (schedulers.DDIMScheduler, {"eta": 1.0})):
        scheduler = kind()
        scheduler.set_timesteps(10)
        with pytest.raises(UserError) as caught:
            scheduler.step(**{**STEP, "noise": STEP["sample"], **change}, **options)
        assert message in one_line(caught)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan"), "a"])
def test_a_wrong_eta_is_named(schedulers, eta):
    scheduler = schedulers.DDIMScheduler()
    scheduler.set_timesteps(10)
    with pytest.raises(UserError, match=r"eta is .*, expected 0 \(deterministic\) to 1"):
        scheduler.step(**STEP, eta=eta, noise=STEP["sample"])


def test_ddim_says_that_the_steps_are_not_chosen_yet_and_that_it_learns_no_variance(schedulers):
    scheduler = schedulers.DDIMScheduler()
    with pytest.raises(UserError, match="call set_timesteps first"):
        scheduler.step(**STEP)
    with pytest.raises(UserError, match="twice the sample's channels as the variance is learned"):
        schedulers.DDPMScheduler(variance_type="learned").step(**STEP, noise=STEP["sample"])


@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler"])
def test_noise_predicted_at_zero_snr_is_refused_where_it_matters(schedulers, kind):
    scheduler = getattr(schedulers, kind)(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    with pytest.raises(UserError, match="at timestep 999 the sample is pure noise") as caught:
        scheduler.step(**{**STEP, "timestep": 999}, noise=STEP["sample"])
    assert "v_prediction" in one_line(caught)
    later = int(scheduler.timesteps[1])
    assert np.isfinite(scheduler.step(**{**STEP, "timestep": later}, noise=STEP["sample"]).prev_sample.asnumpy()).all()


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0, 1000], "timesteps has 1000, expected 0 to 999"),
        ([-1, 0], "timesteps has -1"),
        ([1, 2, 3], "of shape (3,), expected whole numbers of shape (2,)"),
        ([0.5, 1.0], "expected whole numbers"),
        ([[1, 2]], "of shape (1, 2)"),
        ([[1], [2, 3]], "timesteps are [[1], [2, 3]]"),
    ],
)
def test_wrong_times_of_the_forward_process_are_named(schedulers, times, message):
    scheduler, x = schedulers.DDIMScheduler(), np.zeros(SHAPE, np.float32)
    for method in (scheduler.add_noise, scheduler.get_velocity):
        with pytest.raises(UserError) as caught:
            method(x, x, times)
        assert message in one_line(caught)
        with pytest.raises(UserError, match="the noise has shape"):
            method(x, x[:1], [0, 1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "give a scheduler's scheduler_config.json"),
        ("[1, 2]", "expected a JSON object"),
        ("\xff", "cannot read "),
        ('{"prediction_type": "flow"}', "prediction_type is 'flow'"),
        ('{"num_train_timesteps": "many"}', "num_train_timesteps is 'many'"),
    ],
)
def test_a_wrong_configuration_file_is_named(schedulers, tmp_path, content, message):
    if content is not None:
        (tmp_path / "scheduler_config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        schedulers.DDPMScheduler.from_config(tmp_path)
    assert message in one_line(caught)


@pytest.mark.parametrize("source", [5, None, [1]])
def test_a_configuration_that_is_none_is_named(schedulers, source):
    with pytest.raises(UserError, match="expected a dict, a file or a directory") as caught:
        schedulers.DDIMScheduler.from_config(source)
    assert f"configuration is {source!r}" in one_line(caught)


def test_an_argument_that_does_not_exist_is_named(schedulers):
    with pytest.raises(UserError, match="DDIMScheduler has no argument 'variance_type'; it takes: num_train_timesteps"):
        schedulers.DDIMScheduler.from_config({}, variance_type="learned")
