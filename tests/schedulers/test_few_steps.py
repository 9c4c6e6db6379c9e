"""Euler, PNDM, DPM-Solver and UniPC: what they take, keep and refuse. Their numbers are compared in parity_tests."""

import copy
import json

import numpy as np
import pytest

from ms_ddpm.errors import UserError

SHAPE = (2, 3, 4, 5)
NAMES = (
    "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)  # fmt: skip
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
NOISELESS = ("PNDMScheduler", "UniPCMultistepScheduler")


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


def chain(scheduler, x, network, first=0, **options):
    """From the ``first`` of the times on, with noise that depends on the place alone."""
    for i, time in list(enumerate(scheduler.timesteps))[first:]:
        seen = scheduler.scale_model_input(x, time)
        given = {} if type(scheduler).__name__ in NOISELESS else {"noise": arrays(1, seed=i)[0]}
        x = scheduler.step(network(seen), time, x, **given, **options).prev_sample
    return x.asnumpy()


@pytest.mark.parametrize("name", NAMES)
def test_a_chain_goes_to_what_the_network_says(schedulers, name):
    """A network that knows the image: v = sqrt(abar) eps - sqrt(1 - abar) x_0 of the x that it sees."""
    from mindspore import Tensor

    scheduler = getattr(schedulers, name)(beta_schedule="scaled_linear", prediction_type="v_prediction")
    scheduler.set_timesteps(20)
    image, noise = arrays(2)
    place = iter(scheduler.timesteps.asnumpy().tolist())

    def network(x):
        time = next(place)
        abar = np.interp(time, np.arange(1000), scheduler.alphas_cumprod.asnumpy())
        eps = (x.asnumpy() - np.sqrt(abar) * image) / np.sqrt(1 - abar)
        return Tensor((np.sqrt(abar) * eps - np.sqrt(1 - abar) * image).astype(np.float32))

    found = chain(scheduler, Tensor(noise * np.float32(scheduler.init_noise_sigma)), network)
    rest = 0.04 if name == "PNDMScheduler" else 1e-4  # abar of time 0, where PNDM ends, is not 1
    assert np.abs(found - image).max() < rest


@pytest.mark.parametrize("name", NAMES)
def test_a_second_chain_and_a_copy_are_the_first_again(schedulers, name):
    from mindspore import Tensor

    scheduler, x = getattr(schedulers, name)(), Tensor(arrays(1)[0])
    scheduler.set_timesteps(14)
    first = chain(scheduler, x, lambda seen: 0.5 * seen)
    other = copy.deepcopy(scheduler)
    for again in (scheduler, other):
        again.set_timesteps(14)
        assert np.array_equal(chain(again, x, lambda seen: 0.5 * seen), first)


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_a_pair_by_name_or_plain(schedulers, name):
    x, output, noise = arrays(3)
    given = {} if name in NOISELESS else {"noise": noise}
    pairs = []
    for plain in (False, True):
        scheduler = getattr(schedulers, name)()
        scheduler.set_timesteps(10)
        pairs.append(scheduler.step(output, scheduler.timesteps[0], x, **given, return_dict=not plain))
    assert type(pairs[1]) is tuple
    assert np.array_equal(pairs[0].prev_sample.asnumpy(), pairs[1][0].asnumpy())
    assert np.array_equal(pairs[0].pred_original_sample.asnumpy(), pairs[1][1].asnumpy())


def test_ddpm_and_ddim_give_plain_tuples_and_take_a_time_for_each_sample(schedulers):
    from mindspore import Tensor

    x, output, noise = arrays(3)
    for scheduler, options in ((schedulers.DDPMScheduler(), {}), (schedulers.DDIMScheduler(), {"eta": 0.7})):
        scheduler.set_timesteps(10)
        options = {**options, "noise": noise}
        for times in ([700, 0], np.array([0, 300]), Tensor(np.array([100, 900], np.int32))):
            both, _ = scheduler.step(output, times, x, **options, return_dict=False)
            for i, time in enumerate(np.asarray(times).tolist()):
                alone = scheduler.step(output, time, x, **options).prev_sample
                assert np.array_equal(both.asnumpy()[i], alone.asnumpy()[i])
        with pytest.raises(UserError, match="expected one whole number"):
            scheduler.step(output, [0, 100, 200], x, **options)
        with pytest.raises(UserError, match="timestep is 701, which is none of `timesteps`"):
            scheduler.step(output, [700, 701], x, **options)


def test_noise_comes_from_a_numpy_generator_and_no_other(schedulers):
    class Generator:
        """Of another library."""

    Generator.__module__ = "torch._C"
    x, output, _ = arrays(3)
    for name in ("DDPMScheduler", "EulerAncestralDiscreteScheduler"):
        found = []
        for given in ("noise", "generator"):
            scheduler = getattr(schedulers, name)()
            scheduler.set_timesteps(10)
            time = scheduler.timesteps[0]
            found.append(scheduler.step(output, time, x, **{given: np.random.default_rng(3)}).prev_sample.asnumpy())
        assert np.array_equal(*found)
        scheduler.set_timesteps(10)
        with pytest.raises(UserError, match="expected a numpy Generator; make one with") as caught:
            scheduler.step(output, time, x, generator=Generator())
        assert "generator is a torch._C." in one_line(caught)
        with pytest.raises(UserError, match="given both noise and generator"):
            scheduler.step(output, time, x, noise=x, generator=np.random.default_rng(0))
        with pytest.raises(UserError, match="adds noise, and none was given"):
            scheduler.step(output, time, x)


def test_thirty_steps_of_pndm_are_31_calls_or_39(schedulers):
    skipping, warming = schedulers.PNDMScheduler(skip_prk_steps=True, steps_offset=1), schedulers.PNDMScheduler()
    for scheduler, calls in ((skipping, 31), (warming, 39)):
        scheduler.set_timesteps(30)
        assert len(scheduler.timesteps) == calls
    assert skipping.timesteps.asnumpy().tolist()[:4] == [958, 925, 925, 892]
    with pytest.raises(UserError, match="num_inference_steps is 3, expected at least 4, or skip_prk_steps true"):
        warming.set_timesteps(3)


@pytest.mark.parametrize("name", NAMES[:2] + NAMES[3:])
def test_image_to_image_begins_in_the_middle(schedulers, name):
    from mindspore import Tensor

    scheduler = getattr(schedulers, name)()
    scheduler.set_timesteps(10)
    scheduler.set_begin_index(6)
    image, noise = arrays(2)
    x = scheduler.add_noise(image, noise, scheduler.timesteps[6:7])
    sigma = scheduler.sigmas.asnumpy()[6]
    expected = image + sigma * noise
    expected = expected if "Euler" in name else expected / np.sqrt(1 + sigma**2)
    np.testing.assert_allclose(x.asnumpy(), expected, atol=1e-6)
    with pytest.raises(UserError, match="the next of `timesteps`"):
        scheduler.step(noise, scheduler.timesteps[5], x)
    assert np.isfinite(chain(scheduler, Tensor(image), lambda seen: 0.1 * seen, first=6)).all()
    assert scheduler.step_index == 10
    with pytest.raises(UserError, match="begin_index is 10, expected 0 to 9"):
        scheduler.set_begin_index(10)


@pytest.mark.parametrize("name", NAMES)
def test_noise_for_training_is_that_of_the_table_at_any_time(schedulers, name):
    """Before set_timesteps; diffusers' DPM-Solver and UniPC take the table upside down there."""
    scheduler = getattr(schedulers, name)()
    image, noise = arrays(2)
    x = scheduler.add_noise(image, noise, [3, 700]).asnumpy()
    abar = schedulers.DDPMScheduler().alphas_cumprod.asnumpy()[[3, 700]].reshape(2, 1, 1, 1)
    expected = np.sqrt(abar) * image + np.sqrt(1 - abar) * noise
    expected = expected / np.sqrt(abar) if "Euler" in name else expected
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)


