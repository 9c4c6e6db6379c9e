"""By what a run is known: facts of Cells of all systems, of a stranger's Cell, and of data sets."""

import shutil

import numpy as np
import pytest

from ms_ddpm import config, data
from ms_ddpm.config import own_fields
from ms_ddpm.data import identity as data_identity
from ms_ddpm.data.sources import Store

SMALL_SCORE = {"channel_widths": [32, 32, 32, 32], "embed_dim": 8, "text_dim": 8, "image_size": 28}
BASES = {  # a tiny recipe of each system
    "diffusion": {"dim": 8, "dim_mults": [1, 2], "image_size": 8, "timesteps": 20},
    "score": {**SMALL_SCORE, "score_net": "transformer", "num_classes": 10},
    "corruption": {"image_size": 28},
    "autoencoder": {"image_size": 28, "perceptual_weight": 0.5},
    "latent": {**SMALL_SCORE, "channel_widths": [4, 32, 32, 32], "num_classes": 10},
}
OTHER = {  # values that are not made by changing the kind's default a little
    "dim": 16, "init_dim": 4, "dim_mults": [1, 1], "full_attn": [True, True], "schedule_fn_kwargs": {"start": -2.0},
    "channel_widths": [None, 64, 32, 32], "autoencoder_channels": [8, 4, 4], "sigma_data": 0.5, "image_size": 32,
    "attn_dim_head": 16, "attn_heads": 2, "downsample": "conv", "num_heads": 2, "channels": 3, "embed_dim": 16,
    "text_dim": 16, "sampling_timesteps": 3, "beta_schedule": "cosine",
}  # fmt: skip
WITH = {  # what a key needs beside it
    ("score", "score_net"): {"num_classes": 0, "score_net": "add"}, "data_mean": {"sigma_data": 1.0},
    "sde_beta_min": {"sde": "vp"}, "sde_beta_max": {"sde": "vp"},
}  # fmt: skip
NOT_OF_THE_CELL = {"lpips_weights", "autoencoder", "labels_from"}  # files, whose weights the Cell holds; the data's


def other(name, base):
    """A value of the key that differs from that of ``base``."""
    value, meta = getattr(config.Config(**base), name), config.fields_of(type(config.Config(**base)))[name].metadata
    if name in OTHER:  # the first width of a latent network is the autoencoder's last
        return [value[0], *OTHER[name][1:]] if name == "channel_widths" else OTHER[name]
    if meta["choices"]:
        return next(choice for choice in meta["choices"] if choice != value and choice != "lpips")
    if isinstance(value, bool):
        return not value
    return value + 2 if isinstance(value, int) else value * 0.5 + 0.3


def cases():
    for system, base in BASES.items():
        for name in [*own_fields(system), "image_size", "channels"]:
            if name not in NOT_OF_THE_CELL:
                yield system, name, {"system": system, **base, **WITH.get((system, name), WITH.get(name, {}))}


@pytest.fixture(scope="module")
def facts(mindspore):
    """The facts of a recipe's Cell, built once."""
    from ms_ddpm import recipes
    from ms_ddpm.storage import fingerprint

    known = {}

    def of(values):
        key = repr(sorted(values.items()))
        if key not in known:
            known[key] = fingerprint.facts_of(recipes.build(config.Config(**values)))
        return known[key]

    return of


@pytest.mark.parametrize("system", BASES)
def test_every_key_that_makes_a_system_is_noticed_and_every_free_one_is_not(facts, system):
    from ms_ddpm.storage import fingerprint

    noticed, free = [], []
    for of, name, base in cases():
        if of == system:
            changed = {**base, name: other(name, base)}
            found = fingerprint.changes(facts(base), facts(changed))
            if name in config.FREE_ON_RESUME:
                free += [name]
                assert found == {}, (name, found)
            else:
                noticed += [name]
                assert found, f"{name} was {base.get(name)}, now {changed[name]}"
    assert len(noticed) >= 3
    assert len(free) == len([name for name in own_fields(system) if name in config.FREE_ON_RESUME])


