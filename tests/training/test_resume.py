"""Going on with a run, from the library: what makes it another run, going on all the same, beginning with weights."""

import json
import os
import shutil
import signal
import threading

import numpy as np
import pytest

from ms_ddpm import checkpoint, config, data, runs
from ms_ddpm.errors import UserError
from tests.conftest import ROOT
from tests.storage.test_fingerprint import BASES, pictures  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def library(mindspore):
    """``f(folder, ...)``: a Trainer as the library has it, without config; nothing is compiled until it trains."""
    from ms_ddpm import GaussianDiffusion, Trainer, Unet

    images = np.random.default_rng(0).integers(0, 255, (20, 1, 8, 8), dtype=np.uint8)

    def make(folder, dataset=None, net=None, diffusion=None, **options):
        unet = Unet(8, **{"dim_mults": (1,), "channels": 1, "rng": 0, **(net or {})})
        cell = GaussianDiffusion(unet, **{"image_size": 8, "timesteps": 6, **(diffusion or {})})
        dataset = data.array_source("own", images) if dataset is None else dataset
        return Trainer(cell, dataset, **{
            "results_folder": folder, "train_num_steps": 50, "train_batch_size": 4, "progress": False, **options
        })  # fmt: skip

    make.images = images
    return make


@pytest.fixture(scope="module")
def saved(library, tmp_path_factory):
    """The folder of a library run at step 5, in which the averaged weights are not the raw ones."""
    from ms_ddpm.ops.assign import set_value

    trainer = library(tmp_path_factory.mktemp("saved") / "run", lr_schedule=lambda step: 0.5**step)
    with trainer:
        average = trainer.ema.average
        set_value(average, average.asnumpy() + 0.25)
        trainer.step = 5
        trainer.save()
    return trainer.folder


@pytest.fixture
def run(saved, tmp_path):
    """A copy of it."""
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def state_of(trainer):
    return checkpoint.read_state(trainer.save())


HALVES = {"lr_schedule": lambda step: 0.5**step}


@pytest.mark.parametrize(
    ("changed", "phrase"),
    [
        ({"diffusion": {"objective": "pred_noise"}}, "objective was 'pred_v', now 'pred_noise'"),
        ({"diffusion": {"timesteps": 7}}, "timesteps was 6, now 7"),
        ({"diffusion": {"beta_schedule": "cosine"}}, "beta_schedule was 'sigmoid', now 'cosine'"),
        ({"diffusion": {"loss_type": "l1"}}, "loss_type was 'l2', now 'l1'"),
        ({"net": {"sinusoidal_pos_emb_theta": 100}}, "model.sinusoidal_pos_emb_theta was 10000, now 100"),
        ({"ema_decay": 0.9}, "ema_decay was 0.995, now 0.9"),
        ({"ema_update_every": 3}, "ema_update_every was 10, now 3"),
        ({"adam_betas": (0.8, 0.99)}, "adam_betas was [0.9, 0.99], now [0.8, 0.99]"),
        ({"weight_decay": 0.1}, "weight_decay was None, now 0.1"),
        ({"warmup_steps": 3}, "warmup_steps was 0, now 3"),
        ({"lr_schedule": lambda step: 0.9**step}, "lr_factor_at_1 was 0.5, now 0.9"),
        ({"augment_horizontal_flip": False}, "augment_horizontal_flip was True, now False"),
    ],
)
def test_a_library_run_goes_on_with_nothing_else(library, run, changed, phrase):
    with pytest.raises(UserError) as caught:
        library(run, **{**HALVES, **changed})
    assert phrase in str(caught.value)
    assert "is of another run" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_images_of_the_same_number_are_noticed(library, run):
    other = data.array_source("own", 255 - library.images)
    with pytest.raises(UserError, match=r"run: its pixels differ from the run's; .* --accept_changes data$"):
        library(run, dataset=other, **HALVES)