def test_half_precision_samples_stay_so(schedulers):
    import mindspore as ms
    from mindspore import Tensor

    x, output, _ = arrays(3)
    for name in NOISELESS:
        scheduler = getattr(schedulers, name)()
        scheduler.set_timesteps(10)
        for time in scheduler.timesteps[:3]:
            found = scheduler.step(Tensor(output.astype(np.float16)), time, Tensor(x.astype(np.float16))).prev_sample
            assert found.dtype == ms.float16


# --- files and configurations ---


@pytest.mark.parametrize("name", NAMES)
def test_a_scheduler_is_saved_and_read_again(schedulers, tmp_path, name):
    made = getattr(schedulers, name)(beta_end=0.012, trained_betas=np.linspace(0.01, 0.1, 50), num_train_timesteps=50)
    made.save_pretrained(tmp_path / "scheduler")
    written = json.loads((tmp_path / "scheduler/scheduler_config.json").read_text())
    assert written["_class_name"] == name
    again = getattr(schedulers, name).from_pretrained(tmp_path, subfolder="scheduler")
    assert dict(again.config) == dict(made.config)
    with pytest.raises(UserError, match="is no directory on this disk, and nothing is downloaded") as caught:
        getattr(schedulers, name).from_pretrained("runwayml/stable-diffusion-v1-5", subfolder="scheduler")
    assert "hf download runwayml/stable-diffusion-v1-5 --local-dir" in one_line(caught)