def test_kernels_first_weights_and_half_precision_are_no_facts(mindspore):
    from ms_ddpm import GaussianDiffusion, Unet, amp
    from ms_ddpm.storage import fingerprint

    def diffusion(**options):
        return GaussianDiffusion(Unet(8, dim_mults=(1,), channels=1, **options), image_size=8, timesteps=10)

    plain = fingerprint.facts_of(diffusion(rng=0, use_kernels=False))
    half = diffusion(rng=1)
    amp.apply_amp(half, "O2", "float16")
    half.set_train(True)
    assert fingerprint.facts_of(half) == plain
    half.objective = "pred_x0"  # after it was built
    assert fingerprint.changes(plain, fingerprint.facts_of(half)) == {
        "objective": "objective was 'pred_v', now 'pred_x0'"
    }


def test_a_strangers_cell_tells_of_its_layers_and_tables_but_not_of_its_weights(mindspore):
    from mindspore import Parameter, Tensor, nn

    from ms_ddpm.storage import fingerprint

    class Own(nn.Cell):
        free_on_resume = ("shown",)

        def __init__(self, stride=1, power=2.0, shown=1, at=0.5):
            super().__init__()
            self.conv, self.act = nn.Conv2d(1, 2, 3, stride=stride), nn.ReLU()
            self.table = Tensor(np.arange(5, dtype=np.float32) ** power)
            self.w = Parameter(np.full(3, at, np.float32), name="w")
            self.shown, self.power, self.odd = shown, np.float32(power), float("nan")

    before = fingerprint.facts_of(Own())
    assert fingerprint.changes(before, fingerprint.facts_of(Own(shown=9, at=0.25))) == {}
    assert before["act"] == "ReLU"
    found = fingerprint.changes(before, fingerprint.facts_of(Own(stride=2)))
    assert found == {"conv.stride": "conv.stride was [1, 1], now [2, 2]"}
    assert set(fingerprint.changes(before, fingerprint.facts_of(Own(power=3.0)))) == {"power", "table"}
    older = {name: fact for name, fact in before.items() if name != "power"}
    assert "power" not in fingerprint.changes(older, fingerprint.facts_of(Own(power=2.5)))


def test_the_last_digit_of_a_table_is_no_fact(mindspore):
    from ms_ddpm.storage import fingerprint

    table = np.linspace(0.1, 0.9, 50) ** 3
    assert fingerprint.plain_fact(table) == fingerprint.plain_fact(np.nextafter(table, 1))
    assert fingerprint.plain_fact(table) != fingerprint.plain_fact(table * 1.01)


# --- data -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    """A folder of 12 pictures in two folders."""
    from PIL import Image

    rng = np.random.default_rng(3)
    for i in range(12):
        path = tmp_path / "set" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 8), dtype=np.uint8)).save(path)
    return tmp_path / "set"


def opened(path):
    return data.open_images(path, image_size=(8, 8), channels=1)


def what_changed(before, path):
    source = opened(path)
    return data_identity.changes(before, data_identity.facts_of(source), source)


def test_a_folder_that_was_moved_is_the_same_and_what_changed_in_one_is_named(pictures, tmp_path):
    before = data_identity.facts_of(opened(pictures))
    shutil.move(pictures, tmp_path / "moved")
    moved = tmp_path / "moved"
    assert what_changed(before, moved) == []
    shutil.copy(moved / "a" / "00.png", moved / "a" / "02.png")
    assert what_changed(before, moved) == ["a/02.png is another file than it was"]
    (moved / "b" / "03.png").unlink()
    assert what_changed(before, moved) == [
        "images was 12, now 11", "b/03.png is gone", "a/02.png is another file than it was"
    ]  # fmt: skip
    (moved / "b" / "new.png").write_bytes((moved / "b" / "01.png").read_bytes())
    assert what_changed(before, moved)[:2] == ["b/03.png is gone", "b/new.png is new"]


def test_of_many_files_a_thousand_are_looked_into_and_all_have_names_and_sizes(pictures, monkeypatch):
    monkeypatch.setattr(data_identity, "LOOKED_INTO", 4)
    source = opened(pictures)
    before = data_identity.facts_of(source)
    assert len(before["files"]) == 4
    unseen = next(name for name in source.files() if name not in before["files"])
    file = pictures / unseen
    file.write_bytes(file.read_bytes() + b"\0")
    assert what_changed(before, pictures) == ["the sizes of its files differ from the run's"]
    file.rename(file.with_name("99.png"))
    assert what_changed(before, pictures)[-1] in (
        "the sizes of its files differ from the run's", f"{unseen[:2]}99.png is new"
    )  # fmt: skip
    other = data_identity.facts_of(opened(pictures))
    assert other["names"] != before["names"]


