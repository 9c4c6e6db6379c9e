"""That every key of a configuration reaches what it is for: `CHECKS`. All of them differ from their defaults here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from unittest import mock

from ms_ddpm import registry
from ms_ddpm.config import Config

RENAMED = {"augment_horizontal_flip": "flip", "results_folder": "output_dir"}
OTHERS = {  # values that are neither the key's default nor one of another key's
    "init_dim": 24, "dim_mults": [1, 3], "full_attn": [True, False], "sampling_timesteps": 17,
    "beta_schedule": "linear",
    "schedule_fn_kwargs": {"beta_end": 0.03}, "objective": "pred_x0", "loss_type": "l1", "norm": "group",
    "downsample": "conv", "optimizer": "adamw", "adam_betas": [0.81, 0.93], "weight_decay": 0.07,
    "lr_schedule": "exponential", "amp_level": "O1", "amp_dtype": "bfloat16", "resume": "never", "epochs": 3,
    "output_dir": "somewhere", "noise_kind": "gaussian", "device_id": 3, "mode": 1, "matmul_precision": "high",
    "threads": 1, "image_size": [16, 24], "class_dropout": 0.3, "score_sampler": "heun", "sampling_eps": 0.02,
    "accept_changes": ["data", "objective"], "init_from": "elsewhere", "init_weights": "model",
    "ema_decay": 0.8, "dropout": 0.2, "ddim_sampling_eta": 0.4,
    "lr_decay": 0.7, "lr_floor": 0.1,
}  # fmt: skip


def _other(name: str, default, number: int):
    if name in OTHERS:
        return OTHERS[name]
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1 + number
    if isinstance(default, float):
        return default + 0.5 + number / 100
    raise AssertionError(f"parity_tests.orchestration.settings.OTHERS needs another value of {name}")


def config_with(names: Iterable[str], **given) -> Config:
    """A Config whose keys ``names`` differ from their defaults; ``given`` are as they are."""
    config = Config(system=given.get("system", "diffusion"))
    values = {name: _other(name, getattr(config, name), i) for i, name in enumerate(sorted(names)) if name not in given}
    for name, value in {**values, **given}.items():
        setattr(config, name, value)
    return config


def keys_of(*functions: Callable) -> dict[str, str]:
    """Arguments of ``functions`` that are keys of a configuration: argument -> key."""
    from ms_ddpm.config import FIELDS

    arguments = [name for function in functions for name in inspect.signature(function).parameters]
    return {name: RENAMED.get(name, name) for name in arguments if RENAMED.get(name, name) in FIELDS}


def assert_given(calls: mock.Mock, keys: dict[str, str], config, what: str) -> None:
    """``calls`` was called once, with every key of ``keys`` as ``config`` has it."""
    assert calls.call_count == 1, f"{what} was called {calls.call_count} times"
    given = calls.call_args.kwargs
    for argument, key in keys.items():
        wanted = getattr(config, key)
        assert argument in given, f"{what} is not given {argument}"
        told = list(given[argument]) if isinstance(wanted, list) else given[argument]
        assert told == wanted, f"{what} is given {argument} {told!r}, the configuration says {wanted!r}"


def check_trainer(folder: Path) -> None:
    """train.py gives the Trainer every key that it takes."""
    from ms_ddpm import trainer
    from ms_ddpm.cli import train

    keys = {a: k for a, k in keys_of(trainer.Trainer.__init__).items() if a != "dataset"}
    assert len(keys) > 25
    config = config_with(keys.values())
    with mock.patch.object(trainer, "Trainer") as made, mock.patch("ms_ddpm.registry.of"):
        train.build_trainer(config, None)
    assert_given(made, keys, config, "the Trainer")


def check_diffusion(folder: Path) -> None:
    """A recipe's U-Net and GaussianDiffusion are given every key that they take."""
    from ms_ddpm.systems.diffusion import model

    of_unet, of_diffusion = keys_of(model.Unet.__init__), keys_of(model.GaussianDiffusion.__init__)
    own = {"dim": "dim", "image_size": "image_size", "dim_mults": "dim_mults"}
    assert {*of_unet.values(), *of_diffusion.values()} > {"min_snr_gamma", "schedule_fn_kwargs", "dropout"}
    config = config_with({*of_unet.values(), *of_diffusion.values()})
    with (
        mock.patch.object(model, "Unet") as unet, mock.patch.object(model, "GaussianDiffusion") as diffusion,
        mock.patch.object(model, "check_network"),
    ):  # fmt: skip
        registry.of(config).build(config)
    assert unet.call_args.args == (config.dim,)
    assert_given(unet, {a: k for a, k in of_unet.items() if a not in own}, config, "the U-Net")
    assert list(unet.call_args.kwargs["dim_mults"]) == config.dim_mults
    assert_given(diffusion, {a: k for a, k in of_diffusion.items() if a not in own}, config, "the diffusion")
    assert list(diffusion.call_args.kwargs["image_size"]) == config.image_size


