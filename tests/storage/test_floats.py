"""Weights of any width: kept bit for bit, and changed in width only where somebody asks for it.

The values are such that another width shows: 1/3 is another number in each, 70000 is infinite in float16, 1e-30 is
nothing there, 1e300 is infinite in float32.
"""

import json
import logging

import numpy as np
import pytest

from ms_ddpm import checkpoint
from ms_ddpm.errors import UserError
from ms_ddpm.storage import floats, tensorfile, torch_files

VALUES = {
    "float16": np.array([1 / 3, -0.0, 6e-8, 65504], np.float16),
    "bfloat16": floats.cast(np.array([1 / 3, -0.0, 1e-39, 70000], np.float32), "bfloat16"),
    "float32": np.array([1 / 3, -0.0, 1e-30, 70000], np.float32),
    "float64": np.array([1 / 3, -0.0, 1e-300, 1e300], np.float64),
}


def bits(array):
    return floats.plain(array).tobytes()


def same(found, expected):
    """Whether two sets of arrays are the same, bit for bit and in the same types."""
    told, wanted = (
        {name: (floats.name_of(array.dtype), array.shape, bits(array)) for name, array in arrays.items()}
        for arrays in (found, expected)
    )
    return told == wanted


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 0x3F80), (0.1, 0x3DCD), (-2.5, 0xC020), (1 + 2**-8, 0x3F80), (1 + 3 * 2**-8, 0x3F82),
        (1 + 2**-8 + 2**-23, 0x3F81), (3.4e38, 0x7F80), (np.inf, 0x7F80), (2.0**-133, 0x0001), (-0.0, 0x8000),
    ],
)  # fmt: skip
def test_a_bfloat16_is_the_nearest_and_of_two_the_even_one(value, expected):
    found = floats.cast(np.float32([value]), "bfloat16")
    assert hex(found["bfloat16"][0]) == hex(expected)


def test_every_bfloat16_comes_back_from_float32_and_float64():
    every = np.arange(2**16, dtype="<u2").view(floats.BFLOAT16)
    for wide in ("float32", "float64"):
        there = floats.cast(every, wide)
        back = floats.cast(there, "bfloat16")
        number = ~np.isnan(there)
        assert number.sum() == 2**16 - 2 * 127
        assert (back[number] == every[number]).all()
        assert np.isnan(floats.cast(back[~number], wide)).all()


def test_what_is_no_float_stays_and_what_is_too_large_is_not_finite():
    whole = np.arange(3)
    assert floats.cast(whole, "float32").dtype == whole.dtype
    assert not floats.is_finite(whole)
    assert floats.is_finite(VALUES["float64"])
    for name in ("float32", "bfloat16", "float16"):
        assert not floats.is_finite(floats.cast(VALUES["float64"], name)), name
    assert not floats.is_finite(floats.cast(np.float32([np.nan]), "bfloat16"))
    scalar = floats.cast(np.float32(1 / 3), "bfloat16")
    assert (scalar.shape, floats.cast(scalar, "float64")) == ((), 0.333984375)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_holds_every_width(tmp_path):
    path = tmp_path / "x.safetensors"
    tensorfile.write(path, VALUES)
    assert same(tensorfile.read(path), VALUES)
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    assert end % 8 == 0
    header = json.loads(data[8:end])
    assert {name: header[name]["dtype"] for name in VALUES} == {
        "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"
    }  # fmt: skip
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match="is damaged: its tensors differ"):
        tensorfile.read(path)


def test_pytorch_reads_the_same_bfloat16_and_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    tensorfile.write(tmp_path / "ours.safetensors", VALUES)
    theirs = load_file(tmp_path / "ours.safetensors")
    assert theirs["bfloat16"].dtype == torch.bfloat16
    assert theirs["bfloat16"].view(torch.int16).numpy().tobytes() == bits(VALUES["bfloat16"])
    save_file(theirs, tmp_path / "theirs.safetensors")
    assert same(tensorfile.read(tmp_path / "theirs.safetensors"), VALUES)


def test_float32_files_are_what_they_were(tmp_path):
    """Byte for byte what safetensors itself writes: a checkpoint's checksums are of these bytes."""
    from safetensors.numpy import save

    arrays = {"b": VALUES["float32"], "a": np.ones((2, 1), np.float32)}
    assert tensorfile.serialise(arrays) == save(arrays)
    assert tensorfile.serialise(arrays, {"k": "v"}) == save(arrays, metadata={"k": "v"})


# --- a Cell of several widths ----------------------------------------------------------------------------------------


@pytest.fixture
def make(mindspore):
    """A Cell with one parameter of each width, or all of one; zeros until it is loaded."""

    def made(only=None):
        cell = mindspore.nn.Cell()
        for name in VALUES:
            kind = getattr(mindspore, only or name)
            value = mindspore.Tensor(np.zeros(4, np.float32)).astype(kind)
            cell.insert_param_to_cell(name, mindspore.Parameter(value, name=name), check_name_contain_dot=False)
        return cell

    return made