def test_the_file_that_a_warning_named_is_named_when_it_is_gone(pictures, monkeypatch):
    monkeypatch.setattr(data_identity, "LOOKED_INTO", 4)
    source = opened(pictures)
    before = data_identity.facts_of(source)
    unseen = next(name for name in source.files() if name not in before["files"])
    (pictures / unseen).write_bytes(b"no picture")
    source.batch(range(12))
    before |= data_identity.unreadable(source)
    assert before["unreadable"] == [unseen]
    (pictures / unseen).unlink()
    assert f"{unseen} is gone" in what_changed(before, pictures)


def test_arrays_are_known_by_their_pixels_and_labels():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 255, (30, 1, 8, 8), dtype=np.uint8), np.arange(30) % 3
    source = data.array_source("own", pixels, labels)
    before = data_identity.facts_of(source)
    assert data_identity.facts_of(data.split(source, 7, seed=1)[0].origin) == before
    inverted = data.array_source("own", 255 - pixels, labels)
    assert data_identity.changes(before, data_identity.facts_of(inverted), inverted) == [
        "its pixels differ from the run's"
    ]
    relabelled = data.array_source("own", pixels, labels[::-1].copy())
    assert data_identity.changes(before, data_identity.facts_of(relabelled), relabelled) == [
        "its labels differ from the run's"
    ]


def test_images_that_chance_changes_each_time_have_no_pixels_to_be_known_by():
    rng = np.random.default_rng(0)
    store = Store("own", (1, 8, 8), range(5), lambda index: rng.integers(0, 255, (1, 8, 8), dtype=np.uint8))
    assert "pixels" not in data_identity.facts_of(data.ImageSource(store))


@pytest.mark.parametrize("images", [1, 3, 40])
def test_a_flip_by_the_toss_of_a_coin_is_noticed_in_however_few_images(images):
    """Half of such images are the same twice; a run that goes on must not be refused for that."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (images, 1, 8, 8), dtype=np.uint8)

    def load(index):
        return pixels[index] if rng.random() < 0.5 else pixels[index, :, :, ::-1]

    for _ in range(30):
        store = Store("own", (1, 8, 8), range(images), load)
        assert "pixels" not in data_identity.facts_of(data.ImageSource(store))


def test_the_same_images_are_the_same_as_an_array_and_one_by_one():
    pixels = np.random.default_rng(0).integers(0, 255, (300, 1, 8, 8), dtype=np.uint8)
    array = data.array_source("own", pixels)
    singly = data.ImageSource(Store("own", (1, 8, 8), range(300), lambda index: pixels[index]))
    before, now = data_identity.facts_of(array), data_identity.facts_of(singly)
    assert now["pixels"] == before["pixels"]
    assert data_identity.changes(before, now, singly) == []
    changed = pixels.copy()
    changed[1] = 7  # not among the hundred that are looked at of any data set
    other = data.array_source("own", changed)
    assert data_identity.changes(before, data_identity.facts_of(other), other) == ["its pixels differ from the run's"]


def test_of_a_strangers_cell_every_name_is_a_fact(mindspore):
    """``mode``, ``source`` or ``epochs`` are keys that may change, and something else in a Cell of a user's."""
    from mindspore import nn

    from ms_ddpm.storage import fingerprint

    def stranger(mode):
        cell = nn.Cell()
        cell.mode = mode
        return fingerprint.facts_of(cell)

    assert fingerprint.changes(stranger("noise"), stranger("x0")) == {"mode": "mode was 'noise', now 'x0'"}


def test_a_network_that_was_put_in_later_is_the_one_that_counts(mindspore):
    from ms_ddpm import GaussianDiffusion, Unet
    from ms_ddpm.storage import fingerprint

    def unet(theta):
        return Unet(8, dim_mults=(1,), channels=1, sinusoidal_pos_emb_theta=theta, rng=0)

    diffusion = GaussianDiffusion(unet(100), image_size=8, timesteps=10)
    before = fingerprint.facts_of(diffusion)
    diffusion.model = unet(300)
    assert fingerprint.changes(before, fingerprint.facts_of(diffusion)) == {
        "model.sinusoidal_pos_emb_theta": "model.sinusoidal_pos_emb_theta was 100, now 300"
    }
