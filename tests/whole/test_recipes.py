"""What ships is run: one step and one picture of every recipe in configs/, each with its own network.

In CI one of the deepest (four stages, as flowers64 has), with a sixteenth of its width (the same list of parameters),
and the fastest are compiled, each in a process of its own, as with a user; the others take their step operator by
operator, in this one. Every recipe on every path, as it is, with scripts/test.sh --all.
"""

import json
import sys
from pathlib import Path

import pytest

from scripts import check_recipes

RECIPES = check_recipes.read_recipes()
# (kernels, batches per step). Without kernels: the operators that GPU and Ascend run. With accumulation: another graph.
PATHS = [("off", 2), ("off", 1), ("on", 2), ("on", 1)]
OTHER_PATHS = [("--workers", "2"), ("--mode", "1"), ("--mode", "1", "--kernels", "off")]
IN_CI = {
    "cifar10": (("off", 2), ("--dim", "8")),
    "corruption": (("on", 1), ()),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Made-up data sets in the formats that the recipes read."""
    folder = tmp_path_factory.mktemp("recipes")
    check_recipes.make_data(folder)
    return folder


@pytest.fixture(scope="module")
def train(data):
    """Trains a recipe; gives its output directory. Latents come from a run of their autoencoder."""

    def run(name, kind, accumulate, *rest):
        runs = data / f"kernels_{kind}-accumulate_{accumulate}{''.join(rest)}"
        runs.mkdir(exist_ok=True)
        if "autoencoder" in RECIPES[name]:
            needed = Path(RECIPES[name]["autoencoder"]).name
            if not (runs / needed).exists():
                run(needed, kind, accumulate)
        given = check_recipes.arguments(RECIPES[name], name, data, runs, accumulate=accumulate, rest=rest)
        command = [sys.executable, str(check_recipes.ROOT / "scripts" / "train.py"), *given]
        row = check_recipes.run_recipe(command, runs / name, check_recipes.environment(kind), workers=1)
        assert "problem" not in row, row
        return runs / name

    return run


def check_network(folder, name, narrower=()):
    """The network that the run in ``folder`` trained is the recipe's."""
    state = json.loads((folder / "checkpoints" / "step-00000001" / "state.json").read_text())
    for key in ("dim", "dim_mults", "channel_widths", "autoencoder_channels", "norm", "downsample", "full_attn"):
        if key in RECIPES[name] and f"--{key}" not in narrower:
            assert state["config"][key] == RECIPES[name][key]


@pytest.mark.parametrize("name", IN_CI)
def test_a_recipe_takes_its_first_step_and_draws_a_picture(train, name):
    (kind, accumulate), narrower = IN_CI[name]
    check_network(train(name, kind, accumulate, *narrower), name, narrower)


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in IN_CI])
def test_another_recipe_takes_its_first_step_operator_by_operator(mindspore, train_script, data, name):
    """A U-Net with an eighth of its width, or less. Latents come from a run of their autoencoder."""
    runs = data / "operator by operator"
    runs.mkdir(exist_ok=True)
    needed = [Path(RECIPES[name]["autoencoder"]).name] if "autoencoder" in RECIPES[name] else []
    for recipe in (*needed, name):
        narrower = ("--dim", "8") if "dim" in RECIPES[recipe] else ()
        if not (runs / recipe).exists():
            rest = (*narrower, "--mode", "1")
            given = check_recipes.arguments(RECIPES[recipe], recipe, data, runs, rest=rest)
            assert train_script.main(given) == 0
            check_recipes.check_made(runs / recipe)
            check_network(runs / recipe, recipe, narrower)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "accumulate"),
    [(name, *path) for name in RECIPES for path in PATHS if IN_CI.get(name) != (path, ())],
)
def test_every_recipe_on_every_path(train, name, kind, accumulate):
    check_network(train(name, kind, accumulate), name)


@pytest.mark.slow
@pytest.mark.parametrize("path", OTHER_PATHS, ids=" ".join)
def test_every_recipe_by_two_workers_and_in_pynative(tmp_path, path, capsys):
    assert check_recipes.main([*path, "--output_dir", str(tmp_path)]) == 0, capsys.readouterr().out
