"""Damaged checkpoints by the thousand: what loads is what the files say, all else is one line that names the file.

Two kinds of damage. Where the checksums are left alone, every changed byte must be noticed. Where the attacker writes
new ones, names, shapes, types and offsets must still hold; other finite numbers in a well-formed file cannot be told
from trained ones and load as what they are.
"""

import copy
import hashlib
import json
import os
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise

from ms_ddpm import checkpoint, config, images
from ms_ddpm.errors import UserError
from ms_ddpm.storage import torch_files
from tests.conftest import ROOT
from tests.fuzz.damage import check_complaint, count, damaged, watched

GROUPS = ("model", "ema", "optimizer")
VALUES = {"dim": 8, "dim_mults": [1], "image_size": 8, "timesteps": 20, "attn_dim_head": 4, "attn_heads": 2}
BAD_VALUES = [
    None, True, False, -1, 0, 1, 10**19, 10**400, -(2**63), 0.5, float("nan"), float("inf"), "", "7", "x" * 2000,
    "../../etc/passwd", "a\nb\x1b[31m", [], [1], {}, {"a": {"b": [1]}}, [[[[[[1]]]]]],
]  # fmt: skip


def make_trainer(folder, **options):
    from ms_ddpm import data, recipes
    from ms_ddpm.training.trainer import Trainer

    settings = config.Config(**{**VALUES, "output_dir": str(folder)})
    np.savez(folder.parent / "set.npz", images=np.zeros((9, 8, 8), np.uint8))
    dataset = data.open_images(folder.parent / "set.npz", image_size=(8, 8), channels=1)
    return Trainer(
        recipes.build_diffusion(settings), dataset, results_folder=folder, config=config.to_dict(settings),
        progress=False, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trainer(mindspore, tmp_path_factory):
    """A Trainer that has never trained; loading compiles nothing."""
    trainer = make_trainer(tmp_path_factory.mktemp("fuzz") / "run")
    trainer.step = 7
    return trainer


@pytest.fixture(scope="module")
def original(trainer):
    """file name -> bytes of its checkpoint."""
    path = trainer.save()
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@pytest.fixture
def folder(tmp_path, original):
    """A fresh copy."""
    folder = tmp_path / "checkpoints" / "step-00000007"
    folder.mkdir(parents=True)
    for name, data in original.items():
        (folder / name).write_bytes(data)
    return folder


def sign(folder, state=None, **files):
    """Writes ``files`` and a state.json whose checksums fit, as an attacker would."""
    state = json.loads((folder / "state.json").read_bytes()) if state is None else state
    for group, data in files.items():
        (folder / f"{group}.safetensors").write_bytes(data)
        state["files"][f"{group}.safetensors"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if isinstance(state, dict):
        state["sha256"] = checkpoint.state_digest(state)
    (folder / "state.json").write_text(json.dumps(state))


def outcome(call, folder):
    """What ``call`` gives, or None where it complains as it should."""
    with watched(folder):
        try:
            return call()
        except UserError as error:
            check_complaint(error, folder)
            return None


def held(trainer):
    """What a Trainer has in its hands: every array and number a checkpoint restores."""
    arrays = {f"model {name}": p.asnumpy() for name, p in trainer.cell.parameters_and_names()}
    arrays |= {f"ema {name}": value for name, value in trainer.ema.state().items()}
    arrays |= {f"optimizer {name}": value for name, value in trainer.optimizer.state(trainer.names).items()}
    return arrays


def check_trainer(trainer, folder):
    """The Trainer refuses ``folder``, or holds just what its files say."""
    loaded = outcome(lambda: trainer.load(folder) or True, folder)
    if not loaded:
        return False
    files = {g: parse((folder / f"{g}.safetensors").read_bytes()) for g in GROUPS}
    said = {f"{group} {name}": value for group in GROUPS for name, value in files[group].items()}
    found = held(trainer)
    assert said.keys() == found.keys()
    for name, value in said.items():
        assert value.dtype == np.float32, name
        assert np.isfinite(value).all(), name
        assert np.array_equal(value, found[name].reshape(value.shape)), name
    state = json.loads((folder / "state.json").read_bytes())
    assert trainer.step == state["step"] == 7
    for number in (trainer.step, trainer.ema.calls, trainer.skipped):
        assert type(number) is int
        assert number >= 0
    return True


def test_the_undamaged_one_loads(trainer, folder):
    assert check_trainer(trainer, folder)


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "ema.safetensors", "optimizer.safetensors"])
def test_every_change_is_noticed_by_checksum(folder, original, name):
    for seed in range(count(150, 3000)):
        (folder / name).write_bytes(damaged(original[name], seed))
        loaded = outcome(lambda: checkpoint.load(folder), folder)
        if loaded is not None:  # a space added to state.json
            assert name == "state.json"
            assert loaded.state == json.loads(original[name])