def held(cell):
    return {name: p.asnumpy() for name, p in cell.parameters_and_names()}


def test_a_cell_of_every_width_is_saved_and_loaded_bit_for_bit(make, tmp_path):
    from ms_ddpm import weights
    from ms_ddpm.storage.weights import set_parameters

    first, second = make(), make()
    set_parameters(first, VALUES, "these")
    assert same(held(first), VALUES)
    path = checkpoint.save(tmp_path, 3, {"model": held(first), "ema": {}, "optimizer": {}}, {"config": None})
    assert checkpoint.check(path)["step"] == 3
    assert same(checkpoint.load(path).arrays["model"], VALUES)
    assert same(held(weights.load_weights(second, path, "model")), VALUES)
    assert checkpoint.save(tmp_path, 3, {"model": held(second), "ema": {}, "optimizer": {}}, {"config": None}) == path
    changed = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
    with pytest.raises(UserError, match="its checksum differs"):
        checkpoint.load(path)


def test_a_graph_sees_what_was_set(mindspore):
    from ms_ddpm.ops.assign import set_value

    class Half(mindspore.nn.Cell):
        def __init__(self):
            super().__init__()
            value = mindspore.Tensor(np.zeros(4, np.float32)).astype(mindspore.bfloat16)
            self.w = mindspore.Parameter(value, name="w")

        def construct(self, x):
            return x * mindspore.ops.cast(self.w, mindspore.float32)

    cell, one = Half(), mindspore.Tensor(np.ones(4, np.float32))
    run = mindspore.jit(cell)  # which does not see what set_data or assign_value put there (2.10, CPU)
    assert (run(one).asnumpy() == 0).all()
    for factor in (1, 2):  # before and after it has run
        values = floats.cast(np.float32([1 / 3, 2, 70000, -1]) * np.float32(factor), "bfloat16")
        set_value(cell.w, values)
        assert (run(one).asnumpy() == floats.cast(values, "float32")).all()
        assert bits(cell.w.asnumpy()) == bits(values)


@pytest.mark.parametrize("width", ["float16", "bfloat16", "float64"])
def test_another_width_is_refused_and_taken_where_it_is_asked_for(make, tmp_path, width):
    from ms_ddpm import weights

    cell, path = make("float32"), tmp_path / "x.safetensors"
    fits = {name: floats.cast(np.float64([1 / 3, -0.0, 1e-5, 60000]), width) for name in VALUES}
    tensorfile.write(path, fits)
    with pytest.raises(UserError, match=rf"holds {width}, expected float32; weights\.load_weights\(.*cast=True\)"):
        weights.load_weights(cell, path)
    assert all((value == 0).all() for value in held(cell).values())
    found = held(weights.load_weights(cell, path, cast=True))
    assert same(found, {name: floats.cast(value, "float32") for name, value in fits.items()})


@pytest.mark.parametrize(("own", "value"), [("float32", 1e300), ("float16", 70000.0), ("bfloat16", 1e39)])
def test_what_does_not_fit_the_width_is_refused_whole(make, tmp_path, own, value):
    from ms_ddpm import weights

    cell, path = make(own), tmp_path / "x.safetensors"
    tensorfile.write(path, {name: np.float64([1, 2, 3, value]) for name in VALUES})
    with pytest.raises(UserError, match="values that are not finite"):
        weights.load_weights(cell, path, cast=True)
    assert all((floats.cast(held_, "float32") == 0).all() for held_ in held(cell).values())


def test_a_run_goes_on_with_its_own_width_alone(make):
    from ms_ddpm.training import resuming

    cell, names = make("float32"), list(VALUES)
    whole = dict.fromkeys(names, np.float32([1 / 3, 2, 3, 4]))
    moments = {f"{key}.{name}": whole[name] for key in ("exp_avg", "exp_avg_sq") for name in names}
    arrays = {"ema": whole, "optimizer": {"steps": np.ones(1, np.float32), **moments}}

    def loaded(width):
        model = {name: floats.cast(value, width) for name, value in whole.items()}
        return checkpoint.Checkpoint("step-00000001", 1, {}, {"model": model, **arrays})

    resuming.check_arrays(loaded("float32"), cell, names)
    for width in ("float16", "bfloat16", "float64"):
        with pytest.raises(UserError, match=f"weights of another type: float16 holds {width}, expected float32"):
            resuming.check_arrays(loaded(width), cell, names)
        resuming.check_arrays(loaded(width), make(width), names)


