"""Keys that belong to other systems are refused, and numbers that nothing could finish."""

import re

import pytest
import yaml

from ms_ddpm import config, registry
from ms_ddpm.config import keys
from ms_ddpm.errors import UserError
from tests.conftest import ROOT

RECIPES = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_resolves(recipe):
    assert config.resolve({}, str(recipe)).output_dir.startswith("runs/")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"system": "corruption", "num_classes": 10, "guidance_scale": 3.0}, "num_classes is 10, but it belongs to the "
         "systems latent, score, and system is corruption; leave it out, or set system: latent"),
        ({"guidance_scale": 3.0}, "guidance_scale is 3.0, but it belongs to the systems latent, score"),
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


def test_keys_at_their_defaults_are_not():
    """Versions up to 0.1 wrote every key of every system into config.yaml and checkpoints."""
    every = {name: keys.default_of(field) for name, field in config.all_fields().items()}
    for system in registry.names():
        resolved = config.resolve({**every, "system": system}, None)
        assert type(resolved) is registry.get(system).Config
        assert set(config.to_dict(resolved)) == set(config.SHARED) | set(config.own_fields(system))


def test_a_checkpoint_of_before_keeps_other_systems_keys_to_itself():
    found = config.of_checkpoint({"system": "corruption", "num_classes": 10, "noise_kind": "poisson"}, "checkpoint")
    assert (found.system, found.noise_kind) == ("corruption", "poisson")
    assert "num_classes" not in config.to_dict(found)


def test_config_is_of_its_system():
    assert type(config.Config(system="score")) is registry.get("score").Config
    assert type(config.Config(dim=8)) is registry.get("diffusion").Config
    assert isinstance(config.Config(), config.Config)
    with pytest.raises(UserError, match="dim is 8, but it belongs to the system diffusion, and system is score"):
        config.Config(system="score", dim=8)
    with pytest.raises(UserError, match="system is 'flow', expected one of: diffusion, autoencoder, corruption"):
        config.Config(system="flow")


def test_help_shows_the_keys_of_one_system(train_script, capsys):
    for system in registry.names():
        with pytest.raises(SystemExit):
            train_script.main(["--system", system, "--help"])
        shown = set(re.findall(r"^  --([a-z_0-9]+)", capsys.readouterr().out, re.MULTILINE)) - {"config"}
        assert shown == (set(config.SHARED) | set(config.own_fields(system))) - {"source"}, system


def test_help_of_a_recipe_is_of_its_system(train_script, capsys):
    with pytest.raises(SystemExit):
        train_script.main(["--config", str(ROOT / "configs" / "corruption.yaml"), "--help"])
    shown = capsys.readouterr().out
    assert "the system corruption" in shown
    assert "--noise_kind" in shown
    assert "--dim " not in shown


def test_help_shows_defaults_as_one_types_them():
    shown = [keys.in_brackets(value) for value in (64, [1, 2, 4], True, False, None, {}, "", "digits", 0.0)]
    assert shown == [" [64]", " [1 2 4]", " [yes]", " [no]", "", "", "", " [digits]", " [0.0]"]


def test_a_flag_that_is_not_there_names_the_nearest(train_script, capsys):
    with pytest.raises(SystemExit) as left:
        train_script.main(["--train_lrr", "3"])
    assert left.value.code == 2
    assert "unrecognized arguments: --train_lrr 3; did you mean --train_lr?" in capsys.readouterr().err


def test_every_key_that_a_builder_reads_is_one_of_its_system():
    """What the builders' sources read of a configuration, against the classes."""
    for system in registry.names():
        sources = "".join(path.read_text() for path in (ROOT / "ms_ddpm/systems" / system).glob("*.py"))
        read = set(re.findall(r"\bconfig\.([a-z_0-9]+)", sources)) & set(config.all_fields())
        known = set(config.SHARED) | set(config.own_fields(system))
        assert read <= known, (system, read - known)
    sources = "".join((ROOT / "ms_ddpm/systems/diffusion" / name).read_text() for name in ("model.py", "size.py"))
    read = set(re.findall(r"\bconfig\.([a-z_0-9]+)", sources))
    assert set(config.own_fields("diffusion")) <= read, "a key that nothing reads"


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
    from ms_ddpm.config import limits
    from ms_ddpm.samplers import score

    assert tuple(score.SCORE_SAMPLERS) == limits.SCORE_SAMPLERS  # which --help reads, without MindSpore
    for system, known in (
        ("score", score.SCORE_SAMPLERS),
        ("latent", score.SCORE_SAMPLERS),
        ("diffusion", samplers.SAMPLERS),
    ):
        [option] = [option for option in registry.get(system).sampling if option.flag == "sampler"]
        assert option.choices == tuple(known)
