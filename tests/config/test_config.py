"""Configuration: types, unknown keys, and every recipe that ships."""

import re

import pytest
import yaml

from ms_ddpm import config
from ms_ddpm.errors import UserError
from tests.conftest import ROOT

RECIPES = sorted((ROOT / "configs").glob("*.yaml"))


def write(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_reads_and_says_where_it_comes_from(recipe):
    values = config.from_yaml(recipe)
    assert len(values["source"]) > 20
    assert config.Config(**values).output_dir.startswith("runs/")


def test_the_named_recipes_are_all_there():
    assert {path.stem for path in RECIPES} >= {"digits", "mnist", "fashion_mnist", "cifar10", "flowers64", "flowers128"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_describes_a_network_that_exists(mindspore, recipe):
    from ms_ddpm import recipes

    values = config.from_yaml(recipe)
    small = {"dim": 16, "init_dim": None}  # the layout counts here, not the width
    small = small if values.get("system", "diffusion") == "diffusion" else {}
    cell = recipes.build(config.Config(**{**values, **small}))
    pictured = getattr(cell, "autoencoder", cell)  # a latent diffusion's own size is that of its latents
    assert pictured.image_size == recipes.image_shape(config.Config(**values))


ARTICLE = {"adam_betas": [0.9, 0.999], "max_grad_norm": 1e9, "dataset": "data/mnist", "ema_decay": 0.0}
BARE = {"sigma_data": None, "time_power": 1.0}
SCORE_ARTICLE = {  # what that article says (docs/systems.md), beside `ARTICLE`
    "score_mnist": {
        "score_net": "add", "fourier_scale": 30.0, "epochs": 75, "train_batch_size": 1024, "train_lr": 1e-3,
        "lr_schedule": "exponential", "lr_decay": 0.98, "lr_floor": 0.2, "sampling_timesteps": 250,
        "sampling_denoise": False, "sigma": 25.0, "channel_widths": [32, 64, 128, 256], **BARE,
        "whole_images": False,
    },
    "score_mnist_classes": {
        "score_net": "transformer", "fourier_scale": 30.0, "epochs": 100, "train_batch_size": 1024, "train_lr": 1e-3,
        "lr_schedule": "exponential", "lr_decay": 0.98, "lr_floor": 0.2, "num_heads": 1, "class_dropout": 0.0,
        "sampling_timesteps": 500, "channel_widths": [32, 64, 128, 256], **BARE, "whole_images": False,
    },
    "latent_autoencoder_mnist": {
        "autoencoder_channels": [4, 4, 4], "epochs": 50, "train_batch_size": 2048, "train_lr": 1e-3,
    },
    "latent_mnist": {
        "channel_widths": [4, 16, 32, 64], "fourier_scale": 30.0, "epochs": 250, "train_batch_size": 1024,
        "train_lr": 1e-4, "lr_schedule": "exponential", "lr_decay": 0.995, "lr_floor": 0.5, "num_heads": 1,
        **BARE,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SCORE_ARTICLE)
def test_the_recipes_of_the_score_article_have_its_numbers(name):
    recipe = config.to_dict(config.resolve({}, str(ROOT / "configs" / f"{name}.yaml")))
    expected = ARTICLE | SCORE_ARTICLE[name]
    assert {key: recipe[key] for key in expected} == expected


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_pages_give_the_length_and_the_batch_of_every_recipe(recipe):
    values = config.Config(**config.from_yaml(recipe))
    for page in ("docs/recipes.md", "docs/recipes.zh.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        rows = [line for line in text.splitlines() if line.startswith("| `configs/")]
        [row] = [line for line in rows if re.search(f"[`/]{recipe.stem}\\.yaml`", line)]
        for number in (values.epochs or values.train_num_steps, values.train_batch_size):
            assert re.search(rf"(?<![\d,]){number:,}(?!\d|,\d)", row), (page, recipe.stem, number)


def test_flags_override_the_file(tmp_path):
    path = write(tmp_path, "dim: 32\ntrain_lr: 1e-4\n")
    resolved = config.resolve({"dim": "48"}, str(path))
    assert (resolved.dim, resolved.train_lr) == (48, 1e-4)


def test_what_is_saved_reads_back_the_same(tmp_path):
    first = config.Config(
        dim_mults=[1, 2], image_size=[8, 4], schedule_fn_kwargs={"start": -2.0}, full_attn=[True, False]
    )
    path = write(tmp_path, yaml.safe_dump(config.to_dict(first)))
    assert config.Config(**config.from_yaml(path)) == first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dimm: 3", "unknown configuration key 'dimm'; did you mean dim?"),
        ("zzz: 3", "unknown configuration key 'zzz'; train.py --help lists the keys"),
        ("dim: wide", "dim is 'wide', expected an integer"),
        ("dim: 3.5", "dim is 3.5, expected an integer"),
        ("dim: true", "dim is True"),
        ("dim: .nan", "dim is nan"),
        ("dim: [1]", r"dim is \[1\]"),
        ("train_lr: .inf", "train_lr is inf, expected a number"),
        ("train_num_steps: -5", "train_num_steps is -5, expected at least 1"),
        ("flip: perhaps", "flip is 'perhaps', expected true or false"),
        ("objective: pred_q", "objective is 'pred_q', expected one of: pred_v, pred_noise, pred_x0"),
        ("dim_mults: []", r"dim_mults is \[\], expected a list of integers"),
        ("image_size: [8, 8, 8]", "image_size"),
        ("schedule_fn_kwargs: {a: b}", "schedule_fn_kwargs"),
        ("schedule_fn_kwargs: [a]", "schedule_fn_kwargs"),
        ("dataset: 7", "dataset is 7, expected a text"),
        ("dim:", "dim is None, expected an integer"),
        ("- 1", "holds list, expected 'key: value' lines"),
        ("a: [", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_wrong_files_are_one_line(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as caught:
        config.from_yaml(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"cannot read --config nothing\.yaml: No such file"):
        config.from_yaml("nothing.yaml")


def test_null_is_taken_only_where_it_means_something():
    assert config.read_value("init_dim", None) is None
    assert config.read_value("init_dim", "null") is None
    with pytest.raises(UserError):
        config.read_value("dim", None)


def test_whole_numbers_are_read_exactly():
    assert config.read_value("seed", "9007199254740993") == 2**53 + 1


def test_only_what_makes_another_run_counts_as_a_difference():
    old = config.to_dict(config.Config())
    assert config.differences(old, {**old, "train_num_steps": 5, "device_target": "GPU"}) == []
    assert config.differences(old, {**old, "dim": 32}) == ["dim was 64, now 32"]
    score = config.to_dict(config.Config(system="score"))
    older = {name: value for name, value in score.items() if name != "whole_images"}  # of a version without it
    assert config.differences(older, score) == []
    assert config.differences(older, {**score, "whole_images": True}) == ["whole_images was False, now True"]
    assert config.differences({**score, "dim": 32}, score) == []  # of a version that wrote other systems' keys
    assert config.differences({}, {**old, "dim": 32}) == []
