"""Configurations by the thousand: a YAML file gives a Config of the documented types, or one line that names the key.

And a Config that is taken makes a network, or one line again; what no memory could hold is refused before it is made.
"""

import dataclasses
import math

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ms_ddpm import colours, config, registry
from ms_ddpm.devices import memory
from ms_ddpm.errors import UserError, one_line, quoted
from ms_ddpm.systems import sizes
from tests.fuzz.damage import check_complaint, count, watched

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 70), st.sampled_from([10**9, 10**18, 2**63, 10**400, -1]),
    st.floats(), st.sampled_from([1e308, 1e-320, -0.0, 0.5, 8.0]), st.text(max_size=30), st.dates(), st.datetimes(),
    st.binary(max_size=20), st.sampled_from(["null", "true", "8", "1e-4", "nan", "inf", "", " ", "a\0b", "9" * 5000,
                                             "\ud800", "-1", "0x10", "1_0", "８", "rms", "conv", "pred_v"]),
)  # fmt: skip
keys = scalars.filter(lambda value: isinstance(value, (str, int, float, bool, type(None))))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.one_of(st.text(max_size=8), keys), inner)),
    max_leaves=12,
)


@st.composite
def names(draw) -> str:
    """A key that exists, or one that nearly does."""
    name = draw(st.sampled_from(sorted(config.FIELDS)))
    change = draw(st.sampled_from(["", "", "", "", "drop", "double", "case", "tail", "other"]))
    place = draw(st.integers(0, len(name) - 1))
    return {
        "": name, "drop": name[:place] + name[place + 1 :], "double": name[:place] + name[place] + name[place:],
        "case": name.upper(), "tail": name + draw(st.text(max_size=3)), "other": draw(st.text(max_size=400)),
    }[change]  # fmt: skip


mappings = st.dictionaries(names(), values, max_size=4)

# ---- what a value must be, said a second time so that a slip in config.py is seen ---------------------------------


def _whole(value) -> bool:
    return type(value) is int and abs(value) < 2**63


def _real(value) -> bool:
    return type(value) is float and math.isfinite(value)


def _all(test, kind=list):
    return lambda value: type(value) is kind and len(value) > 0 and all(map(test, value))


TYPES = {
    "int": _whole,
    "float": _real,
    "str": lambda v: type(v) is str and "\0" not in v,
    "name": lambda v: type(v) is str and "\0" not in v and v.strip(),
    "colour": lambda v: type(v) is str and len(colours.parse(v)) == 3,
    "bool": lambda v: type(v) is bool,
    "ints": _all(_whole),
    "floats": _all(_real),
    "bools": _all(lambda v: type(v) is bool),
    "size": lambda v: _whole(v) or (_all(_whole)(v) and len(v) == 2),
    "int_or_ints": lambda v: _whole(v) or _all(_whole)(v),
    "mapping": lambda v: type(v) is dict and all(type(k) is str and _real(x) for k, x in v.items()),
}


def check_types(resolved: config.Config) -> None:
    for name, f in config.fields_of(type(resolved)).items():
        value, kind = getattr(resolved, name), f.metadata["kind"]
        assert (kind.endswith("?") and value is None) or TYPES[kind.rstrip("?")](value), (name, value)
        if f.metadata["choices"]:
            assert value in f.metadata["choices"]
    again = yaml.safe_load(yaml.safe_dump(config.to_dict(resolved), allow_unicode=True))
    assert config.Config(**config.from_mapping(again, "again")) == resolved


def try_file(path) -> config.Config | None:
    """The Config of ``path``, checked, or None where it was refused as it should be."""
    with watched(path.read_bytes()[:300]):
        try:
            resolved = config.resolve({}, str(path))
        except UserError as error:
            check_complaint(error, path, *config.FIELDS)
            return None
    check_types(resolved)
    return resolved


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "c.yaml"


def bomb(levels: int, width: int = 10) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"dim: *a{levels - 1}"])