def test_defaults_that_nobody_chose_do_not_go_to_another_class(schedulers):
    """As in diffusers: PNDM's "leading" is its default, and DPM-Solver has another; the file's own value goes over."""
    default = schedulers.DPMSolverMultistepScheduler.from_config(schedulers.PNDMScheduler().config)
    assert default.config.timestep_spacing == "linspace"
    chosen = schedulers.PNDMScheduler(timestep_spacing="leading", steps_offset=1)
    for config in (chosen.config, copy.deepcopy(chosen.config)):
        made = schedulers.DPMSolverMultistepScheduler.from_config(config)
        assert made.config.timestep_spacing == "leading"
        assert made.config.steps_offset == 1
    assert dict(schedulers.PNDMScheduler.from_config(made.config).config)["steps_offset"] == 1


def test_beta_sigmas_lie_at_the_distribution_s_quantiles(mindspore):
    scipy = pytest.importorskip("scipy.special")
    from ms_ddpm.maths.solvers import beta_quantiles, beta_sigmas

    shares = np.concatenate([[0.0, 1e-9, 1e-4], np.linspace(0.001, 0.999, 333), [1 - 1e-9, 1.0]])
    for shape in (0.6, 0.25, 2.5):
        np.testing.assert_allclose(
            beta_quantiles(shares, shape), scipy.betaincinv(shape, shape, shares), rtol=1e-12, atol=1e-14
        )
    levels = beta_sigmas(14.6, 0.03, 9)
    assert (levels[0], levels[-1]) == (14.6, 0.03)
    gaps = -np.diff(levels)
    assert gaps.min() == min(gaps[0], gaps[-1])
    assert gaps.argmax() in (3, 4)
    assert beta_sigmas(3.0, 1.0, 1).tolist() == [3.0]


@pytest.mark.parametrize(
    ("config", "clip", "steps"),
    [
        *(({**STABLE, "rescale_betas_zero_snr": True}, -5.1, n) for n in (69, 70, 71, 138)),
        *(({"beta_schedule": "squaredcos_cap_v2"}, -3.0, n) for n in (31, 62, 93)),
    ],
)
def test_a_clipped_chain_ends_at_its_smallest_noise(schedulers, config, clip, steps):
    """Its last time was -1, which reads a table from its other end: the largest noise level behind all smaller ones."""
    made = schedulers.DPMSolverMultistepScheduler(**config, timestep_spacing="trailing", lambda_min_clipped=clip)
    made.set_timesteps(steps)
    times, sigmas = made.timesteps.asnumpy(), made.sigmas.asnumpy()
    assert len(times) == made.num_inference_steps < steps
    assert times.min() >= 0
    assert (np.diff(sigmas) < 0).all()


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", *NAMES])
def test_the_device_of_a_loop_for_pytorch_is_taken_at_its_place(schedulers, name):
    made = getattr(schedulers, name)()
    made.set_timesteps(7)
    expected = made.timesteps.asnumpy()
    made.set_timesteps(7, "cuda")
    assert np.array_equal(made.timesteps.asnumpy(), expected)
    made.set_timesteps(7, device="cpu")
    assert np.array_equal(made.timesteps.asnumpy(), expected)


