"""Keys that belong to other systems are refused, and numbers that nothing could finish."""

import dataclasses
import re

import pytest
import yaml

from ms_ddpm import config, config_systems
from ms_ddpm.errors import UserError

from .conftest import ROOT

RECIPES = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_resolves(recipe):
    assert config.resolve({}, str(recipe)).output_dir.startswith("runs/")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"system": "corruption", "num_classes": 10, "guidance_scale": 3.0}, "num_classes is 10, but it belongs to the "
         "systems score, latent, and system is corruption; leave it out, or set system: score"),
        ({"guidance_scale": 3.0}, "guidance_scale is 3.0, but it belongs to the systems score, latent"),
        ({"noise_kind": "poisson"}, "noise_kind is 'poisson', but it belongs to the system corruption, and system is"),
        ({"autoencoder": "runs/a"}, "autoencoder is 'runs/a', but it belongs to the system latent"),
        ({"system": "latent", "score_net": "add"}, "score_net is 'add', but it belongs to the system score"),
        ({"system": "latent", "perceptual": "none"}, "perceptual is 'none', but it belongs to the system autoencoder"),
        ({"system": "autoencoder", "sampling_timesteps": 5}, "sampling_timesteps is 5, but it belongs"),
        ({"system": "score", "objective": "pred_noise"}, "objective is 'pred_noise', but it belongs to the system"),
        ({"system": "score", "dim_mults": [1, 2]}, r"dim_mults is \[1, 2\], but it belongs to the system diffusion"),
        ({"system": "score", "score_sampler": "ode", "sampling_timesteps": 50}, "sampling_timesteps is 50, but the ode "
         "sampler chooses its own steps"),
    ],
)  # fmt: skip
def test_keys_that_do_nothing_are_refused(values, words, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    for flags, file in ((values, None), ({}, str(path))):
        with pytest.raises(UserError, match=words) as caught:
            config.resolve(flags, file)
        assert "\n" not in str(caught.value)


def test_keys_at_their_defaults_and_those_of_a_checkpoint_are_not():
    plain = config.to_dict(config.Config())
    for system in config.SYSTEMS:
        assert config.resolve({**plain, "system": system}, None).system == system
    stored = {"system": "corruption", "num_classes": 10}
    assert config.from_mapping(stored, "checkpoint") == stored


def test_the_table_knows_every_key_that_a_builder_of_few_systems_reads():
    """What the builders' sources read of a configuration, against the table."""
    modules = {
        "score": ["score"], "corruption": ["corruption"], "autoencoder": ["autoencoder", "perceptual"],
        "latent": ["latent", "score"],
    }  # fmt: skip
    names = list(config.FIELDS)
    everybodys = {*names[: names.index("dim")], *names[names.index("epochs") :]}  # data; training, output, machine
    for system, parts in modules.items():
        sources = "".join((ROOT / "ms_ddpm" / f"{name}.py").read_text() for name in parts)
        for key in set(re.findall(r"\bconfig\.([a-z_0-9]+)", sources)) & set(config.FIELDS) - everybodys:
            if key not in ("score_net", "whole_images"):  # in the source of build_score, which latent does not call
                assert system in config_systems.SYSTEMS_OF[key], (system, key)
    fields = {field.name for field in dataclasses.fields(config.Config)}
    assert set(config_systems.SYSTEMS_OF) <= fields
    source = (ROOT / "ms_ddpm" / "recipes.py").read_text()
    read = set(re.findall(r"\bconfig\.([a-z_0-9]+)", source[source.index("Unet(") : source.index("def config_of")]))
    of_diffusion = {key for key, systems in config_systems.SYSTEMS_OF.items() if "diffusion" in systems}
    assert of_diffusion == read - everybodys


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sampling_timesteps": 10**14}, "sampling_timesteps is 100000000000000, expected at most 1000000"),
        ({"epochs": 10**18}, "epochs is 1000000000000000000, expected at most 1000000"),
        ({"sampling_eps": 1e-6}, "sampling_eps is 1e-06, expected at least 1e-05"),
    ],
)
def test_numbers_beyond_all_use_are_refused(values, words):
    with pytest.raises(UserError, match=words):
        config.resolve({"system": "score", **values}, None)


def test_one_list_of_samplers(mindspore):
    from ms_ddpm import samplers
    from ms_ddpm.samplers import score

    assert tuple(score.SCORE_SAMPLERS) == config_systems.SCORE_SAMPLERS
    assert tuple(samplers.SAMPLERS) == config_systems.SAMPLERS["diffusion"]