TEXTS = [
    bomb(3), bomb(9), bomb(200, 2), "dim: &a [*a]", "&a dim: *a", "a: &a {b: 1}\n<<: [*a, *a]", "<<: {dim: 8}",
    "dim: 8\ndim: 9", "[" * 3000, "{a: " * 3000, "dim: " + "[" * 900 + "]" * 900, "- " * 3000, "dim: " + "9" * 90000,
    "dim: 0x" + "f" * 90000, "dim: " + "1:" * 20000 + "1", "x" * 90000 + ": 1", "dim: " + "x" * 90000,
    "a: 1\n" * 15000, "#" * 200000, "!!python/object/apply:os.system ['touch /tmp/x']",
    "dim: !!python/name:os.system", "dim: !!int ''", "dim: !!bool x", "dim: !!timestamp x", "dim: !!float ''",
    "dim: !!binary '%'", "dim: !!set {1, 2}", "!!omap [a: 1]", "? [1, 2]\n: 3", "? {a: 1}\n: 2", "dim: 2024-13-45",
    "dim: 2001-01-01", "train_lr: .nan", "train_lr: -.inf", "train_lr: 1e999", "dim: 8.0", "dim: 8.5",
    "output_dir: ''", "output_dir: \"a\\0b\"", "output_dir: \"\\uD800\"", "---\ndim: 8\n---\ndim: 9",
    "%YAML 9.9\n---\n", "%TAG ! tag:x,2000:\n---\ndim: !x 3", "dim: *nowhere", "\ufeffdim: 8", "dim: 8\x00",
    "dim: \u2028 8", "null", "~", "", "5", "'dim'", "dim", "dim:", "dim: null", "{}", "{dim}",
    "schedule_fn_kwargs: {1: 2}", "schedule_fn_kwargs: [a=1, a=2]", "schedule_fn_kwargs: [1, 2]",
    "schedule_fn_kwargs: []", "adam_betas: ''", "image_size: []", "image_size: [1, 2, 3]", "!<" + "t" * 5000 + "> x",
    "dim: !" + "t" * 90000 + " x", "norm: [rms]", "timesteps: 1e12", "timesteps: 1000000000000", "seed: -1",
    "seed: 99999999999999999999", "workers: 1000000", "threads: 1000000000", "1: 2", "null: 2", "true: 2",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:24]))
def test_known_mischief(path, text):
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try_file(path)


@settings(max_examples=count(60, 2000))
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_any_bytes(path, data):
    path.write_bytes(data)
    try_file(path)


@settings(max_examples=count(60, 2000))
@given(st.text(alphabet="dim:_ [],{}&*!<>|-#'\"%@?\n\t01.eE~ab=", max_size=120))
def test_yamls_own_characters(path, text):
    path.write_text(text)
    try_file(path)


@settings(max_examples=count(60, 4000))
@given(mappings)
@example({"dim": 10**5000})
@example({"full_attn": [[[[[1]]]]]})
def test_any_mapping(path, mapping):
    try:
        text = yaml.safe_dump(mapping, allow_unicode=True)
    except (ValueError, yaml.YAMLError):  # an integer too long for Python to write
        text = None
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try_file(path)
    with watched(mapping):
        try:
            resolved = config.Config(**config.from_mapping(mapping, "state.json"))
        except UserError as error:
            check_complaint(error, "state.json", *mapping)
        else:
            check_types(resolved)


@settings(max_examples=count(100, 3000))
@given(st.one_of(st.text(), st.text().map(lambda t: t * 1000), st.integers().map(lambda i: 7 ** abs(i % 9999)), values))
def test_anything_can_be_quoted_in_one_short_line(value):
    assert quoted(value).isprintable()
    assert len(quoted(value)) < 1500
    assert one_line(value if isinstance(value, str) else "x").isprintable()


def test_quoting_a_bomb_takes_no_time():
    value = ["x"]
    for _ in range(200):
        value = [value] * 10
    with watched("bomb"):
        assert len(quoted(value)) < 20000


# ---- a Config that was taken makes a network ------------------------------------------------------------------------

