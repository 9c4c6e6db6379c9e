"""The schedulers against diffusers where it is installed: torch_ref too, in double, and how files are read."""

import json
import logging

import numpy as np
import pytest

from parity_tests.systems.core.peers import diffusers_leg
from parity_tests.systems.schedulers import peers as tier
from parity_tests.systems.schedulers.driver import NAMES
from portparity import run
from portparity.runner import record
from portparity.verdict import AGREE

CASES = list(tier.tier_peers())
THEIRS = [case for case in CASES if case.id.startswith("peers/diffusers/") and case.computation.rule != "exact"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_torch_ref_agrees(case):
    pytest.importorskip("torch")
    [outcome] = run([case], "torch", recorded=record)
    assert outcome.verdict == AGREE, outcome.message


@pytest.mark.parametrize("case", THEIRS, ids=lambda case: case.id)
def test_in_double_the_formulas_of_diffusers_are_the_oracles(case):
    computation = case.computation
    if computation.spec["kind"] in ("scheduler_tables", "scheduler_levels"):
        pytest.skip("their tables are float32; the oracle's take their place in double")
    inputs = computation.inputs()
    found = diffusers_leg(computation.spec["kind"], computation.spec, dtype="float64")(inputs)
    truth = computation.truth(inputs)
    assert set(found) == set(truth)
    for name, value in found.items():
        assert value.dtype == np.float64, name
        np.testing.assert_allclose(
            value, truth[name], rtol=0, atol=1e-19 + 2e-10 * np.abs(truth[name]).max(), err_msg=name
        )


def test_everything_that_diffusers_can_do_is_compared():
    pytest.importorskip("diffusers")
    ids = {case.id for case in CASES}
    assert len(THEIRS) > 110
    assert not [name for name in ids if "-learned-" in name or "fixed_large_log" in name]
    assert "peers/diffusers/step/scheduler_ddim-v_prediction-eta0.5-rederived-threshold" in ids


def test_the_names_of_arguments_and_their_defaults_are_diffusers():
    diffusers = pytest.importorskip("diffusers")
    import inspect

    import ms_ddpm

    for name in NAMES.values():
        theirs, ours = (inspect.signature(getattr(home, name)).parameters for home in (diffusers, ms_ddpm))
        defaults = {key: [] if p.default == () else p.default for key, p in ours.items()}  # theirs is one list for all
        assert defaults == {k: p.default for k, p in theirs.items()}
        assert list(ours) == list(theirs), name


def test_the_arguments_of_other_schedulers_are_those_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    from ms_ddpm.schedulers import config

    def keys(cls):
        return cls._get_init_keys(cls) - {"self", "args", "kwargs"}

    scheduler = diffusers.DDPMScheduler
    real = [cls for cls in scheduler._get_compatibles() if "dummy" not in cls.__module__]
    theirs = set().union(*map(keys, real)) - keys(scheduler) | {"variance_type"}
    assert theirs | {"noise_sampler_seed"} == config.OTHER_SCHEDULERS_KEYS  # that of the one which needs torchsde


@pytest.mark.parametrize(
    "content",
    [
        {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule":
         "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False,
         "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False},
        {"_class_name": "DDPMScheduler", "_diffusers_version": "0.1.1", "beta_end": 0.02, "beta_schedule": "linear",
         "beta_start": 0.0001, "clip_sample": True, "num_train_timesteps": 1000, "trained_betas": None,
         "variance_type": "fixed_small", "timestep_values": None},
        {"_class_name": "EulerDiscreteScheduler", "prediction_type": "v_prediction", "use_karras_sigmas": True,
         "timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "_use_default_values": ["timestep_spacing"]},
        {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3, "nobody_knows": [1]},
    ],
    ids=["stable_diffusion", "ddpm_cifar10", "euler", "trained_betas"],
)  # fmt: skip
def test_a_configuration_is_read_as_diffusers_reads_it(content, tmp_path, caplog):
    diffusers = pytest.importorskip("diffusers")
    import ms_ddpm

    (tmp_path / "scheduler_config.json").write_text(json.dumps(content))
    for name in NAMES.values():
        theirs = getattr(diffusers, name).from_config(dict(content))
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            ours = getattr(ms_ddpm, name).from_config(tmp_path)
        shown = {key: value for key, value in theirs.config.items() if not key.startswith("_")}
        assert dict(ours.config) == shown
        known_by_nobody = {"timestep_values", "nobody_knows"} & set(content)
        assert len(caplog.records) == len(known_by_nobody)
        assert all(key in caplog.text for key in known_by_nobody)
        np.testing.assert_allclose(ours.alphas_cumprod.asnumpy(), theirs.alphas_cumprod.numpy(), rtol=2e-5, atol=1e-12)
        if (name == "PNDMScheduler" and not ours.config.skip_prk_steps) or len(ours) == 3:
            continue  # too few steps for it
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(3)
        np.testing.assert_allclose(ours.timesteps.asnumpy(), theirs.timesteps.numpy(), rtol=1e-6)


@pytest.mark.parametrize("first", NAMES.values())
def test_a_configuration_goes_to_every_other_class_as_in_diffusers(first):
    diffusers = pytest.importorskip("diffusers")
    import ms_ddpm

    chosen = {"beta_schedule": "scaled_linear", "timestep_spacing": "leading"}
    ours, theirs = (getattr(home, first)(**chosen) for home in (ms_ddpm, diffusers))
    for name in NAMES.values():
        there = getattr(diffusers, name).from_config(theirs.config)
        here = getattr(ms_ddpm, name).from_config(ours.config)
        assert dict(here.config) == {key: value for key, value in there.config.items() if not key.startswith("_")}
        there_again = getattr(diffusers, first).from_config(there.config)
        here_again = getattr(ms_ddpm, first).from_config(here.config)
        shown = {key: value for key, value in there_again.config.items() if not key.startswith("_")}
        assert dict(here_again.config) == shown


@pytest.mark.parametrize("name", NAMES.values())
def test_diffusers_reads_what_is_saved(name, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    import ms_ddpm

    ours = getattr(ms_ddpm, name)(beta_schedule="scaled_linear", beta_end=0.012)
    ours.save_pretrained(tmp_path)
    theirs = getattr(diffusers, name).from_pretrained(tmp_path)
    assert {key: value for key, value in theirs.config.items() if not key.startswith("_")} == dict(ours.config)