def test_what_may_change_does_not_stop_a_run(library, run):
    trainer = library(
        run, train_lr=1e-5, max_grad_norm=9.0, amp_level="O1", train_num_steps=77, workers=2, num_samples=4,
        net={"rng": 3, "use_kernels": False}, diffusion={"sampling_timesteps": 3, "ddim_sampling_eta": 1.0}, **HALVES,
    )  # fmt: skip
    assert trainer.step == 5


def test_a_checkpoint_that_knows_no_facts_goes_on(library, run, caplog):
    path = checkpoint.locate(run)
    state = json.loads((path / "state.json").read_text())
    for name in ("fingerprint", "config", "config_of", "accepted_changes", "started_from"):
        state.pop(name)
    state["training"]["arguments"].pop("ema_decay")
    state["sha256"] = checkpoint.state_digest(state)
    (path / "state.json").write_text(json.dumps(state))
    trainer = library(run, diffusion={"objective": "pred_x0"}, ema_decay=0.5, **HALVES)
    assert trainer.step == 5
    assert "whether they are the same is not checked" in caplog.text


def test_what_was_accepted_is_kept_and_need_not_be_said_again(library, run, caplog):
    other = data.array_source("own", 255 - library.images)
    changed = {"dataset": other, "ema_decay": 0.9, **HALVES}
    with pytest.raises(UserError, match=r"ema_decay was 0\.995, now 0.9"):
        library(run, accept_changes=["data"], **changed)
    trainer = library(run, accept_changes=["data", "ema_decay"], **changed)
    assert "the run goes on with what was changed" in caplog.text
    noted = [{
        "step": 5, "names": ["ema_decay", "data"],
        "changes": ["ema_decay was 0.995, now 0.9", "its pixels differ from the run's"],
    }]  # fmt: skip
    trainer.step = 6
    assert state_of(trainer)["accepted_changes"] == noted
    again = library(run, **changed)
    assert again.accepted_changes == noted
    with pytest.raises(UserError, match="another run"):
        library(run, ema_decay=0.9, **HALVES)  # the images of before


def test_a_counter_of_a_strangers_cell_is_no_fact(mindspore, tmp_path):
    from mindspore import Parameter, nn

    from ms_ddpm import Trainer

    class Counting(nn.Cell):
        image_size, channels = (8, 8), 1

        def __init__(self, kind="a"):
            super().__init__()
            self.w = Parameter(np.ones(1, np.float32), name="w")
            self.seen, self.kind = 0, kind

    options = {"results_folder": tmp_path, "progress": False, "train_num_steps": 9}
    cell = Counting()
    trainer = Trainer(cell, "digits", **options)
    cell.seen = 12
    trainer.step = 1
    assert "kind" in state_of(trainer)["fingerprint"]["cell"]
    assert Trainer(cell, "digits", **options).step == 1
    with pytest.raises(UserError, match="kind was 'a', now 'b'"):
        Trainer(Counting("b"), "digits", **options)


# --- the command line's way -----------------------------------------------------------------------------------------


@pytest.fixture
def configured(mindspore):
    """``f(folder, dataset, **keys)``: the Trainer that train.py makes."""
    from ms_ddpm.cli.train import build_trainer
    from ms_ddpm.devices.distributed import ALONE

    def make(folder, dataset, **keys):
        values = {**BASES["diffusion"], "output_dir": str(folder), "dataset": str(dataset), "validation_images": 2}
        return build_trainer(config.Config(**{**values, **keys}), ALONE)

    return make