small = {
    "image_size": st.one_of(
        st.integers(1, 20), st.lists(st.sampled_from([1, 2, 4, 8, 12, 16]), min_size=2, max_size=2)
    ),
    "channels": st.integers(1, 5), "dim": st.sampled_from([4, 5, 6, 8, 8, 8, 16, 24]),
    "init_dim": st.one_of(st.none(), st.integers(1, 20)),
    "dim_mults": st.lists(st.integers(1, 3), min_size=1, max_size=3), "self_condition": st.booleans(),
    "learned_variance": st.booleans(), "learned_sinusoidal_cond": st.booleans(),
    "random_fourier_features": st.booleans(), "learned_sinusoidal_dim": st.integers(2, 9),
    "sinusoidal_pos_emb_theta": st.sampled_from([1.0, 10000.0, 3e38]),
    "dropout": st.sampled_from([0.0, 0.1, 1.0, 7.0]),
    "attn_dim_head": st.one_of(st.integers(1, 9), st.lists(st.integers(1, 8), min_size=1, max_size=3)),
    "attn_heads": st.one_of(st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=3)),
    "full_attn": st.one_of(st.none(), st.lists(st.booleans(), min_size=1, max_size=3)), "flash_attn": st.booleans(),
    "norm": st.sampled_from(["rms", "group"]), "downsample": st.sampled_from(["unshuffle", "conv"]),
}  # fmt: skip
numbers = st.one_of(st.floats(-10, 10), st.sampled_from([0.0, 1.0, 0.5, 1e-30, 1e30, -1e30, 0.9999999]))
process = {
    "timesteps": st.one_of(st.integers(1, 60), st.sampled_from([1, 2, 1000])),
    "sampling_timesteps": st.one_of(st.none(), st.integers(1, 60)),
    "objective": st.sampled_from(["pred_v", "pred_noise", "pred_x0"]),
    "beta_schedule": st.sampled_from(["linear", "cosine", "sigmoid", "scaled_linear"]),
    "schedule_fn_kwargs": st.dictionaries(
        st.sampled_from(["beta_start", "beta_end", "s", "start", "end", "tau", "nonsense"]), numbers, max_size=2
    ),
    "min_snr_loss_weight": st.booleans(), "min_snr_gamma": st.sampled_from([0.0, 5.0, 1e30]),
    "p2_loss_weight_gamma": st.sampled_from([0.0, 1.0, 100.0, 1e30]),
    "p2_loss_weight_k": st.sampled_from([0.0, 1.0, 1e30]), "immiscible": st.booleans(),
}  # fmt: skip


@settings(max_examples=count(100, 3000))
@given(st.fixed_dictionaries(process))
def test_a_schedule_is_finite_or_refused(mindspore, given_values):
    import numpy as np

    from ms_ddpm.systems.diffusion.gaussian_diffusion import GaussianDiffusion

    class Network(mindspore.nn.Cell):
        channels, out_dim, self_condition = 1, 1, False

    with watched(given_values), np.errstate(divide="raise", over="raise", invalid="raise"):
        try:
            diffusion = GaussianDiffusion(Network(), image_size=8, **given_values)
        except UserError as error:
            check_complaint(error)
            return
    for name, table in diffusion.tables.items():
        assert np.isfinite(table.astype(np.float32)).all(), name


@settings(max_examples=count(10, 200))
@given(st.fixed_dictionaries({}, optional=small))
def test_a_network_is_built_or_refused_and_its_parameters_are_counted_beforehand(mindspore, given_values):
    from ms_ddpm import recipes

    resolved = config.Config(**{"dim": 8, "dim_mults": [1, 2], "image_size": 8, "timesteps": 60, **given_values})
    with watched(given_values):
        try:
            diffusion = recipes.build_diffusion(resolved)
        except UserError as error:
            check_complaint(error)
            return
    actual = sum(p.size for p in diffusion.get_parameters())
    assert registry.of(resolved).parameter_count(resolved) == actual
    sizes.check_training(resolved)


ABSURD = {
    "dim": 10**9, "init_dim": 10**9, "channels": 10**9, "image_size": 2**40, "dim_mults": [1, 10**9],
    "attn_heads": 10**9, "attn_dim_head": 10**9, "learned_sinusoidal_dim": 10**12, "train_batch_size": 10**9,
    "gradient_accumulate_every": 10**9, "num_samples": 10**9, "timesteps": 10**12, "workers": 10**6, "threads": 10**9,
    "train_num_steps": 10**12,
}  # fmt: skip


@pytest.mark.parametrize("name", ABSURD)
def test_what_no_machine_can_hold_is_refused_by_name_before_it_is_made(name):
    base = {"dim": 8, "dim_mults": [1, 2], "image_size": 8, "learned_sinusoidal_cond": True}
    with watched(name), pytest.raises(UserError) as caught:
        sizes.check_training(config.Config(**config.from_mapping({**base, name: ABSURD[name]}, "a test")))
    check_complaint(caught.value, name, "network of", "images of")


def test_many_stages_are_refused_before_they_are_made():
    with watched("stages"), pytest.raises(UserError, match="cannot be halved 99999 times") as caught:
        sizes.check_network(dataclasses.replace(config.Config(), dim_mults=[1] * 100000))
    check_complaint(caught.value)


def test_every_recipe_fits_a_machine_of_16_gib(monkeypatch):
    from tests.config.test_config import RECIPES

    monkeypatch.setattr(memory, "available", lambda: 16 * 2.0**30)
    for recipe in RECIPES:
        sizes.check_training(config.Config(**config.from_yaml(recipe)))
    monkeypatch.setattr(memory, "available", lambda: 2.0**20)
    with pytest.raises(UserError, match="1 MiB are available"):
        sizes.check_training(config.Config())