def check_score(folder: Path) -> None:
    """A score recipe's model and process are given every key that they take."""
    from ms_ddpm import score

    names = {
        "guidance_scale": "guidance_scale", "class_dropout": "class_dropout", "num_classes": "num_classes",
        "sampler": "score_sampler", "sampling_timesteps": "sampling_timesteps", "sampling_eps": "sampling_eps",
        "corrector_snr": "corrector_snr", "denoise": "sampling_denoise", "time_power": "time_power",
    }  # fmt: skip
    config = config_with([*names.values(), "sde_beta_min", "sde_beta_max", "sigma", "sigma_data", "data_mean"],
                         sigma_data=0.3, system="score")  # fmt: skip
    mock_model = mock.Mock()
    mock_model(**score.score_options(config))
    assert_given(mock_model, names, config, "the score model")
    arguments = set(inspect.signature(score.ScoreModel.__init__).parameters)
    assert arguments - {*names, "self", "net", "sde", "image_size", "channels"} == set(), "a new option of ScoreModel"
    for name in ("vp", "subvp"):
        config.sde = name
        told, known = score.build_sde(config), score.SDES[name](config.sde_beta_min, config.sde_beta_max)
        assert told.same_as(known), f"{told} for beta from {config.sde_beta_min} to {config.sde_beta_max}"
        assert not told.same_as(score.SDES[name]())
    config.sde = "ve"
    assert score.build_sde(config).same_as(score.SDES["ve"](config.sigma))
    with mock.patch.object(score, "PreconditionedScore") as made:
        score.precondition("net", "sde", config)
    assert made.call_args.args == ("net", "sde", config.sigma_data, config.data_mean)


def check_corruption(folder: Path) -> None:
    """A corruption recipe's model is given every key that it takes."""
    from ms_ddpm import corruption

    config = config_with(["noise_kind", "sampling_timesteps", "image_size"], system="corruption")
    with mock.patch.object(corruption, "Corruption") as made:
        corruption.build_corruption(config)
    keys = {"noise_kind": "noise_kind", "sampling_timesteps": "sampling_timesteps"}
    assert_given(made, keys, config, "the corruption model")
    assert list(made.call_args.kwargs["image_size"]) == config.image_size


def check_machine(folder: Path) -> None:
    """MindSpore is started as the configuration says, by a single process and by a worker."""
    from ms_ddpm.cli import train
    from ms_ddpm.devices import distributed

    keys = {name: name for name in ("mode", "seed", "matmul_precision", "device_id")}
    config = config_with([*keys, "threads"])
    with (
        mock.patch("ms_ddpm.devices.runtime.setup", side_effect=ZeroDivisionError) as setup,
        mock.patch.object(train, "resolve", return_value=config), mock.patch("ms_ddpm.systems.sizes.check_training"),
        suppress(ZeroDivisionError),
    ):  # fmt: skip
        train.main([])
    assert_given(setup, {**keys, "threads": "threads"}, config, "runtime.setup")
    assert setup.call_args.args == (config.device_target,)
    with (
        mock.patch("ms_ddpm.devices.runtime.setup") as setup, mock.patch.object(distributed, "supervise"),
        mock.patch.object(distributed, "share_cores"), mock.patch.object(distributed, "start"),
    ):  # fmt: skip
        distributed.start_worker(config)
    assert_given(setup, keys, config, "runtime.setup of a worker")


def check_the_same_run(folder: Path) -> None:
    """A run whose rate depends on its length may not be lengthened; a constant one may."""
    from ms_ddpm.config import differences, to_dict

    for schedule, fixed in (("cosine", True), ("linear", True), ("constant", False), ("exponential", False)):
        old = {**to_dict(Config()), "lr_schedule": schedule, "train_num_steps": 10, "epochs": None}
        for key, value in (("train_num_steps", 20), ("epochs", 7)):
            told = differences(old, {**old, key: value})
            assert len(told) == fixed, f"{schedule} with another {key}: {told}"


CHECKS = {
    "settings/trainer": check_trainer,
    "settings/diffusion": check_diffusion,
    "settings/score": check_score,
    "settings/corruption": check_corruption,
    "settings/machine": check_machine,
    "settings/same_run": check_the_same_run,
}