@pytest.mark.parametrize("group", GROUPS)
def test_resigned_damage_to_a_tensor_file(trainer, folder, original, group):
    """Half of the damage is done to the header, where names, types, shapes and offsets stand."""
    name = f"{group}.safetensors"
    size = 8 + int.from_bytes(original[name][:8], "little")
    for seed in range(count(20, 1500)):
        data = original[name]
        broken = damaged(data, seed) if seed % 2 else damaged(data[:size], seed) + data[size:]
        sign(folder, **{group: broken})
        check_trainer(trainer, folder)


def rebuild(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def headers(data):
    """name -> files whose header lies in one way."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    first, second = [name for name in header if name != "__metadata__"][:2]

    def change(name, **fields):
        return rebuild({**header, name: {**header[name], **fields}}, body)

    for dtype in ("F16", "BF16", "F64", "I32", "I64", "U8", "BOOL", "F8_E4M3", "C64", "F4", "", "x", None, 3):
        yield f"dtype {dtype}", change(first, dtype=dtype)
    for shape in ([2**62, 4], [2**40], [0], [-1], [], [1.5], "x", None, [[1]], [10**30], [1] * 100000):
        yield f"shape {str(shape)[:20]}", change(first, shape=shape)
    for offsets in (
        [0, 2**63],
        [0, 0],
        [4, 0],
        [-4, 4],
        [0, 10**30],
        [0],
        [0, 4, 8],
        None,
        "ab",
        header[second]["data_offsets"],
    ):
        yield f"offsets {offsets}", change(first, data_offsets=offsets)
    for metadata in (None, [], {"a": 1}, {"a": "b" * 10000}, "x", {"\0": "\n"}):
        yield f"metadata {str(metadata)[:20]}", rebuild({**header, "__metadata__": metadata}, body)
    yield "swapped", rebuild({**header, first: header[second], second: header[first]}, body)
    yield "renamed", rebuild({("../../x" if name == first else name): entry for name, entry in header.items()}, body)
    yield "missing", rebuild({name: entry for name, entry in header.items() if name != first}, body)
    text = json.dumps(header)
    yield "twice", rebuild((text[:-1] + f', "{first}": {json.dumps(header[first])}}}').encode(), body)
    yield "deep", rebuild(b"[" * 50000, body)
    yield "deep name", rebuild(b'{"a":' * 50000, body)
    yield "bytes", rebuild(b"\xff\xfe{}", body)
    for length in (2**63, 2**64 - 1, 2**32, 0, 1, len(data), len(data) - 8, 100_000_001):
        yield f"length {length}", struct.pack("<Q", length) + data[8:]
    yield "empty", b""
    yield "short", data[:7]


@pytest.mark.parametrize("group", GROUPS)
def test_headers_that_lie(trainer, folder, original, group):
    for what, data in headers(original[f"{group}.safetensors"]):
        sign(folder, **{group: data})
        loaded = check_trainer(trainer, folder)
        assert not loaded or what.startswith(("metadata", "swapped", "twice")), what


def changed_arrays(arrays):
    """What is wrong -> arrays that are wrong in one way."""
    first, second = list(arrays)[:2]
    for dtype in (np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_):
        yield f"{dtype.__name__}", {**arrays, first: arrays[first].astype(dtype)}
    for bad in (np.nan, np.inf, -np.inf):
        broken = arrays[first].copy()
        broken.flat[-1] = bad
        yield f"{bad}", {**arrays, first: broken}
    yield "flat", {**arrays, first: arrays[first].reshape(1, -1)}
    yield "smaller", {**arrays, first: arrays[first].reshape(-1)[:0]}
    yield "renamed", {(f"{name}." if name == first else name): value for name, value in arrays.items()}
    yield "missing", {name: value for name, value in arrays.items() if name != second}
    yield "one more", {**arrays, "a\nb\x1b" + "c" * 5000: np.zeros(1, np.float32)}
    yield "none", {}


@pytest.mark.parametrize("group", GROUPS)
def test_arrays_that_do_not_fit_are_refused_and_change_nothing(trainer, folder, original, group):
    before = {name: value.copy() for name, value in held(trainer).items()}
    for what, arrays in changed_arrays(parse(original[f"{group}.safetensors"])):
        sign(folder, **{group: serialise(arrays)})
        assert not check_trainer(trainer, folder), what
    if group == "model":  # the others are checked before anything is written
        assert all(np.array_equal(value, before[name]) for name, value in held(trainer).items())


def places(value, path=()):
    """Every place in a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def put(document, path, value):
    """A copy of ``document`` with ``value`` at ``path``; KeyError for a value means: nothing there."""
    if not path:
        return value
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def test_wrong_types_everywhere_in_the_state(trainer, folder, original):
    from ms_ddpm import recipes

    state = json.loads(original["state.json"])
    cases = [(path, bad) for path in places(state) if path[:1] != ("sha256",) for bad in [*BAD_VALUES, KeyError]]
    rng = np.random.default_rng(0)
    important = [
        c for c in cases if c[0][:1] in ((), ("step",), ("files",), ("training",), ("config",)) and len(c[0]) < 2
    ]
    chosen = [cases[i] for i in rng.choice(len(cases), count(150, len(cases)), replace=False)]
    for path, bad in [*important, *chosen]:
        if path == () and bad is KeyError:
            continue
        sign(folder, put(state, path, bad))
        check_trainer(trainer, folder)
        read = outcome(lambda: recipes.config_of(folder), folder)
        assert read is None or isinstance(read, config.Config)


@pytest.mark.parametrize(
    "text",
    ["[" * 100000, '{"a":' * 100000, '{"step": 7' + " " * 100, "NaN", '"x"', '{"step": ' + "9" * 5000 + "}",
     "\ufeff{}", "", '{"step": 7, "step": 8, "files": {}}', "{}" * 1000],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_texts_that_are_no_state(folder, text):
    (folder / "state.json").write_text(text)
    assert outcome(lambda: checkpoint.load(folder), folder) is None


def test_a_link_to_the_same_bytes_is_a_file_like_any_other(trainer, folder, tmp_path):
    os.rename(folder / "ema.safetensors", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", folder / "ema.safetensors")
    assert check_trainer(trainer, folder)


def test_files_that_the_state_names_elsewhere_are_never_read(folder, original, tmp_path):
    """Only model, ema and optimizer beside state.json are."""
    state = json.loads(original["state.json"])
    state["files"] |= {
        name: {"bytes": 1, "sha256": ""} for name in ("../../etc/passwd", "/etc/passwd", "..", "/dev/zero")
    }
    sign(folder, state)
    assert outcome(lambda: checkpoint.load(folder), folder).arrays.keys() == set(GROUPS)
    for name in ("model.safetensors",):
        state["files"]["../" + name] = state["files"].pop(name)
        sign(folder, state)
        assert outcome(lambda: checkpoint.load(folder), folder) is None


POINTERS = [
    b"", b"\0", b"step-00000007", b"step-00000007\n\n", b"../../x", b"/etc/passwd", b"step-" + b"9" * 5000,
    b"x" * 5000, b"\xff\xfe", b"step-00000008", b"step-7", "step-٠٠٠٠٠٠٠٧".encode(), b"step-000000000000007",
    b"step-00000007/..", b"step--0000007", b"." * 300, b"a" * 10**6,
]  # fmt: skip


def test_last_and_best_name_a_step_or_nothing(folder):
    directory = folder.parent
    for content in POINTERS:
        for name in ("last", "best"):
            (directory / name).write_bytes(content)
            with watched(content):
                step = checkpoint.named_step(directory, name)
                assert step == (7 if content.strip() == b"step-00000007" else None), content
            found = outcome(lambda name=name: checkpoint.locate(directory.parent, name), directory)
            assert found in (None, folder)
        checkpoint._rotate(directory, 1)
        assert folder.is_dir()


def test_names_that_only_look_like_steps_are_not_counted(folder):
    directory = folder.parent
    strange = (
        "step-00000000000000000000001", "step-000000099", "step-٠٠٠٠٠٠٠٩", "step-00000099\n", "step-99",
        "step-00000099x", " step-00000099", "step--0000099", "step-" + "9" * 200,
    )  # fmt: skip
    for name in strange:
        (directory / name).mkdir()
    (directory / "step-00000098").write_text("a file")
    assert checkpoint.steps(directory) == [7]
    assert checkpoint.locate(directory.parent) == folder
    checkpoint._rotate(directory, 1)
    assert all((directory / name).is_dir() for name in strange)


def test_the_step_inside_is_that_of_the_name(folder):
    other = folder.with_name("step-00000009")
    shutil.copytree(folder, other)
    assert outcome(lambda: checkpoint.load(other), other) is None
    own = folder.with_name("mine")
    shutil.copytree(folder, own)
    assert checkpoint.load(own).step == 7


def test_sampling_builds_what_the_checkpoint_says_or_refuses(mindspore, folder, original):
    """recipes.load, which sample.py and convert.py to-torch call."""
    from ms_ddpm import recipes

    state = json.loads(original["state.json"])
    rng = np.random.default_rng(1)
    fields = [name for name in VALUES if name != "output_dir"] + [
        "channels",
        "full_attn",
        "init_dim",
        "norm",
        "objective",
    ]
    for _ in range(count(8, 300)):
        name = str(rng.choice(fields))
        bad = [*BAD_VALUES, 2, 4, 12, [1, 2], 10**9, "group", [True]][int(rng.integers(len(BAD_VALUES) + 7))]
        sign(folder, put(state, ("config", name), bad))
        outcome(lambda: recipes.load(folder), folder)


# ---- what other programs made -----------


@pytest.fixture(scope="module")
def convert_script():
    from ms_ddpm.cli import convert

    return convert


@pytest.fixture(scope="module")
def torch_arrays(trainer):
    from ms_ddpm import convert

    return convert.to_torch(trainer.cell)


def read_foreign(convert_script, path):
    """What convert.py from-torch does before it builds the network."""
    read = torch_files.read(path)
    found = convert_script.configuration(
        {"config": None, "image_size": ["8"], "objective": None, "file": str(path)}, read["model"]
    )
    return read, found


def check_foreign(convert_script, path):
    with watched(path):
        try:
            read, found = read_foreign(convert_script, path)
        except UserError as error:
            check_complaint(error, path, "checkpoint", *config.FIELDS)
            return None
    assert type(read["step"]) is int
    assert all(isinstance(value, np.ndarray) for value in read["model"].values())
    return found


def test_mutated_safetensors_of_pytorch(convert_script, torch_arrays, tmp_path):
    path, data = tmp_path / "m.safetensors", serialise(torch_arrays)
    path.write_bytes(data)
    assert check_foreign(convert_script, path).dim_mults == [1]
    size = 8 + int.from_bytes(data[:8], "little")
    for seed in range(count(60, 4000)):
        path.write_bytes(damaged(data, seed) if seed % 4 == 0 else damaged(data[:size], seed) + data[size:])
        check_foreign(convert_script, path)
    for _, changed in headers(data):
        path.write_bytes(changed)
        check_foreign(convert_script, path)


def test_arrays_of_any_shape_and_type_under_the_names_of_a_network(convert_script, torch_arrays, tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "m.safetensors"
    names = list(torch_arrays)
    telling = ["betas", "loss_weight", "model.init_conv.weight", "model.final_conv.weight", "model.time_mlp.1.weight",
               "model.downs.0.2.mem_kv", "model.downs.0.3.weight", "model.downs.0.2.to_out.weight"]  # fmt: skip
    for _ in range(count(80, 4000)):
        arrays = dict(torch_arrays)
        for _ in range(int(rng.integers(1, 4))):
            name = str(rng.choice(telling if rng.random() < 0.8 else names))
            shape = tuple(int(v) for v in rng.integers(0, 5, int(rng.integers(0, 5))))
            dtype = rng.choice([np.float32, np.float64, np.float16, np.int64, np.bool_])
            kind = rng.random()
            if kind < 0.2:
                arrays.pop(name, None)
            elif kind < 0.3:
                arrays[f"model.downs.{rng.integers(10 ** int(rng.integers(1, 8)))}.2.to_out.weight"] = np.zeros(
                    1, np.float32
                )
            else:
                with np.errstate(all="ignore"):
                    arrays[name] = np.asarray(rng.random(shape) * rng.choice([0, 1, np.nan, np.inf])).astype(dtype)
        path.write_bytes(serialise(arrays))
        check_foreign(convert_script, path)


def test_mutated_pt_files(convert_script, torch_arrays, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "m.pt"
    few = {name: torch.from_numpy(value.copy()) for name, value in torch_arrays.items()}
    torch.save({"step": 3, "model": few, "ema": {f"ema_model.{k}": v for k, v in few.items()}}, path)
    data = path.read_bytes()
    assert check_foreign(convert_script, path).dim == 8
    for seed in range(count(60, 3000)):
        path.write_bytes(damaged(data, seed))
        check_foreign(convert_script, path)


def test_strange_contents_of_pt_files(convert_script, torch_arrays, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "m.pt"
    good = {name: torch.from_numpy(value.copy()) for name, value in torch_arrays.items()}
    betas = {
        "endless": torch.zeros(1).expand(10**11), "complex": torch.zeros(20, dtype=torch.complex64),
        "half": torch.zeros(20).half(), "sparse": torch.zeros(20).to_sparse(), "meta": torch.zeros(20, device="meta"),
        "scalar": torch.tensor(0.1), "empty": torch.zeros(0), "bool": torch.zeros(20, dtype=torch.bool),
        "quantised": torch.quantize_per_tensor(torch.zeros(20), 0.1, 0, torch.quint8), "nested": [torch.zeros(20)],
        "bf16": torch.zeros(20).bfloat16(),
    }  # fmt: skip
    contents = [{"model": {**good, "betas": value}} for value in betas.values()]
    contents += [
        {"model": good, "step": step}
        for step in (-1, 1.5, "x", True, 10**30, None, [], torch.tensor(3), torch.zeros(3))
    ]
    contents += [
        {"model": model} for model in (None, [], 3, {}, {3: torch.zeros(1)}, {None: 1}, {"a": {"b": torch.zeros(1)}})
    ]
    contents += [{"model": good, "ema": ema} for ema in (None, [], {3: torch.zeros(1)}, {"ema_model.": 1}, "x")]
    contents += [None, [], 3, "x", torch.zeros(3), {}, {1: 2}]
    for content in contents:
        torch.save(content, path)
        check_foreign(convert_script, path)


# ---- the harness's bundles -----------


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(ROOT / "parity_tests" / "bundles" / "maths__q_sample-cosine-pynative", tmp_path / "bundle")


def check_bundle(folder):
    from portparity import bundles
    from portparity.errors import HarnessError

    with watched(folder):
        try:
            manifest, known = bundles.read(folder)
        except HarnessError as error:
            check_complaint(error, folder)
            manifest = None
        with pytest.raises(HarnessError) as caught:  # there are no cases that it could be of
            bundles.Recorded(folder, [])
    check_complaint(caught.value, folder)
    return manifest and (manifest, known)


def test_mutated_bundles(bundle):
    manifest, data = (bundle / name for name in ("manifest.json", "data.safetensors"))
    original, content = manifest.read_bytes(), data.read_bytes()
    for seed in range(count(100, 3000)):
        data.write_bytes(damaged(content, seed))
        manifest.write_bytes(original)
        assert check_bundle(bundle) is None
        again = json.loads(original)
        again["sha256"][data.name] = hashlib.sha256(data.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(again))
        check_bundle(bundle)
    data.write_bytes(content)
    for seed in range(count(100, 3000)):
        manifest.write_bytes(damaged(original, seed))
        check_bundle(bundle)


def test_wrong_types_everywhere_in_a_manifest(bundle):
    path = bundle / "manifest.json"
    original = json.loads(path.read_bytes())
    cases = [
        (place, bad) for place in places(original) for bad in [*BAD_VALUES, KeyError] if place or bad is not KeyError
    ]
    rng = np.random.default_rng(0)
    for i in rng.choice(len(cases), count(150, len(cases)), replace=False):
        path.write_text(json.dumps(put(original, *cases[i])))
        check_bundle(bundle)
    path.write_text("[" * 100000)
    assert check_bundle(bundle) is None
    for name in ("../../x", "/etc/passwd", ".."):
        path.write_text(json.dumps(put(original, ("sha256",), {**original["sha256"], name: "0"})))
        assert check_bundle(bundle) is None


@pytest.mark.parametrize("number", ["0", "999999999", "-1", "x", "", "1/2", "٣"])
def test_outputs_of_a_bundle_are_numbered_from_0(bundle, number):
    path = bundle / "data.safetensors"
    arrays = parse(path.read_bytes())
    arrays = {name.replace("output/0/", f"output/{number}/"): value for name, value in arrays.items()}
    arrays.setdefault("output", np.zeros(1, np.float32))
    path.write_bytes(serialise(arrays))
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert (check_bundle(bundle) is not None) == (number == "0")


# ---- samples that evaluate.py reads -----------


def test_mutated_samples(tmp_path):
    path = tmp_path / "s.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), dtype=np.uint8)
    for save in (np.savez, np.savez_compressed):
        save(path, arr_0=pixels)
        data = path.read_bytes()
        for seed in range(count(150, 4000)):
            path.write_bytes(damaged(data, seed))
            with watched(seed):
                try:
                    found = images.load_npz(path)
                except UserError as error:
                    check_complaint(error, path)
                else:
                    assert found.dtype == np.uint8
                    assert found.ndim == 4