def test_a_moved_data_set_goes_on_and_a_deleted_file_is_named_and_accepted(configured, pictures, tmp_path):  # noqa: F811
    trainer = configured(tmp_path / "run", pictures)
    trainer.step = 2
    trainer.save()
    moved = shutil.move(pictures, tmp_path / "moved")
    trainer = configured(tmp_path / "run", moved)
    assert trainer.step == 2
    (moved / "a" / "04.png").unlink()
    with pytest.raises(UserError) as caught:
        configured(tmp_path / "run", moved)
    assert "images was 12, now 11; a/04.png is gone; " in str(caught.value)
    assert str(caught.value).endswith("go on all the same with --accept_changes data")
    trainer = configured(tmp_path / "run", moved, accept_changes=["data"])
    assert trainer.step == 2
    trainer.step = 3
    state = state_of(trainer)
    assert state["accepted_changes"][0]["names"] == ["data"]
    assert state["config"]["accept_changes"] is None
    assert configured(tmp_path / "run", moved).step == 3
    with pytest.raises(UserError, match=r"dim was 8, now 16; .*--accept_changes dim$"):
        configured(tmp_path / "run", moved, dim=16)
    fine = configured(tmp_path / "fine", moved, init_from=str(tmp_path / "run"), init_weights="model", seed=4)
    assert (fine.step, fine.config["init_from"]) == (0, str(tmp_path / "run"))
    assert (fine.started_from["step"], fine.started_from["weights"]) == (3, "model")


# --- beginning with weights -----------------------------------------------------------------------------------------


def arrays(trainer):
    return {name: p.asnumpy() for name, p in trainer.cell.parameters_and_names()}


@pytest.mark.parametrize("kind", ["ema", "model"])
def test_a_run_begins_with_the_weights_of_another(library, saved, tmp_path, kind):
    expected = checkpoint.load(checkpoint.locate(saved)).arrays[kind]
    other = data.array_source("other", 255 - library.images)
    options = {"dataset": other, "net": {"rng": 5}, "diffusion": {"timesteps": 9}, "ema_decay": 0.9}
    where = checkpoint.locate(saved) / f"{kind}.safetensors" if kind == "model" else saved
    trainer = library(tmp_path / "fine", init_from=where, **options)
    assert trainer.step == 0
    assert float(trainer.optimizer.steps.asnumpy()) == 0
    assert not trainer.optimizer.exp_avg.asnumpy().any()
    assert all(np.array_equal(value, expected[name]) for name, value in arrays(trainer).items())
    assert all(np.array_equal(value, expected[name]) for name, value in trainer.ema.state().items())
    trainer.step = 1
    assert state_of(trainer)["started_from"] == {
        "path": str(checkpoint.locate(saved)), "step": 5, "weights": kind
    }  # fmt: skip

    again = library(tmp_path / "fine", **options)  # without the flag, with it, and where that run is gone
    assert again.started_from["weights"] == kind
    from ms_ddpm.ops.assign import set_value

    set_value(again.cell.model.final_conv.bias, np.full(1, 7.0))
    again.step = 2
    again.save()
    last = library(tmp_path / "fine", init_from="/gone", **options)
    assert last.step == 2
    assert last.cell.model.final_conv.bias.asnumpy() == 7


def test_weights_that_do_not_fit_and_contradictions_are_one_line(library, saved, tmp_path):
    for options, words in (
        ({"net": {"dim_mults": (1, 2)}}, "is of another architecture: missing model.downs.0"),
        ({"net": {"self_condition": True}}, "model.init_conv.weight has shape (8, 1, 7, 7), expected (8, 2, 7, 7)"),
        ({"init_from": tmp_path / "nothing"}, "no checkpoint in"),
        ({"init_weights": "best"}, "the weights are 'best', expected one of: ema, model"),
        ({"resume": str(saved)}, "give one of the two"),
    ):
        with pytest.raises(UserError) as caught:
            library(tmp_path / "x", **{"init_from": saved, **options})
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "x").exists()


def test_a_latent_diffusion_keeps_the_autoencoder_and_statistics_of_its_data(mindspore):
    from ms_ddpm import recipes, weights
    from ms_ddpm.ops.assign import set_value

    values = {"system": "latent", **BASES["latent"]}
    old, new = (recipes.build(config.Config(**values, seed=seed)) for seed in (0, 1))
    set_value(old.latent_mean, np.full(4, 3.0))
    set_value(new.latent_std, np.full(4, 2.0))
    before = {name: p.asnumpy().copy() for name, p in old.parameters_and_names()}
    weights.begin_with(new, weights.Weights({**before, "latent_std": np.ones(9, np.float32)}, ROOT, 1, "ema"))
    assert new.latent_std.asnumpy().ravel().tolist() == [2] * 4
    assert new.latent_mean.asnumpy().ravel().tolist() == [0] * 4
    taken = {name: p.asnumpy() for name, p in new.parameters_and_names() if p.requires_grad}
    assert all(np.array_equal(value, before[name]) for name, value in taken.items())


