"""The PyTorch reference against the library's own outputs, and what it refuses.

Its mathematics is held to the oracle's in parity_tests/test_truths.py and to published numbers in test_peers.py.
"""

import itertools

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import ROOT, relative_rms

torch = pytest.importorskip("torch")

import torch_ref  # noqa: E402
from torch_ref import EMA, Adam, AdamW, GaussianDiffusion, Unet, layers, schedules  # noqa: E402
from torch_ref.train import draw, main, train  # noqa: E402

LAYOUTS = {"torch_2_3": {"self_condition": True}, "torch_2022": {"norm": "group", "downsample": "conv"}}
F64 = torch.float64
T = 12
SHAPE = (3, 1, 4, 4)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Known(torch.nn.Module):
    """A "network" whose output is 0.3 x."""

    def __init__(self, out_dim=1, self_condition=False):
        super().__init__()
        self.channels, self.out_dim, self.self_condition = 1, out_dim, self_condition

    def forward(self, x, t, x_self_cond=None):
        return 0.3 * x


def known_diffusion(model=None, **options):
    options = {"image_size": 4, "timesteps": T, "beta_schedule": "cosine", "dtype": F64, **options}
    return GaussianDiffusion(Known(**(model or {})), **options)


def small_unet(seed=0, **options):
    return Unet(8, dim_mults=(1, 2), channels=1, rng=seed, **options).double()


def normal(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


# Weights, inputs and outputs of the library itself.


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_librarys_weights_give_the_librarys_outputs(name, monkeypatch):
    state = load_file(ROOT / "tests" / "fixtures" / f"{name}.safetensors")
    weights = {key[6:]: torch.tensor(value) for key, value in state.items() if key.startswith("model.")}
    unet = Unet(8, dim_mults=(1, 2), channels=1, **LAYOUTS[name])
    unet.load_state_dict(weights, strict=True)
    x, t = torch.tensor(state["test.x"]), torch.tensor(state["test.t"])
    with torch.no_grad():
        y32 = unet(x, t)
        y64 = unet.double()(x.double(), t)
    theirs = relative_rms(state["test.y32"], y64)
    assert theirs < 2e-6, "the library's float32 output is ours in float64, rounded"
    assert relative_rms(y32, y64) < 2 * theirs
    if name == "torch_2022":  # that library adds 1e-3 to variances in every precision but float32: float64 too
        assert relative_rms(y64, state["test.y64"]) > 1e-3
        monkeypatch.setattr(layers, "variance_eps", lambda x: 1e-3)
        y64 = unet(x.double(), t).detach()
    assert relative_rms(y64, state["test.y64"]) < 1e-14


def test_a_checkpoint_of_the_library_loads_strictly_tables_included():
    state = load_file(ROOT / "tests" / "fixtures" / "torch_2_3.safetensors")
    diffusion = GaussianDiffusion(Unet(8, dim_mults=(1, 2), channels=1, self_condition=True), image_size=8)
    ours = {name: buffer.clone() for name, buffer in diffusion.named_buffers()}
    diffusion.load_state_dict({k: torch.tensor(v) for k, v in state.items() if not k.startswith("test.")}, strict=True)
    assert len(ours) == 13
    for name, table in ours.items():
        np.testing.assert_allclose(state[name], table, rtol=1e-3, err_msg=name)  # its sigmoid starts in float32


@pytest.mark.parametrize(
    ("options", "out_dim"),
    [
        ({"dropout": 0.1}, 1),
        ({"downsample": "conv"}, 1),
        ({"norm": "group"}, 1),
        ({"self_condition": True, "learned_variance": True}, 2),
        ({"learned_sinusoidal_cond": True, "init_dim": 12, "flash_attn": True}, 1),
        ({"random_fourier_features": True, "full_attn": (True, False), "attn_heads": (2, 4), "attn_dim_head": 8}, 1),
        ({"norm": "group", "downsample": "conv", "init_dim": 16, "out_dim": 3}, 3),
    ],
)
def test_every_option_gives_an_image_and_a_gradient_everywhere(options, out_dim):
    unet = small_unet(**options)
    x, time = normal(2, 1, 8, 4), torch.tensor([0, 999])
    y = unet(x, time)
    assert y.shape == (2, out_dim, 8, 4)
    assert y.dtype == F64
    assert torch.equal(y, unet(x, time.double()))
    parameters = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    assert ("time_mlp.0.weights" in parameters) == ("learned_sinusoidal_cond" in options)
    for name, g in zip(parameters, torch.autograd.grad((y**2).sum(), list(parameters.values())), strict=True):
        assert g.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"downsample": "pool"}, "downsample is 'pool'"),
        ({"norm": "group", "full_attn": True}, "full_attn does not exist"),
        ({"attn_heads": (1, 2, 3)}, "attn_heads has 3 entries"),
        ({"dim": 7}, "dim is 7"),
    ],
)
def test_impossible_networks_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Unet(**{"dim": 8, "dim_mults": (1, 2), "channels": 1, **options})
    with pytest.raises(ValueError, match="divisible by 2"):
        small_unet()(normal(1, 1, 7, 8), torch.tensor([0]))