def test_a_value_that_a_file_has_wrong_is_said_with_the_file(schedulers, tmp_path):
    (tmp_path / "scheduler_config.json").write_text('{"prediction_type": "flow_prediction"}')
    for source in (tmp_path, tmp_path / "scheduler_config.json"):
        with pytest.raises(UserError) as caught:
            schedulers.EulerDiscreteScheduler.from_config(source)
        assert one_line(caught).startswith(f"{source}: prediction_type is 'flow_prediction', expected one of")
    with pytest.raises(UserError, match="sigmas of one's own are for flow matching"):
        schedulers.UniPCMultistepScheduler().set_timesteps(5, sigmas=[1.0, 0.5])


# --- bad input: one line each ---


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (NAMES[0], {"prediction_type": "flow"}, "prediction_type is 'flow', expected one of"),
        (NAMES[0], {"use_karras_sigmas": True, "use_exponential_sigmas": True}, "are both true, expected at most one"),
        (NAMES[0], {"use_beta_sigmas": True, "use_karras_sigmas": True}, "are both true, expected at most one"),
        (NAMES[4], {"use_beta_sigmas": "yes"}, "use_beta_sigmas is 'yes', expected true or false, or nothing"),
        (NAMES[0], {"interpolation_type": "cubic"}, "interpolation_type is 'cubic', expected one of"),
        (NAMES[0], {"sigma_min": -1}, "sigma_min is -1, expected a number above 0, or nothing"),
        (NAMES[2], {"prediction_type": "sample"}, "expected one of: epsilon, v_prediction"),
        (NAMES[2], {"skip_prk_steps": "yes"}, "skip_prk_steps is 'yes', expected true or false"),
        (NAMES[3], {"solver_order": 4}, "solver_order is 4, expected 1, 2 or 3"),
        (NAMES[3], {"solver_type": "bh3"}, "solver_type is 'bh3', expected one of: midpoint, heun"),
        (NAMES[3], {"algorithm_type": "ode"}, "algorithm_type is 'ode', expected one of: dpmsolver++, "),
        (NAMES[3], {"algorithm_type": "dpmsolver"}, "expected final_sigmas_type 'sigma_min'"),
        (NAMES[3], {"use_flow_sigmas": True}, "use_flow_sigmas is True, expected False: flow matching is not there"),
        (NAMES[3], {"use_karras_sigmas": True, "use_lu_lambdas": True}, "are both true, expected at most one"),
        (NAMES[3], {"algorithm_type": "sde-dpmsolver", "solver_order": 3, "final_sigmas_type": "sigma_min"},
         "solver_order is 3 with algorithm_type 'sde-dpmsolver', expected 1 or 2"),
        (NAMES[4], {"disable_corrector": [0.5]}, "disable_corrector is [0.5], expected a list of whole numbers"),
        (NAMES[4], {"predict_x0": False}, "predict_x0 is false with final_sigmas_type 'zero'"),
        (NAMES[4], {"lower_order_final": False}, "lower_order_final is false with final_sigmas_type 'zero'"),
        (NAMES[4], {"solver_p": "another"}, "solver_p is 'another', expected None"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(schedulers, name, arguments, message):
    with pytest.raises(UserError) as caught:
        getattr(schedulers, name)(**arguments)
    assert message in one_line(caught)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        *((name, {"num_inference_steps": 0}, "num_inference_steps is 0, expected 1 to") for name in NAMES),
        (NAMES[0], {}, "expected exactly one of them"),
        (NAMES[0], {"timesteps": [5, 9]}, "timesteps are [5, 9], expected descending numbers from 999 to 0"),
        (NAMES[0], {"sigmas": [1.0]}, "sigmas are [1.0], expected at least two"),
        (NAMES[0], {"sigmas": "many"}, "sigmas are 'many', expected a list of numbers"),
        (NAMES[3], {"num_inference_steps": 1000}, "num_inference_steps is 1000, expected 1 to 999"),
        (NAMES[3], {"timesteps": [5, 9]}, "timesteps has 9 after 5, expected descending order"),
    ],
)
def test_a_wrong_chain_is_named(schedulers, name, arguments, message):
    with pytest.raises(UserError) as caught:
        getattr(schedulers, name)().set_timesteps(**arguments)
    assert message in one_line(caught)