# --- one process, several Trainers ------------------------------------------------------------------------------------


def test_a_notebook_cell_that_is_run_again_works(library, tmp_path):
    first = library(tmp_path)
    first.step = 3
    first.save()
    second = library(tmp_path)
    assert second.step == 3
    with pytest.raises(UserError, match="a later Trainer took over its folder"):
        first.save()
    with pytest.raises(UserError, match="a later Trainer took over its folder"):
        first.train()
    second.close()
    with pytest.raises(UserError, match="it was closed: make a new one"):
        second.train()
    with library(tmp_path) as third:
        third.step = 4
        third.save()
    assert checkpoint.steps(third.checkpoints) == [3, 4]


def test_a_trainer_that_cannot_be_made_leaves_the_folder_to_the_one_that_has_it(library, tmp_path):
    first = library(tmp_path)
    first.step = 3
    first.save()
    with pytest.raises(UserError, match="is of another run"):
        library(tmp_path, diffusion={"objective": "pred_x0"})
    first.step = 4
    first.save()
    assert checkpoint.steps(first.checkpoints) == [3, 4]
    second = library(tmp_path)
    assert second.step == 4
    with pytest.raises(UserError, match="a later Trainer took over its folder"):
        first.save()


def test_a_folder_is_free_after_a_trainer_that_could_not_be_made(library, run):
    with pytest.raises(UserError, match="is of another run"):
        library(run, diffusion={"objective": "pred_x0"}, **HALVES)
    assert library(run, **HALVES).step == 5


def test_the_best_is_looked_for_anew_among_other_images(library, run, caplog):
    path = checkpoint.locate(run)
    state = json.loads((path / "state.json").read_text())
    state["training"]["best_loss"] = 0.001
    state["training"]["arguments"]["validation_images"] = 5
    state["sha256"] = checkpoint.state_digest(state)
    (path / "state.json").write_text(json.dumps(state))
    same = library(run, validation_images=5, **HALVES)
    assert same.best_loss == 0.001
    fewer = data.array_source("own", library.images[1:])
    trainer = library(run, dataset=fewer, validation_images=5, accept_changes="data", **HALVES)
    assert trainer.best_loss == np.inf
    assert "were in part trained on" in caplog.text


def test_what_has_not_changed_need_not_be_accepted_and_is_named(library, run, caplog):
    assert library(run, accept_changes=["objectiv"], **HALVES).step == 5
    assert "accept_changes names objectiv, which has not changed" in caplog.text


def test_a_folder_that_is_at_work_is_not_taken_over(library, tmp_path):
    first = library(tmp_path)
    with first.run_folder.at_work():
        with pytest.raises(UserError, match="in use by another Trainer of this process, which is training"):
            library(tmp_path)
        with pytest.raises(UserError, match="close it after its end"):
            first.close()
        with pytest.raises(UserError, match="is training already"):
            first.train()
    library(tmp_path / "." / "x" / "..")  # the same folder


