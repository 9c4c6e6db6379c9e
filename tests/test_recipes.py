"""What ships is run: one step and one picture of every recipe in configs/, each with its own network.

In CI the paths that differ most; every recipe on every path with scripts/test.sh --all, where two workers and PyNative
take processes of their own.
"""

import contextlib
import json
from pathlib import Path

import pytest

from scripts import check_recipes

RECIPES = check_recipes.read_recipes()
# (kernels, batches per step). Without kernels: the operators that GPU and Ascend run. With accumulation: another graph.
PATHS = [("off", 2), ("off", 1), ("on", 2), ("on", 1)]
IN_CI = {
    "flowers64": ("off", 2),
    "cifar10": ("off", 1),
    "score_classes": ("off", 2),
    "latent_autoencoder": ("off", 1),
    "latent_diffusion": ("off", 2),
    "corruption": ("off", 2),
}


def cases():
    for name in RECIPES:
        for path in PATHS:
            slow = [] if IN_CI.get(name) == path else [pytest.mark.slow]
            yield pytest.param(name, *path, id=f"{name}-kernels_{path[0]}-accumulate_{path[1]}", marks=slow)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Made-up data sets in the formats that the recipes read."""
    folder = tmp_path_factory.mktemp("recipes")
    check_recipes.make_data(folder)
    return folder


@pytest.fixture(scope="module")
def train_here(mindspore, data):
    """Trains a recipe in this process; gives its output directory. Latents come from a run of their autoencoder."""
    from ms_ddpm.ops import kernels
    from scripts import train

    def run(name, kind, accumulate):
        runs = data / f"kernels_{kind}-accumulate_{accumulate}"
        if "autoencoder" in RECIPES[name]:
            needed = Path(RECIPES[name]["autoencoder"]).name
            if not (runs / needed).exists():
                run(needed, kind, accumulate)
        with kernels.switched_off() if kind == "off" else contextlib.nullcontext():
            argv = check_recipes.arguments(RECIPES[name], name, data, runs, accumulate=accumulate)
            assert train.main(argv) == 0
        return runs / name

    return run


@pytest.mark.parametrize(("name", "kind", "accumulate"), cases())
def test_a_recipe_takes_its_first_step_and_draws_a_picture(train_here, name, kind, accumulate):
    if kind == "on":
        from ms_ddpm.ops import kernels

        if not kernels.available():
            pytest.skip("the kernels are not built")
    folder = train_here(name, kind, accumulate)
    check_recipes.check_made(folder)
    state = json.loads((folder / "checkpoints" / "step-00000001" / "state.json").read_text())
    for key in ("dim", "dim_mults", "channel_widths", "autoencoder_channels", "norm", "full_attn"):
        if key in RECIPES[name]:  # the network is the recipe's
            assert state["config"][key] == RECIPES[name][key]


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [("--workers", "2"), ("--mode", "1"), ("--mode", "1", "--kernels", "off")], ids=" ".join
)
def test_every_recipe_by_two_workers_and_in_pynative(tmp_path, path, capsys):
    assert check_recipes.main([*path, "--output_dir", str(tmp_path)]) == 0, capsys.readouterr().out
