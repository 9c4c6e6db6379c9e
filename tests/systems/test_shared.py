"""What all systems share: labels, float data, drawing by one function, and the scripts on a conditional score model."""

import ast
import json

import numpy as np
import pytest

from ms_ddpm import config, data, evaluation, images
from ms_ddpm.errors import UserError
from tests.cli.test_cli import refused
from tests.conftest import ROOT
from tests.processes import script

SCORE = [
    "--system", "score", "--dataset", "digits28", "--image_size", "28", "--channel_widths", "32", "32", "32", "32",
    "--embed_dim", "8", "--text_dim", "8", "--train_batch_size", "4", "--num_samples", "4", "--validation_images", "8",
    "--sampling_timesteps", "3", "--train_num_steps", "2", "--save_and_sample_every", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny class-conditional score model after two steps."""
    folder = tmp_path_factory.mktemp("systems") / "run"
    classes = ["--score_net", "transformer", "--num_classes", "10"]
    result = script("train", *SCORE, *classes, "--output_dir", folder)
    assert result.returncode == 0, result.stderr[-2000:]
    return folder


# --- data -----------------------------------------------------------------------------------------------------------


def test_digits28_are_the_digits_in_blocks_with_a_border():
    small = data.open_images("digits", image_size=(8, 8), channels=1)
    large = data.open_images("digits28", image_size=(28, 28), channels=1)
    assert (large.labels == small.labels).all()
    a, b = small.batch(range(5)), large.batch(range(5))
    assert b.shape == (5, 1, 28, 28)
    assert (b[..., 2:-2, 2:-2] == a.repeat(3, 2).repeat(3, 3)).all()
    assert b[..., :2, :].max() == b[..., -2:].max() == 0
    back = evaluation.digits_from_28(b.transpose(0, 2, 3, 1))
    assert (back == a.transpose(0, 2, 3, 1)).all()


def test_float_arrays_reach_training_unchanged(rng):
    values = rng.standard_normal((6, 4, 3, 3)).astype(np.float32)
    source = data.array_source("latents", values, np.arange(6))
    batches = data.Batches(source, 3, seed=0, count=2)
    assert batches[0].dtype == np.float32
    assert (batches[0] == values[batches.indices(0)]).all()
    train, held = data.split(source, 2, seed=0)
    assert len(train) == 4
    assert (held.batch([0])[0] == values[held.labels[0]]).all()


@pytest.mark.parametrize(
    ("arrays", "labels"),
    [(np.zeros((2, 3, 4)), None), (np.zeros((2, 1, 4, 4)), None), (np.zeros((0, 1, 4, 4), np.float32), None),
     (np.zeros((2, 1, 4, 4), np.float32), np.zeros(3, int))],
)  # fmt: skip
def test_arrays_that_are_no_data_set_are_an_error(arrays, labels):
    with pytest.raises(UserError, match="those of mine"):
        data.array_source("those of mine", arrays, labels)


class Conditional:
    channels, image_size, conditional, num_classes = 1, (8, 8), True, 10


def test_a_conditional_model_needs_labels_that_it_knows():
    train, held = data.prepare("digits", Conditional(), 10, 0)
    assert len(train) == 1787
    assert held.labels.shape == (10,)
    few = Conditional()
    few.num_classes = 9
    with pytest.raises(UserError, match="class 9 does not exist; the model has num_classes 9, 0 to 8"):
        data.prepare("digits", few, 10, 0)
    with pytest.raises(UserError, match="no labels"):
        data.prepare(data.array_source("x", np.zeros((2, 1, 8, 8), np.uint8)), Conditional(), 0, 0)


def test_a_step_gets_each_image_with_its_own_label(mindspore):
    from ms_ddpm.devices.distributed import ALONE
    from ms_ddpm.training.train_step import step_inputs

    class Cell(Conditional):
        def draw(self, rng, batch):
            assert len(batch) == 2
            return ()

    values = np.arange(20, dtype=np.float32).reshape(20, 1, 1, 1)
    source = data.array_source("counted", values, np.arange(20) % 10)
    steps = step_inputs(
        Cell(), source, 7, 1, seed=3, flip=False, start=0, steps=5, workers=1, group=ALONE
    )  # fmt: skip
    for [(drawn, labels)] in steps:
        assert labels.dtype == np.int32
        assert (drawn.reshape(-1) % 10 == labels).all()


# --- sampling -------------------------------------------------------------------------------------------------------


def test_images_are_the_same_whatever_the_batch_and_labels_go_with_them(mindspore):
    from ms_ddpm import sampling

    class Counter:
        conditional, num_classes = True, 10

        def sample(self, batch_size, *, seed, first_image, progress, labels):
            names = np.arange(first_image, first_image + batch_size) / 100 + labels
            return mindspore.Tensor(names.astype(np.float32).reshape(-1, 1, 1, 1) / 10)

    labels = sampling.labels_for(Counter(), 7, [3, 5])
    assert labels.tolist() == [3, 5, 3, 5, 3, 5, 3]
    whole, parts = (sampling.draw_images(Counter(), 7, batch_size=b, labels=labels, progress=False) for b in (7, 3))
    assert (whole == parts).all()
    assert np.allclose(whole.reshape(-1) * 10, labels + np.arange(7) / 100)
    with pytest.raises(UserError, match="class 10 does not exist"):
        sampling.labels_for(Counter(), 7, [10])
    with pytest.raises(UserError, match="knows no classes"):
        sampling.labels_for(object(), 7, [1])


@pytest.mark.parametrize(
    ("system", "options", "words"),
    [("score", {"eta": 0.5}, "eta belongs to other systems"), ("score", {"sampler": "ddim"}, "expected one of a score"),
     ("corruption", {"guidance_scale": 2.0}, "guidance_scale belongs"),
     ("autoencoder", {"steps": 5}, "steps is an option of samplers"),
     ("diffusion", {"sampler": "euler"}, "ddpm, ddim")],
)  # fmt: skip
def test_what_a_system_does_not_take_is_said(mindspore, system, options, words):
    from ms_ddpm import sampling

    with pytest.raises(UserError, match=words):
        sampling.check_options(system, options)
    assert sampling.check_options("score", {"sampler": None, "steps": 5}) == {"steps": 5}


# --- evaluation -----------------------------------------------------------------------------------------------------


def test_real_digits_are_taken_for_what_they_are_and_wrong_labels_are_noticed(tmp_path):
    source = data.open_images("digits28", image_size=(28, 28), channels=1)
    pixels, labels = source.batch(range(1300, 1797)), source.labels[1300:]
    found = evaluation.evaluate_digits(pixels.transpose(0, 2, 3, 1), labels)
    assert found["asked_digits"]["mean"] == pytest.approx(0.966, abs=5e-4)
    wrong = evaluation.evaluate_digits(pixels.transpose(0, 2, 3, 1), (labels + 1) % 10)
    assert wrong["asked_digits"]["mean"] < 0.05
    assert "taken for the digit that was asked for: 96.6%" in evaluation.describe(found)
    images.save_npz(pixels / 255, tmp_path / "samples.npz", labels)
    read, given = images.load_labelled_npz(tmp_path / "samples.npz")
    assert (given == labels).all()
    assert (read == pixels.transpose(0, 2, 3, 1)).all()
    with pytest.raises(UserError, match="expected one of 0 to 9"):
        evaluation.asked_digits(np.zeros((3, 64)), np.array([0, 1]))


# --- the scripts ----------------------------------------------------------------------------------------------------


def test_a_conditional_run_draws_its_classes_and_is_judged(run, tmp_path):
    result = script(
        "sample", "--checkpoint", run, "--num", 70, "--output_dir", tmp_path, "--gif", "--denoise", "--mode", 1
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert {"grid.png", "samples.npz", "samples.gif", "classes.png", "class-3.png", "embedding.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    _, labels = images.load_labelled_npz(tmp_path / "samples.npz")
    assert labels.tolist() == [i % 10 for i in range(70)]
    result = script("evaluate", "--samples", tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(json.loads((tmp_path / "metrics.json").read_text())["asked_digits"]["by_digit"]) == 10


def test_bad_requests_are_one_line(run, tmp_path):
    refused(script("sample", "--checkpoint", run, "--labels", 11, "--output_dir", tmp_path), "class 11 does not exist")
    refused(script("sample", "--checkpoint", run, "--eta", 1, "--output_dir", tmp_path), "eta belongs to other systems")
    refused(script("sample", "--checkpoint", run, "--interpolate", 3, "--output_dir", tmp_path), "--interpolate is for")
    refused(script("train", *SCORE, "--num_classes", 10, "--output_dir", tmp_path / "x"), "knows no classes")
    refused(
        script("train", *SCORE, "--guidance_scale", 2, "--output_dir", tmp_path / "y"), "guidance_scale", "conditional"
    )


PORTED = {  # by system: a tiny recipe, and where the Cell has the article's network
    "score": ("channel_widths: [32, 32, 32, 32]\nembed_dim: 8\nscore_net: add", "net"),
    "score, preconditioned": (
        "channel_widths: [32, 32, 32, 32]\nembed_dim: 8\nsigma_data: 0.35\ndata_mean: 0.2",
        "net",
    ),
    "corruption": ("", "model"),
    "autoencoder": ("perceptual: none", "net"),
}


@pytest.mark.parametrize("system", PORTED)
def test_a_state_dict_of_a_documents_class_becomes_a_checkpoint_and_comes_back(mindspore, tmp_path, system):
    from ms_ddpm import checkpoint, convert, recipes
    from ms_ddpm.storage import tensorfile

    text, name = PORTED[system]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"system: {system.split(',')[0]}\ndataset: digits28\nimage_size: 28\nseed: 1\n{text}\n")
    values = config.from_yaml(recipe)
    theirs = convert.to_torch(getattr(recipes.build(config.Config(**{**values, "seed": 2})), name))
    parallel = tmp_path / "ckpt.safetensors"  # as torch.nn.DataParallel names them
    tensorfile.write(parallel, {f"module.{key}": value for key, value in theirs.items()})
    result = script("convert", "from-torch", parallel, "--config", recipe, "--output_dir", tmp_path / "run")
    assert result.returncode == 0, result.stderr[-2000:]
    for weights in ("ema", "model"):
        cell, _ = recipes.load(checkpoint.locate(tmp_path / "run"), weights)
        loaded = convert.to_torch(getattr(cell, name))
        assert loaded.keys() == theirs.keys()
        assert all(np.array_equal(loaded[key], theirs[key]) for key in theirs)
    if system.startswith("score"):
        back = tmp_path / "back.safetensors"
        result = script("convert", "to-torch", tmp_path / "run", "--output", back)
        assert result.returncode == 0, result.stderr[-2000:]
        assert ("torch_ref.PreconditionedScore(network, sde, 0.35, 0.2)" in result.stdout) == ("precond" in system)
        assert all(np.array_equal(value, theirs[key]) for key, value in tensorfile.read(back).items())


def test_a_bare_network_does_not_fit_a_preconditioned_recipe(mindspore, tmp_path):
    from ms_ddpm import convert, recipes
    from ms_ddpm.storage import tensorfile

    recipe, file = tmp_path / "recipe.yaml", tmp_path / "bare.safetensors"
    values = {"system": "score", "image_size": 28, "channel_widths": [32, 32, 32, 32], "embed_dim": 8}
    tensorfile.write(file, convert.to_torch(recipes.build(config.Config(**values)).net))
    recipe.write_text("".join(f"{name}: {value}\n" for name, value in values.items()) + "sigma_data: 0.35\n")
    result = script("convert", "from-torch", file, "--config", recipe, "--output_dir", tmp_path / "run")
    refused(result, "is of a bare network, and the recipe has sigma_data 0.35")


def test_a_latent_diffusion_has_no_pytorch_file(mindspore, tmp_path):
    from ms_ddpm.storage import tensorfile

    recipe, file = tmp_path / "recipe.yaml", tmp_path / "x.safetensors"
    recipe.write_text("system: latent\nimage_size: 28\nchannel_widths: [4, 8, 8, 8]\nembed_dim: 8\ntext_dim: 8\n")
    tensorfile.write(file, {"a": np.zeros(1, np.float32)})
    result = script("convert", "from-torch", file, "--config", recipe, "--output_dir", tmp_path / "run")
    refused(result, "a model of the system latent has no PyTorch file")


def test_what_cannot_be_drawn_leaves_no_folder(run):
    before = sorted(run.iterdir())
    for options, words in (
        (["--snr", 0.2], "the euler sampler takes no snr"), (["--eps", 2], "sampling eps is 2.0"),
        (["--sampling_steps", 1], "steps of the euler sampler is 1"),
        (["--guidance_scale", -1], "guidance_scale is -1"),
        (["--sampler", "ode", "--sampling_steps", 5], "chooses its own steps"),
        (["--sampling_steps", 10**14], "--sampling_steps is 100000000000000, expected at most 1000000"),
        (["--labels", 10**24], "class 1000000000000000000000000 does not exist"),
    ):  # fmt: skip
        refused(script("sample", "--checkpoint", run, "--num", 2, *options), words)
        assert sorted(run.iterdir()) == before


def test_the_end_and_the_correctors_noise_can_be_set(run, tmp_path):
    options = ["--num", 2, "--sampler", "pc", "--eps", 0.01, "--snr", 0.1, "--output_dir", tmp_path, "--mode", 1]
    result = script("sample", "--checkpoint", run, *options)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "samples.npz").exists()


def test_what_is_for_diffusion_alone_says_so(mindspore):
    from ms_ddpm import recipes

    with pytest.raises(UserError, match="of the system score"):
        recipes.build_diffusion(config.Config(system="score"))


def test_old_checkpoints_of_a_configuration_without_the_new_keys_are_diffusions():
    values = config.from_mapping({"dim": 16}, "an old one")
    assert config.Config(**values).system == "diffusion"


# --- a system of somebody else's ------------------------------------------------------------------------------------


@pytest.fixture
def sixth(mindspore, monkeypatch):
    """A Cell of a system that says its configuration, and PyTorch's names and a constant of its model."""
    from dataclasses import dataclass

    from ms_ddpm import registry
    from ms_ddpm.config.keys import key
    from ms_ddpm.storage.fingerprint import remembers
    from ms_ddpm.storage.torch_side import TorchSide
    from ms_ddpm.systems import System

    @remembers()
    class Scale(mindspore.nn.Cell):
        def __init__(self, image_size, factor=2.0):
            super().__init__()
            self.image_size, self.factor = image_size, factor
            self.w = mindspore.Parameter(np.full(3, factor, np.float32), name="w")

    class Side(TorchSide):
        def names(self, part):
            return {"w": "their.weight"} if type(part) is Scale else None

        def constants(self, part, release=None, among=None):
            return {"table": np.full(2, part.factor)}

    @dataclass
    class ScaleConfig(config.Config):
        system: str = key("sixth", "name", "what is trained")
        strength: float = key(1.0, "float", "of the scale", low=0)

    class Sixth(System):
        name, Config = "sixth", ScaleConfig

        def describe(self, cell):
            from ms_ddpm.storage.described import Part, keys_of

            return keys_of(cell, {Scale: Part({"factor": "strength"})}) if type(cell) is Scale else None

        def torch_side(self):
            return Side(self.name)

    systems = {**registry._own(), "sixth": Sixth()}
    monkeypatch.setattr(registry, "_own", lambda: systems)
    for cached in (registry.names, config.all_fields):
        cached.cache_clear()
    yield Scale((4, 4), 3.0)
    for cached in (registry.names, config.all_fields):
        cached.cache_clear()


def test_another_system_says_its_configuration_and_its_names_in_pytorch(sixth):
    from ms_ddpm import convert
    from ms_ddpm.storage import described

    found = described.configuration(sixth, {}, None)
    assert (found["system"], found["strength"], found["image_size"]) == ("sixth", 3.0, 4)
    state = convert.to_torch(sixth)
    assert {name: value.tolist() for name, value in state.items()} == {"table": [3, 3], "their.weight": [3, 3, 3]}
    convert.from_torch(sixth, {**state, "their.weight": np.float32([5, 6, 7])})
    assert sixth.w.asnumpy().tolist() == [5, 6, 7]
    with pytest.raises(UserError, match=r"unexpected other; table table differs by 3\.3e-01"):
        convert.from_torch(sixth, {**state, "other": state["table"], "table": state["table"] * 4 / 3})


# --- what is shared names no system ---------------------------------------------------------------------------------

NAMES = {path.parent.name for path in (ROOT / "ms_ddpm" / "systems").glob("*/__init__.py")}


def knowledge(where, text):
    """The names of systems that ``text`` compares something with, as sentences. Whom it imports: test_imports.py."""
    for node in ast.walk(ast.parse(text)):
        parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        parts += [node.value] if isinstance(node, ast.MatchValue) else []
        parts += [key for key in node.keys if key is not None] if isinstance(node, ast.Dict) else []
        for literal in (leaf for part in parts for leaf in ast.walk(part) if isinstance(leaf, ast.Constant)):
            if literal.value in NAMES:
                yield f"{where}, line {literal.lineno}: compares with {literal.value!r}"


def test_what_is_shared_knows_no_system():
    rooms = ROOT / "ms_ddpm"
    own = [path for name in NAMES for path in (rooms / "systems" / name).rglob("*.py")]
    own += [rooms / "__init__.py", rooms / "_moved.py"]  # tables of modules: some are called as a system is
    shared = [path for path in sorted(rooms.rglob("*.py")) if path not in own]
    assert [line for path in shared for line in knowledge(path, path.read_text(encoding="utf-8"))] == []
    assert len(shared) > 100
    assert {"diffusion", "score", "latent", "autoencoder", "corruption"} == NAMES


@pytest.mark.parametrize(
    "text",
    ["config.system == 'score'", "if 'latent' != name: pass", "name in ('score', 'latent')",
     "match name:\n  case 'diffusion': pass", "{'corruption': f}[name]"],
)  # fmt: skip
def test_knowledge_of_a_system_is_seen(text):
    assert list(knowledge("x", text))


def test_what_is_no_knowledge_of_a_system_is_let_be():
    assert list(knowledge("x", "kind == 'other'\nsay('score')")) == []


def test_a_cell_that_draws_nothing_trains_without_pictures_and_sample_py_says_so(mindspore):
    from mindspore import Tensor

    from ms_ddpm.samplers.drawing import check_request
    from ms_ddpm.systems.sample import rows_of_classes
    from ms_ddpm.trainable import Trainable

    class Silent(Trainable):
        pass

    class Plain(Trainable):
        def sample(self, batch_size, **options):
            return Tensor(np.zeros((batch_size, 1, 2, 2), np.float32))

    some = config.Config()
    assert rows_of_classes(Silent(), some) is None
    with pytest.raises(UserError, match="Silent draws nothing"):
        check_request(Silent())
    check_request(Plain(), steps=3)
    assert rows_of_classes(Plain(), some)(Plain(), 3).shape == (3, 1, 2, 2)