def test_ends_that_do_not_fit_are_named(schedulers):
    with pytest.raises(UserError, match="sigma_min is 20, expected at most the largest sigma"):
        schedulers.EulerDiscreteScheduler(use_karras_sigmas=True, sigma_min=20, sigma_max=3).set_timesteps(5)
    with pytest.raises(UserError, match="lambda_min_clipped is 9, which leaves 0 of 1000 times for 5 steps"):
        schedulers.DPMSolverMultistepScheduler(lambda_min_clipped=9).set_timesteps(5)
    other = schedulers.UniPCMultistepScheduler.from_config({"lambda_min_clipped": 9})  # no argument of its own
    other.set_timesteps(5)
    scheduler, x = schedulers.EulerDiscreteScheduler(), arrays(1)[0]
    scheduler.set_timesteps(5)
    for value in (-1, float("nan"), "much"):
        with pytest.raises(UserError, match=r"s_churn is .*, expected a number of at least 0"):
            scheduler.step(x, scheduler.timesteps[0], x, s_churn=value)


def test_a_schedule_that_ends_in_pure_noise_has_a_finite_sigma(schedulers):
    betas = np.append(np.linspace(0.001, 0.1, 99), 1.0)
    scheduler = schedulers.EulerDiscreteScheduler(100, trained_betas=betas, prediction_type="v_prediction")
    scheduler.set_timesteps(5)
    assert scheduler.init_noise_sigma == pytest.approx(4096, rel=1e-6)


def test_times_with_sigmas_of_their_own_are_refused(schedulers):
    for name in (NAMES[0], *NAMES[3:]):
        with pytest.raises(UserError, match="give num_inference_steps"):
            getattr(schedulers, name)(use_karras_sigmas=True).set_timesteps(timesteps=[9, 5])


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_step_is_named(schedulers, name):
    scheduler, x = getattr(schedulers, name)(), arrays(1)[0]
    given = {} if name in NOISELESS else {"noise": x}
    with pytest.raises(UserError, match="call set_timesteps first"):
        scheduler.step(x, 999, x, **given)
    scheduler.set_timesteps(10)
    times = scheduler.timesteps.asnumpy().tolist()
    for time, message in (
        (times[0] - 1, "which is none of `timesteps`; the nearest of them is"), ([1, 2], "expected one of `timesteps`"),
        ("now", "timestep is 'now', expected one of `timesteps`"),
    ):  # fmt: skip
        with pytest.raises(UserError) as caught:
            scheduler.step(x, time, x, **given)
        assert message in one_line(caught)
    with pytest.raises(UserError, match="model_output has shape"):
        scheduler.step(x[:, :1], times[0], x, **given)
    assert scheduler.step_index is None  # as before
    scheduler.step(x, times[0], x, **given)
    with pytest.raises(UserError, match=f"timestep is {times[3]}, expected {times[1]}, the next of `timesteps`"):
        scheduler.step(x, times[3], x, **given)
    for time in times[1:]:
        scheduler.step(x, time, x, **given)
    with pytest.raises(UserError, match=f"all {len(times)} steps of the chain are done; call set_timesteps"):
        scheduler.step(x, times[-1], x, **given)