def test_another_process_keeps_its_folder_and_a_forgotten_trainer_does_not(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with open(tmp_path / ".lock", "w") as theirs:  # a lock belongs to an open file, so this one could be a process's
        fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(UserError, match="in use by another run"):
            runs.lock_directory(tmp_path)
    lock = runs.lock_directory(tmp_path)
    del lock
    with open(tmp_path / ".lock", "w") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_thread_leaves_the_signals_alone(tmp_path):
    found, before = [], signal.getsignal(signal.SIGTERM)

    def work():
        with runs.StopRequests() as stops:
            stops.listen()
            found.append((bool(stops), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]


# --- a library run and the scripts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_cell_tells_the_configuration_that_it_is_built_from(mindspore, recipe):
    from ms_ddpm import recipes
    from ms_ddpm.config import own_fields
    from ms_ddpm.storage import described

    values = config.from_yaml(recipe)
    small = {"dim": 8, "init_dim": None, "embed_dim": 8, "text_dim": 8}
    own = own_fields(values.get("system", "diffusion"))
    values = config.Config(**{**values, **{name: value for name, value in small.items() if name in own}})
    found = described.configuration(recipes.build(values), {}, values.dataset)
    keys = [name for name in own if name not in ("autoencoder", "labels_from", "lpips_weights")]
    if "num_classes" in own and not values.num_classes:
        keys = [name for name in keys if name not in ("class_dropout", "text_dim", "num_heads")]
    for name in ["system", "dataset", "image_size", "channels", *keys]:
        assert found[name] == getattr(values, name), name


@pytest.mark.parametrize("system", BASES)
def test_a_library_cell_is_built_again_with_its_weights(mindspore, tmp_path, system):
    from ms_ddpm import recipes
    from ms_ddpm.storage import described, fingerprint

    cell = recipes.build(config.Config(system=system, **BASES[system]))
    held = {name: p.asnumpy() for name, p in cell.parameters_and_names()}
    path = checkpoint.save(tmp_path, 1, {"model": held}, {"config": described.configuration(cell, {}, None)})
    built, found = recipes.load(path, "model")
    assert fingerprint.facts_of(built) == fingerprint.facts_of(cell)
    assert {name: p.shape for name, p in built.parameters_and_names()} == {name: v.shape for name, v in held.items()}
    assert found.dataset == described.NOT_FROM_A_PATH


def test_what_no_configuration_says_is_said(mindspore, tmp_path):
    from ms_ddpm import FirstDDPM, GaussianDiffusion, Unet, recipes, weights
    from ms_ddpm.ops.assign import set_value
    from ms_ddpm.storage import described

    unet = Unet(8, dim_mults=(1,), channels=1, rng=0)
    for cell, words in (
        (unet, "Unet is no model of ms_ddpm"),
        (FirstDDPM(unet, 5, image_chw=(1, 8, 8)).diffusion, "network _Model is none that a configuration knows"),
        (GaussianDiffusion(unet, image_size=8, auto_normalize=False), r"GaussianDiffusion\(auto_normalize=False\)"),
    ):
        with pytest.raises(UserError, match=words):
            described.configuration(cell, {}, None)
    held = {name: p.asnumpy().copy() for name, p in unet.parameters_and_names()}
    path = checkpoint.save(tmp_path, 1, {"model": held}, {"config": None, "no_config": "its network is mine"})
    with pytest.raises(UserError, match=r"its network is mine'; build it in Python, and .*load_weights\(cell, path\)"):
        recipes.config_of(path)
    set_value(unet.final_conv.bias, np.full(1, 9.0))
    assert weights.load_weights(unet, path, "model").final_conv.bias.asnumpy() == held["final_conv.bias"]


def test_a_library_run_in_a_thread_trains_and_is_sampled_by_the_script(mindspore, tmp_path, library):
    from ms_ddpm.cli import sample

    folder = tmp_path / "run"
    done = []
    trainer = library(
        folder, train_num_steps=2, num_samples=1, diffusion={"image_size": (8, 6)}, dataset=data.array_source(
            "flat", library.images[..., :6].copy()
        ),
    )  # fmt: skip
    thread = threading.Thread(target=lambda: done.append(trainer.train()))
    thread.start()
    thread.join()
    assert [result.step for result in done] == [2]
    state = checkpoint.read_state(checkpoint.locate(folder))
    assert state["config"]["dataset"] == "(given in Python)"
    assert (state["config"]["train_batch_size"], state["config"]["flip"]) == (4, True)
    assert sample.main(["--checkpoint", str(folder), "--num", "3", "--output_dir", str(tmp_path / "out")]) == 0
    drawn = np.load(tmp_path / "out" / "samples.npz")["arr_0"]
    assert drawn.shape == (3, 8, 6, 1)
    assert os.listdir(tmp_path / "out")