def test_initial_weights_are_the_seeds_and_within_pytorchs_bounds():
    flat = [torch.cat([p.flatten() for p in small_unet(seed).parameters()]) for seed in (3, 3, 4)]
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])
    layer = small_unet(0).mid_block1.block1.proj
    bound = (16 * 9) ** -0.5
    for values in (layer.weight, layer.bias):
        assert 0.8 * bound < values.abs().max() <= bound


# Precision: float64 is float64.


class OnlyFloat64(torch.utils._python_dispatch.TorchDispatchMode):
    """Every floating tensor that any operation makes is float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in torch.utils._pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
                assert leaf.dtype == F64, f"{func} made {leaf.dtype}"
        return result


@pytest.mark.parametrize("options", [*LAYOUTS.values(), {"learned_sinusoidal_cond": True, "learned_variance": True}])
def test_no_operation_computes_in_float32(options):
    diffusion = GaussianDiffusion(small_unet(**options), image_size=8, timesteps=T, dtype=F64)
    images, t, noise = normal(2, 1, 8, 8).sigmoid(), torch.tensor([0, 7]), normal(2, 1, 8, 8, seed=1)
    with OnlyFloat64():
        loss = diffusion(images, t, noise, self_cond=True)
        grads = torch.autograd.grad(loss, list(diffusion.parameters()))
        Adam(diffusion.parameters()).step(torch_ref.clip_by_global_norm(grads, 1.0)[0])
        diffusion.p_sample(images, t, noise)
        diffusion.ddim_step(images, 7, 3, noise, eta=1.0)
    with pytest.raises(AssertionError, match="float32"), OnlyFloat64():
        t.float()


def test_tables_are_exact_in_float64_and_rounded_once_in_float32():
    for dtype, numpy_dtype in ((F64, np.float64), (torch.float32, np.float32)):
        diffusion = known_diffusion(dtype=dtype)
        for name, table in diffusion.tables.items():
            assert np.array_equal(getattr(diffusion, name).numpy(), table.astype(numpy_dtype)), name


# Schedules and diffusion.


@pytest.mark.parametrize(("name", "steps"), [("quadratic", 10), ("linear", 10)])
def test_impossible_schedules_are_named(name, steps):
    with pytest.raises(ValueError, match=name):
        schedules.beta_schedule(name, steps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objective": "pred_y"}, "objective is 'pred_y'"),
        ({"loss_type": "huber"}, "loss_type is 'huber'"),
        ({"sampling_timesteps": T + 1}, f"sampling_timesteps is {T + 1}"),
        ({"model": {"out_dim": 3}}, "out_dim is 3"),
    ],
)
def test_impossible_settings_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        known_diffusion(**options)


# Chains.


def tape(count, seed=0, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal((count, *shape))


def test_a_tape_is_read_in_order_and_must_fit():
    diffusion = known_diffusion()
    for sampler in (torch_ref.ddpm, torch_ref.ddim):
        arrays = iter(tape(T + 3))
        sampler(diffusion, 3, noise=arrays)
        assert len(list(arrays)) == 3, "x_T and every step but the last"
        with pytest.raises(ValueError, match="ran dry"):
            sampler(diffusion, 3, noise=tape(T - 1))
        with pytest.raises(ValueError, match=r"shape \(3, 1, 4, 4\), expected \(2, 1, 4, 4\)"):
            sampler(diffusion, 2, noise=tape(T))
    with pytest.raises(ValueError, match="steps is 13"):
        torch_ref.ddim(diffusion, 3, steps=T + 1, noise=tape(T))
    x = torch.zeros(SHAPE)
    for bad in (0, T):
        with pytest.raises(ValueError, match=f"t is {bad}"):
            diffusion.interpolate(x, x, bad, noise=tape(T))


# Training.


def test_adam_takes_lists_has_pytorchs_defaults_and_refuses_a_missing_gradient():
    for ours, theirs in ((Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)):
        p = torch.ones(1, dtype=F64)
        optimizer, defaults = ours([p]), theirs([p]).defaults
        assert all(getattr(optimizer, k) == defaults[k] for k in ("lr", "betas", "eps", "weight_decay"))
        optimizer.step([torch.full((1,), 1e-8, dtype=F64)])
        expected = 1 - 1e-3 * defaults["weight_decay"] - 1e-3 / 2  # eps stands beside the corrected root
        assert p.item() == pytest.approx(expected, rel=1e-12)
        with pytest.raises(ValueError, match="gradients of"):
            optimizer.step([])


def test_ema_has_ema_pytorchs_defaults_swaps_and_swaps_back():
    model = torch.nn.Linear(1, 1, bias=False)
    ema = EMA(model)
    assert (ema.update_every, ema.decay(101), ema.decay(10**9)) == (10, 0, 0.995)
    assert ema.decay(111) == pytest.approx(1 - 11 ** (-2 / 3))
    ema = EMA(model, update_every=2)
    for n in (1.0, 2.0):
        model.weight.data = torch.full((1, 1), n)
        ema.update()
    with ema.swapped():
        assert model.weight.item() == 1
        for forbidden in (ema.update, ema.swapped().__enter__):
            with pytest.raises(RuntimeError, match="swapped"):
                forbidden()
    assert (model.weight.item(), ema.average["weight"].item()) == (2, 1)
    with pytest.raises(ZeroDivisionError), ema.swapped():
        _ = 1 / 0
    assert (model.weight.item(), ema.average["weight"].item()) == (2, 1)


def test_draws_are_the_generators_and_the_noise_may_be_assigned():
    images = np.random.default_rng(0).random((16, 1, 4, 4))
    plain = known_diffusion({"self_condition": True}, offset_noise_strength=0.1)
    first, again = (draw(np.random.default_rng(1), plain, images) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    t, _, _, offset = first
    assert ((t >= 0) & (t < T)).all()
    assert offset.shape == (16, 1)
    assert not any(draw(np.random.default_rng(i), known_diffusion(), images)[2] for i in range(9))
    assert 70 < sum(draw(np.random.default_rng(i), plain, images)[2] for i in range(200)) < 130
    x, best = torch.tensor(2 * images[:5] - 1), []
    for seed in range(5):
        given, assigned = (
            draw(np.random.default_rng(seed), known_diffusion(immiscible=i), images[:5])[1] for i in (False, True)
        )
        permuted = torch.stack([given[list(order)] for order in itertools.permutations(range(5))])
        cost = (x - permuted).flatten(2).norm(dim=2).sum(1)
        best.append(cost.argmin().item())
        assert torch.equal(assigned, permuted[best[-1]])
    assert any(best), "the order drawn was not always the best"


def test_training_learns_and_one_seed_gives_one_run():
    data = np.zeros((8, 1, 4, 4), np.float32)

    def run(seed, steps):
        unet = Unet(8, dim_mults=(1,), channels=1, rng=0)
        diffusion = GaussianDiffusion(unet, image_size=4, timesteps=T, objective="pred_x0", loss_type="l1")
        losses, ema = train(diffusion, data, steps=steps, batch_size=8, lr=3e-3, seed=seed, progress=False)
        return np.array(losses), ema

    losses, ema = run(1, 25)
    assert losses[-5:].mean() < 0.5 * losses[:5].mean()
    assert ema.calls == 25
    assert np.array_equal(losses[:3], run(1, 3)[0])
    assert not np.array_equal(losses[:3], run(2, 3)[0])
    with pytest.raises(ValueError, match="dropout"):
        train(GaussianDiffusion(small_unet(dropout=0.5), image_size=4), data, steps=1)


def test_the_command_trains_on_digits_and_writes_losses_and_samples(tmp_path, capsys):
    pytest.importorskip("sklearn")
    main(["--steps", "3", "--batch_size", "4", "--num_samples", "2", "--output_dir", str(tmp_path)])
    losses, samples = np.loadtxt(tmp_path / "losses.txt"), np.load(tmp_path / "samples.npy")
    assert losses.shape == (3,)
    assert np.isfinite(losses).all()
    assert samples.shape == (2, 1, 8, 8)
    assert 0 <= samples.min() < samples.max() <= 1
    assert f"mean loss {losses[-1]:.4f}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--steps", "0"])
