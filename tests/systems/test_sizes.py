"""The number of parameters that a system says beforehand is the built model's own, of every recipe and every option."""

import re
import subprocess
import sys

import pytest

from ms_ddpm import config, registry
from ms_ddpm.config.keys import default_of
from ms_ddpm.errors import UserError
from tests.config.test_config import RECIPES

OURS = ("diffusion", "autoencoder", "corruption", "latent", "score")
SMALL = {  # what is quick to build, and as uneven as the system allows
    "diffusion": {"dim": 8, "dim_mults": [1, 2], "image_size": 8, "timesteps": 60},
    "autoencoder": {"autoencoder_channels": [3, 5, 7], "image_size": 12},
    "corruption": {"image_size": 8},
    "latent": {
        "autoencoder_channels": [3, 5, 8], "channel_widths": [8, 12, 20, 32], "image_size": 28, "embed_dim": 10,
        "text_dim": 6, "num_classes": 3,
    },
    "score": {"channel_widths": [32, 96, 64, 32], "image_size": 28, "embed_dim": 10, "text_dim": 6},
}  # fmt: skip
OTHERS = {  # values of keys that shape a network, where they are no choice and no switch
    "channels": [2, 3], "dim": [12], "init_dim": [16], "dim_mults": [[1], [1, 3, 2]], "learned_sinusoidal_dim": [6],
    "attn_dim_head": [5, [4, 8]], "attn_heads": [2, [1, 3]], "full_attn": [[True, False], True, False],
    "autoencoder_channels": [[6, 2, 8]], "channel_widths": [[8, 16, 24, 40], [64, 32, 96, 32]], "embed_dim": [16],
    "text_dim": [9], "num_heads": [2], "num_classes": [0, 7], "class_dropout": [0.0], "sigma_data": [0.4],
}  # fmt: skip
TOGETHER = [  # options that mean something together alone
    {"system": "diffusion", "learned_sinusoidal_cond": True, "learned_sinusoidal_dim": 6},
    {"system": "diffusion", "random_fourier_features": True, "learned_sinusoidal_dim": 6, "self_condition": True},
    {"system": "diffusion", "norm": "group", "downsample": "conv", "channels": 3},
    {"system": "score", "score_net": "transformer", "num_classes": 5},
    {"system": "score", "score_net": "transformer", "num_classes": 5, "class_dropout": 0.0, "text_dim": 9},
    {"system": "score", "score_net": "transformer", "num_classes": 5, "num_heads": 2, "sigma_data": 0.4},
    {"system": "latent", "num_classes": 0, "class_dropout": 0.0},
]
SHAPELESS = {
    "system",
    "schedule_fn_kwargs",
    "sampling_timesteps",
    "autoencoder",
    "lpips_weights",
}  # and without numbers


def values_of(field):
    """Values to try of a key: its choices, both of a switch, those written out above, or twice its default."""
    if field.name in OTHERS or field.metadata["choices"]:
        return OTHERS.get(field.name) or field.metadata["choices"]
    if field.metadata["kind"] == "bool":
        return [True, False]
    return [] if field.name in SHAPELESS else [2 * default_of(field) + 1]


def every_option():
    """(system, its options): each key of each system alone, and what belongs together."""
    for system in OURS:
        fields = [config.SHARED["channels"], *config.own_fields(system).values()]
        yield from ((system, {field.name: value}) for field in fields for value in values_of(field))
    yield from ((options["system"], options) for options in TOGETHER)


def held(cell):
    """What a Cell holds, without the network of an autoencoder's loss, which a file brings."""
    return sum(p.size for name, p in cell.parameters_and_names() if not name.startswith("perceptual"))


def check(chosen):
    """The number said, which is the built model's; None where the model is refused."""
    system = registry.of(chosen)
    said = system.parameter_count(chosen)
    try:
        cell = system.build(chosen)
    except UserError:
        return None
    assert said == held(cell), f"{system.name}: {said:,} are said, {held(cell):,} are there, of {chosen}"
    return said


def test_every_system_of_the_library_is_tried():
    assert set(OURS) == {name for name in registry.names() if registry.get(name).Config.__module__.startswith("ms_dd")}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipes_parameters_are_counted_before_it_is_built(recipe, mindspore):
    assert check(config.resolve({}, str(recipe))) > 0


@pytest.mark.parametrize("system", OURS)
def test_every_option_is_counted_as_it_is_built(system, mindspore):
    numbers = {}
    for name, options in every_option():
        if name == system:
            chosen = config.Config(**{"system": system, "channels": 1, **SMALL[system], **options})
            numbers[str(options)] = check(chosen)
    refused = [options for options, number in numbers.items() if number is None]
    assert len(refused) < 0.25 * len(numbers), refused
    assert len(set(numbers.values())) > {"diffusion": 20, "score": 8}.get(system, 2)  # the options do change it


ABSURD = {
    "diffusion": "--dim 1000000000",
    "autoencoder": "--autoencoder_channels 1000000000 1000000000 4",
    "corruption": "--channels 1000000000",
    "latent": "--embed_dim 1000000000",
    "score": "--channel_widths 32 64 128 1000000000",
}


@pytest.mark.parametrize("system", OURS)
def test_a_width_of_a_billion_is_refused_before_mindspore_is_imported(system, tmp_path):
    options = ["--system", system, *ABSURD[system].split(), "--output_dir", str(tmp_path / "run")]
    code = f"""
import sys
from ms_ddpm.cli import run, train
try:
    run(train.main, {options})
finally:
    print("mindspore" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "False\n"), done.stderr
    assert re.fullmatch(r"error: a network of [\d,]+ parameters needs at least .*\n", done.stderr), done.stderr


def test_a_system_that_counts_nothing_beforehand_is_counted_when_it_is_built(mindspore, monkeypatch, tmp_path):
    """Others' systems need no arithmetic of their own: of the five copies in training, four are still to come."""
    from ms_ddpm.cli import train
    from ms_ddpm.devices import distributed, memory
    from ms_ddpm.systems import sizes

    asked = config.Config(**config.from_mapping({"system": "corruption", "dataset": "digits", "image_size": 8}, "here"))
    system = registry.of(asked)
    cell = system.build(asked)
    count = sum(parameter.size for parameter in cell.get_parameters())
    monkeypatch.setattr(memory, "available", lambda: 4 * 4 * count - 1)
    sizes.check_built(asked, cell)  # it was counted before, and would have been refused then
    monkeypatch.setattr(type(system), "parameter_count", lambda self, config: 0)
    with pytest.raises(UserError, match=f"training a network of {count:,} parameters"):
        sizes.check_built(asked, cell)
    with pytest.raises(UserError, match="training a network of"):
        train.build_trainer(asked, distributed.ALONE)
    monkeypatch.setattr(memory, "available", lambda: 4 * 4 * count + 1)
    sizes.check_built(asked, cell)