def test_a_run_begins_with_weights_of_another_width_and_says_so(make, tmp_path, caplog):
    from ms_ddpm import weights

    cell, path = make("float32"), tmp_path / "half.safetensors"
    half = dict.fromkeys(VALUES, floats.cast(np.float32([1 / 3, 2, 3, 4]), "bfloat16"))
    tensorfile.write(path, half)
    given = weights.read_weights(path)
    with caplog.at_level(logging.INFO, logger="ms_ddpm"):
        weights.begin_with(cell, given)
    wide = {name: floats.cast(value, "float32") for name, value in half.items()}
    assert same(held(cell), wide)
    assert same(given.arrays, wide)  # what the averaged weights begin with
    assert "half.safetensors are bfloat16" in caplog.text


def test_an_average_is_float32_and_is_loaded_in_the_width_of_what_it_averages(make, tmp_path):
    from ms_ddpm import weights

    model = {name: floats.cast(np.float32([1, 2, 3, 4]), "bfloat16") for name in VALUES}
    average = dict.fromkeys(VALUES, np.float32([1 / 3, 2, 3, 4]))
    path = checkpoint.save(tmp_path, 1, {"model": model, "ema": average}, {"config": None})
    expected = {name: floats.cast(value, "bfloat16") for name, value in average.items()}
    assert same(held(weights.load_weights(make("bfloat16"), path)), expected)
    narrow = {name: floats.cast(value, "float16") for name, value in average.items()}  # which no average is
    path = checkpoint.save(tmp_path, 2, {"model": model, "ema": narrow}, {"config": None})
    with pytest.raises(UserError, match="holds float16, expected bfloat16"):
        weights.load_weights(make("bfloat16"), path)


@pytest.mark.parametrize("width", ["float16", "bfloat16", "float64"])
def test_a_run_with_a_frozen_part_of_another_width_goes_on(mindspore, tmp_path, width):
    from ms_ddpm import Trainer, data, weights

    class Part(mindspore.nn.Cell):
        def __init__(self, value):
            super().__init__()
            self.channels, self.image_size = 1, (2, 2)
            frozen = mindspore.Tensor(np.full((2, 2), value, np.float32)).astype(getattr(mindspore, width))
            self.frozen = mindspore.Parameter(frozen, name="frozen", requires_grad=False)
            self.bias = mindspore.Parameter(mindspore.Tensor(np.float32([1 / 3])), name="bias")

        def draw(self, rng, batch):
            return ()

        def construct(self, x):
            error = x * mindspore.ops.cast(self.frozen, mindspore.float32) + self.bias - 1
            return (error * error).mean()

    def trainer(value, steps):
        return Trainer(
            Part(value), source, train_batch_size=4, train_num_steps=steps, save_and_sample_every=2, num_samples=1,
            validation_images=0, results_folder=tmp_path, progress=False, train_lr=1e-2, ema_update_every=1,
        )  # fmt: skip

    source = data.array_source("x", np.random.default_rng(0).random((20, 1, 2, 2)).astype(np.float32))
    trainer(1 / 3, 2).train()
    kept = checkpoint.load(checkpoint.locate(tmp_path)).arrays["model"]["frozen"]
    assert floats.name_of(kept.dtype) == width
    again = trainer(5, 4)
    assert again.step == 2
    assert bits(again.cell.frozen.asnumpy()) == bits(kept) != bits(Part(5).frozen.asnumpy())
    again.train()
    assert bits(weights.load_weights(Part(5), tmp_path).frozen.asnumpy()) == bits(kept)


# --- PyTorch's files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", ["float16", "bfloat16", "float64"])
def test_a_pytorch_file_of_another_width_becomes_float32(mindspore, tmp_path, width):
    from ms_ddpm import convert
    from ms_ddpm.models.basic import BasicNet

    state = convert.to_torch(BasicNet(widths=(3, 4), rng=0))
    narrow = {name: floats.cast(value, width) for name, value in state.items()}
    tensorfile.write(tmp_path / "m.safetensors", {f"module.{name}": value for name, value in narrow.items()})
    read = torch_files.read(tmp_path / "m.safetensors")["model"]
    expected = {name: floats.cast(value, "float32") for name, value in narrow.items()}
    assert same(read, expected)
    assert width == "float64" or any((expected[name] != state[name]).any() for name in state)
    for given in (read, narrow):  # also by the library's own call
        other = BasicNet(widths=(3, 4), rng=1)
        convert.from_torch(other, given)
        assert same(convert.to_torch(other), expected)


def test_a_pt_of_bfloat16_becomes_float32(tmp_path):
    torch = pytest.importorskip("torch")
    value = torch.tensor([1 / 3, 70000.0]).bfloat16()
    torch.save({"w": value}, tmp_path / "m.pt")
    assert np.array_equal(torch_files.read(tmp_path / "m.pt")["model"]["w"], value.float().numpy())
