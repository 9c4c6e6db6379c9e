"""The PyTorch reference, against the library's own outputs, published values, torch.optim, and the papers' formulas."""

import itertools
import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from .conftest import ROOT, relative_rms

torch = pytest.importorskip("torch")

import torch_ref  # noqa: E402
from torch_ref import EMA, Adam, AdamW, GaussianDiffusion, Unet, layers, schedules  # noqa: E402
from torch_ref.diffusion import discretised_normal_log_likelihood, normal_cdf  # noqa: E402
from torch_ref.train import draw, main, train, train_step  # noqa: E402

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
    """A "network" whose output is a x + t / 2T + x_self_cond / 4, and whose variance fraction is b x."""

    def __init__(self, out_dim=1, self_condition=False):
        super().__init__()
        self.channels, self.out_dim, self.self_condition = 1, out_dim, self_condition
        self.a = torch.nn.Parameter(torch.tensor(0.3, dtype=F64))
        self.b = torch.nn.Parameter(torch.tensor(-0.4, dtype=F64))

    def forward(self, x, t, x_self_cond=None):
        y = self.a * x + t.to(x.dtype)[:, None, None, None] / (2 * T)
        y = y if x_self_cond is None else y + x_self_cond / 4
        return y if self.out_dim == 1 else torch.cat((y, self.b * x), 1)


def known_diffusion(model=None, **options):
    options = {"image_size": 4, "timesteps": T, "beta_schedule": "cosine", "dtype": F64, **options}
    return GaussianDiffusion(Known(**(model or {})), **options)


def small_unet(seed=0, **options):
    return Unet(8, dim_mults=(1, 2), channels=1, rng=seed, **options).double()


def normal(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


def batch(seed=3):
    rng = np.random.default_rng(seed)
    x0 = torch.tensor(rng.uniform(-1, 1, SHAPE))
    return x0, torch.tensor([0, 1, T // 2]), torch.tensor(rng.standard_normal(SHAPE))


# Weights, inputs and outputs of the library itself.


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_librarys_weights_give_the_librarys_outputs(name, monkeypatch):
    state = load_file(ROOT / "tests" / "data" / f"{name}.safetensors")
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
    state = load_file(ROOT / "tests" / "data" / "torch_2_3.safetensors")
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


def test_fourier_features_are_of_two_pi_w_t():
    embedding = layers.FourierPosEmb(4).double()
    embedding.weights.data = torch.tensor([0.25, 0.5], dtype=F64)
    expected = [[1, 1, 0, 0, -1], [2, 0, 0, -1, 1]]
    assert torch.allclose(embedding(torch.tensor([1, 2])), torch.tensor(expected, dtype=F64), rtol=0, atol=1e-12)


def test_dropout_is_the_mask_it_is_given():
    block = layers.Block(2, 2, dropout=0.25).double()
    x = normal(1, 2, 4, 4)
    plain = block(x)
    block.dropout.mask = (normal(1, 2, 4, 4, seed=1) > 0).double()
    assert torch.equal(block(x), plain * block.dropout.mask / 0.75)
    assert block(x).count_nonzero() == block.dropout.mask.sum() < 32


# Precision: float64 is float64.


@pytest.mark.parametrize("name", LAYOUTS)
def test_gradients_are_central_differences_in_float64(name):
    """One random direction through x, t and all weights; a float32 on the way would show as an error of 1e-2."""
    unet = small_unet(**LAYOUTS[name])
    x, t, cotangent = normal(2, 1, 8, 8), torch.tensor([3.0, 700.0], dtype=F64), normal(2, 1, 8, 8, seed=1)
    leaves = [x.requires_grad_(), t.requires_grad_(), *unet.parameters()]
    gradient = torch.autograd.grad((cotangent * unet(x, t)).sum(), leaves)
    start = [leaf.detach().clone() for leaf in leaves]
    directions = [normal(*leaf.shape, seed=2 + i) for i, leaf in enumerate(leaves)]

    def at(h):
        for leaf, value, direction in zip(leaves, start, directions, strict=True):
            leaf.data = value + h * direction
        with torch.no_grad():
            return (cotangent * unet(x, t)).sum().item()

    expected = sum((g * d).sum().item() for g, d in zip(gradient, directions, strict=True))
    h = 1e-6
    assert (at(h) - at(-h)) / (2 * h) == pytest.approx(expected, rel=1e-6)


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


# Schedules and published values.


@pytest.mark.parametrize(
    ("name", "abar500", "beta0"),
    [("linear", 0.0777967, 1e-4), ("cosine", 0.4922852, 4.128422e-5), ("sigmoid", 0.4983428, 3.002792e-4)],
)
def test_schedules_have_the_published_values(name, abar500, beta0):
    betas = schedules.beta_schedule(name, 1000)
    assert betas.dtype == np.float64
    assert np.cumprod(1 - betas)[500] == pytest.approx(abar500, abs=5e-8)
    assert betas[0] == pytest.approx(beta0, rel=2e-7)


def test_linear_schedules_have_the_ends_they_are_given():
    assert schedules.beta_schedule("linear", 200, beta_start=1e-4, beta_end=0.02)[[0, -1]].tolist() == [1e-4, 0.02]
    assert schedules.beta_schedule("linear", 200)[0] == pytest.approx(5e-4)
    root = np.sqrt(schedules.beta_schedule("scaled_linear", 3, beta_start=0.04, beta_end=0.16))
    assert root == pytest.approx([0.2, 0.3, 0.4])
    for name, steps in (("quadratic", 10), ("linear", 10)):
        with pytest.raises(ValueError, match=name):
            schedules.beta_schedule(name, steps)


@pytest.mark.parametrize("name", schedules.BETA_SCHEDULES)
def test_the_posterior_is_bayes_rule(name):
    """q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0)."""
    table = {k: v[1:] for k, v in schedules.diffusion_tables(schedules.beta_schedule(name, 50)).items()}
    beta, prev = table["betas"], table["alphas_cumprod_prev"]
    precision = (1 - beta) / beta + 1 / (1 - prev)
    np.testing.assert_allclose(table["posterior_variance"], 1 / precision, rtol=1e-9)
    np.testing.assert_allclose(table["posterior_mean_coef1"], np.sqrt(prev) / (1 - prev) / precision, rtol=1e-9)
    np.testing.assert_allclose(table["posterior_mean_coef2"], np.sqrt(1 - beta) / beta / precision, rtol=1e-9)


def test_loss_weights_are_the_papers():
    abar = np.array([0.999, 0.5, 0.01])
    snr = abar / (1 - abar)
    for objective, divisor in (("pred_noise", snr), ("pred_x0", 1), ("pred_v", snr + 1)):
        weight = schedules.loss_weight(abar, objective, min_snr_loss_weight=True, min_snr_gamma=4)
        np.testing.assert_allclose(weight, np.minimum(snr, 4) / divisor)
        weight = schedules.loss_weight(abar, objective, p2_loss_weight_gamma=0.5, p2_loss_weight_k=2)
        np.testing.assert_allclose(weight, snr / divisor / np.sqrt(2 + snr))
    np.testing.assert_allclose(schedules.loss_weight(abar, "pred_v"), abar)


@pytest.mark.parametrize("steps", [1, 7, 26, 38, 250, 999, 1000])
def test_ddim_times_follow_pytorchs_float32_rule(steps):
    step, n = np.float32(1000) / np.float32(steps), steps + 1
    exact = [-1 + i * float(step) if i < n // 2 else 999 - (n - 1 - i) * float(step) for i in range(n)]
    assert schedules.ddim_times(1000, steps) == [int(np.float32(time)) for time in exact][::-1]


def diffusers_case():
    """Input and model of diffusers' scheduler tests: x * t / (t + 1) over arange / 768."""
    sample = (torch.arange(768, dtype=F64).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2)
    model = Known()
    model.channels = model.out_dim = 3
    model.forward = lambda x, t, x_self_cond=None: x * (t.double() / (t + 1))[:, None, None, None]
    options = {"beta_schedule": "linear", "schedule_fn_kwargs": {"beta_start": 1e-4, "beta_end": 0.02}}
    return GaussianDiffusion(model, image_size=8, objective="pred_noise", dtype=F64, **options), sample


def test_reverse_steps_give_diffusers_published_sums():
    """Tolerances are theirs, but the second sum's: their float32 tables move it from 387.9673 to 387.9466."""
    diffusion, x = diffusers_case()
    assert diffusion.posterior_log_variance_clipped[0].exp().item() == pytest.approx(1e-20)
    assert diffusion.posterior_variance[[487, 999]].tolist() == pytest.approx([0.00979, 0.02], abs=1e-5)
    generator = torch.Generator().manual_seed(0)
    noise = (torch.arange(768, dtype=F64).flip(0).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2)
    noised = diffusion.q_sample(x, torch.full((4,), 1), noise)
    for start, last, total, within, mean in ((x, 999, 258.9606, 1e-2, 0.3372), (noised, 1, 387.9466, 0.025, 0.5051)):
        y = start
        generator.manual_seed(0)
        for time in reversed(range(last + 1)):
            noise = torch.randn(y.shape, generator=generator) if time > 0 else torch.full(y.shape, torch.nan)
            y, _ = diffusion.p_sample(y, torch.full((4,), time), noise.double())
        assert y.abs().sum().item() == pytest.approx(total, abs=within)
        assert y.abs().mean().item() == pytest.approx(mean, abs=1e-3)
    y = x
    for time in range(900, -1, -100):
        y, _ = diffusion.ddim_step(y, time, time - 100, torch.zeros_like(y))
    assert y.abs().sum().item() == pytest.approx(172.0067, abs=1e-2)
    assert y.abs().mean().item() == pytest.approx(0.223967, abs=1e-3)
    on, off = (diffusion.ddim_step(x, 420, 400, noise, eta=1.0)[0] for noise in (torch.ones_like(x), 0 * x))
    assert ((on - off) ** 2).flatten().tolist() == pytest.approx([0.14771] * 768, abs=1e-5)


# Diffusion.


def test_three_parameterisations_are_views_of_one_point():
    diffusion = known_diffusion()
    x0, t, eps = batch()
    x_t = diffusion.q_sample(x0, t, eps)
    v = diffusion.predict_v(x0, t, eps)
    for back in (diffusion.predict_start_from_v(x_t, t, v), diffusion.predict_start_from_noise(x_t, t, eps)):
        assert torch.allclose(back, x0, rtol=0, atol=1e-12)
    assert torch.allclose(diffusion.predict_noise_from_start(x_t, t, x0), eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
@pytest.mark.parametrize("loss_type", ["l1", "l2"])
def test_the_loss_is_weighted_image_by_image(objective, loss_type):
    diffusion = known_diffusion(objective=objective, loss_type=loss_type, offset_noise_strength=0.5)
    x0, t, eps = batch()
    offset = torch.tensor([[1.0], [-1.0], [2.0]], dtype=F64)
    loss = diffusion((x0 + 1) / 2, t, eps, False, offset)
    expected = 0.0
    for i, time in enumerate(t.tolist()):  # one image at a time, no broadcasting
        alpha, sigma = math.sqrt(diffusion.alphas_cumprod[time]), math.sqrt(1 - diffusion.alphas_cumprod[time])
        noise = eps[i] + 0.5 * offset[i].item()
        x_t = alpha * x0[i] + sigma * noise
        target = {"pred_noise": noise, "pred_x0": x0[i], "pred_v": alpha * noise - sigma * x0[i]}[objective]
        error = 0.3 * x_t + time / (2 * T) - target
        weight = {"pred_noise": 1, "pred_x0": alpha**2 / sigma**2, "pred_v": alpha**2}[objective]
        expected += weight * (error.abs() if loss_type == "l1" else error**2).mean().item() / 3
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_self_conditioning_is_detached():
    diffusion = known_diffusion({"self_condition": True}, objective="pred_x0")
    x0, t, eps = batch()
    x_t, a = diffusion.q_sample(x0, t, eps), diffusion.model.a
    hint = diffusion.model(x_t, t).detach()
    error = diffusion.model(x_t, t, hint) - x0
    weight = diffusion.at("loss_weight", t)
    loss = diffusion.p_losses(x0, t, eps, True)
    assert loss.item() == pytest.approx((weight * error**2).mean().item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, [a])
    assert gradient.item() == pytest.approx((weight * 2 * error * x_t).mean().item(), rel=1e-12)
    assert diffusion.p_losses(x0, t, eps, False).item() != pytest.approx(loss.item(), rel=1e-3)


def test_the_decoder_is_a_distribution_over_256_levels():
    z = torch.linspace(-5, 5, 11, dtype=F64)  # PyTorch's tanh GELU is z times the same approximation
    assert torch.allclose(z * normal_cdf(z), torch.nn.functional.gelu(z, approximate="tanh"), rtol=1e-12)
    levels = torch.linspace(-1, 1, 256, dtype=F64)
    for mean, log_scale in ((0.3, -2.0), (-1.2, -4.0), (0.999, 0.5)):
        mass = discretised_normal_log_likelihood(levels, torch.tensor(mean), torch.tensor(log_scale, dtype=F64)).exp()
        assert mass.sum().item() == pytest.approx(1, abs=1e-12)
        assert levels[mass[1:-1].argmax() + 1].item() == pytest.approx(max(min(mean, 1), -1), abs=0.01)


def test_the_variational_bound_is_a_kl_in_bits_that_teaches_the_variance_only():
    diffusion = known_diffusion({"out_dim": 2})
    x0, t, eps = batch()
    x_t = diffusion.q_sample(x0, t, eps)
    mean, variance, log_variance, _ = diffusion.p_mean_variance(x_t, t, clip_denoised=False)
    v = (-0.4 * x_t + 1) / 2
    beta, tilde = diffusion.at("betas", t), diffusion.at("posterior_log_variance_clipped", t).exp()
    assert torch.allclose(variance, beta**v * tilde ** (1 - v), rtol=1e-12)
    q = torch.distributions.Normal(diffusion.q_posterior(x0, x_t, t)[0], tilde.sqrt().expand_as(x0))
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(mean, variance.sqrt()))
    nll = -discretised_normal_log_likelihood(x0, mean, log_variance / 2)
    expected = torch.stack([nll[0].mean(), kl[1].mean(), kl[2].mean()]) / math.log(2)
    bound = diffusion.variational_bound(x0, x_t, t, diffusion.model(x_t, t))
    assert bound.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    of_a, of_b = torch.autograd.grad(bound.sum(), [diffusion.model.a, diffusion.model.b], allow_unused=True)
    assert of_a is None or of_a.item() == 0
    assert of_b.abs().item() > 0.1
    plain = known_diffusion().p_losses(x0, t, eps)
    assert (diffusion.p_losses(x0, t, eps) - plain).item() == pytest.approx(0.001 * bound.mean().item(), rel=1e-9)


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
def test_one_step_clips_its_estimate_and_derives_eps_again(objective):
    diffusion = known_diffusion(objective=objective)
    x, t = 3 * normal(*SHAPE), torch.tensor([0, 1, T // 2])
    free, clipped = (diffusion.model_predictions(x, t, clip_x_start=c, rederive_pred_noise=True) for c in (False, True))
    assert free.pred_x_start.abs().max() > 1.01
    assert torch.equal(clipped.pred_x_start, free.pred_x_start.clamp(-1, 1))
    assert torch.allclose(diffusion.q_sample(clipped.pred_x_start, t, clipped.pred_noise), x, rtol=0, atol=1e-12)
    previous, x_start = diffusion.p_sample(x, t, torch.full(SHAPE, 1e6, dtype=F64))
    assert torch.equal(x_start, clipped.pred_x_start)
    assert torch.allclose(previous[0], x_start[0], rtol=0, atol=1e-12), "noise at t = 0"
    assert previous[1].abs().min() > 1e3


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


@pytest.mark.parametrize(("steps", "eta"), [(1, 0.0), (5, 0.0), (5, 0.5), (T, 1.0)])
def test_ddim_is_equation_12(steps, eta):
    diffusion = known_diffusion(objective="pred_noise", sampling_timesteps=steps, ddim_sampling_eta=eta)
    abar, arrays = diffusion.tables["alphas_cumprod"], iter(tape(steps))
    x = next(arrays)
    for now, after in itertools.pairwise(np.linspace(-1, T - 1, steps + 1).astype(int)[::-1]):
        x0 = np.clip((x - np.sqrt(1 - abar[now]) * (0.3 * x + now / (2 * T))) / np.sqrt(abar[now]), -1, 1)
        eps = (x - np.sqrt(abar[now]) * x0) / np.sqrt(1 - abar[now])
        if after >= 0:
            sigma = eta * np.sqrt((1 - abar[after]) / (1 - abar[now]) * (1 - abar[now] / abar[after]))
            z = next(arrays)
            x = np.sqrt(abar[after]) * x0 + np.sqrt(1 - abar[after] - sigma**2) * eps + sigma * z
    chain = torch_ref.ddim(diffusion, 3, noise=tape(steps), return_all_timesteps=True)
    assert chain.shape == (3, steps + 1, *SHAPE[1:])
    np.testing.assert_allclose(chain[:, 0], (tape(1)[0] + 1) / 2)
    np.testing.assert_allclose(chain[:, -1], (x0 + 1) / 2, rtol=0, atol=1e-12)
    if steps < T:  # then it is also what sample() does
        assert torch.equal(diffusion.sample(3, noise=tape(steps)), chain[:, -1])
    else:
        ddpm = diffusion.sample(3, noise=tape(steps), return_all_timesteps=True)
        assert torch.allclose(ddpm, chain, rtol=0, atol=1e-9), "DDIM with every step and eta 1 is DDPM"


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


@pytest.mark.parametrize("sampler", [torch_ref.ddpm, torch_ref.ddim])
def test_samplers_feed_back_the_last_estimate(sampler):
    diffusion = known_diffusion({"self_condition": True}, objective="pred_x0")
    hints, answers, forward = [], [], diffusion.model.forward

    def spy(x, t, x_self_cond=None):
        hints.append(x_self_cond)
        answers.append(forward(x, t, x_self_cond).clamp(-1, 1))
        return answers[-1]

    diffusion.model.forward = spy
    sampler(diffusion, 3, noise=tape(T))
    assert hints[0].count_nonzero() == 0
    assert len(hints) == T
    for hint, answer in zip(hints[1:], answers, strict=False):
        assert torch.equal(hint, answer)


def test_interpolation_mixes_two_noised_images_and_denoises_from_the_step_before():
    diffusion = known_diffusion()
    x1, x2 = torch.tensor(np.random.default_rng(1).random((2, *SHAPE)))
    t, lam, arrays = 5, 0.25, torch.tensor(tape(6))
    ends = [diffusion.q_sample(2 * x - 1, torch.full((3,), t), z) for x, z in zip((x1, x2), arrays, strict=False)]
    x = 0.75 * ends[0] + 0.25 * ends[1]
    for step, z in zip((4, 3, 2, 1, 0), (*arrays[2:], arrays[0]), strict=True):
        x, _ = diffusion.p_sample(x, torch.full((3,), step), z)
    assert torch.allclose(diffusion.interpolate(x1, x2, t, lam, noise=arrays), (x + 1) / 2, rtol=0, atol=1e-12)
    for bad in (0, T):
        with pytest.raises(ValueError, match=f"t is {bad}"):
            diffusion.interpolate(x1, x2, bad, noise=arrays)


# Training.


@pytest.mark.parametrize(("name", "decay"), [("Adam", 0.0), ("Adam", 0.1), ("AdamW", 0.1)])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9)])
def test_adam_is_torch_optims(name, decay, betas):
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 4), "b": (5,)}
    theirs = {k: torch.nn.Parameter(torch.tensor(rng.standard_normal(s))) for k, s in shapes.items()}
    ours = {k: p.detach().clone() for k, p in theirs.items()}
    reference = getattr(torch.optim, name)(theirs.values(), lr=1e-2, betas=betas, weight_decay=decay)
    optimizer = {"Adam": Adam, "AdamW": AdamW}[name](ours, lr=1.0, betas=betas, weight_decay=decay)
    for _ in range(20):
        grads = {k: torch.tensor(rng.standard_normal(s) * 10.0 ** rng.integers(-9, 0)) for k, s in shapes.items()}
        for key, g in grads.items():
            theirs[key].grad = g
        reference.step()
        optimizer.step(grads, lr=1e-2)
    for key in shapes:
        assert torch.allclose(ours[key], theirs[key], rtol=1e-12, atol=0), key


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


@pytest.mark.parametrize("limit", [1e3, 0.5, 1e-6])
def test_clipping_is_pytorchs(limit):
    grads = [normal(3, 4) * min(1, 10 * limit), normal(5, seed=1) * min(1, 10 * limit)]
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in grads]
    for p, g in zip(parameters, grads, strict=True):
        p.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    clipped, ours = torch_ref.clip_by_global_norm(grads, limit)
    assert ours.item() == pytest.approx(norm.item(), rel=1e-12)
    for p, g in zip(parameters, clipped, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-12, atol=0)
    assert torch_ref.clip_by_global_norm({"a": grads[0]}, limit)[0].keys() == {"a"}


def test_ema_acts_at_1_11_21_and_averages_from_111():
    model = torch.nn.Linear(1, 1, bias=False).double()
    ema, expected = EMA(model), 0.0
    for n in range(1, 132):
        model.weight.data = torch.full((1, 1), float(n), dtype=F64)
        ema.update()
        if n % 10 == 1:
            decay = 0 if n <= 101 else 1 - (1 + n - 101) ** (-2 / 3)
            expected = decay * expected + (1 - decay) * n
        assert ema.average["weight"].item() == pytest.approx(expected, rel=1e-12), n
    assert ema.decay(111) == pytest.approx(1 - 11 ** (-2 / 3))
    assert ema.decay(10**9) == 0.995


def test_ema_swaps_and_swaps_back():
    model = torch.nn.Linear(1, 1, bias=False)
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


def test_accumulated_gradients_are_the_gradient_of_the_whole_batch():
    x0, t, eps = batch()
    images = (x0 + 1) / 2
    results = []
    for batches in ([(images, t, eps)], [(images[i : i + 1], t[i : i + 1], eps[i : i + 1]) for i in range(3)]):
        diffusion = known_diffusion()
        result = train_step(diffusion, Adam([diffusion.model.a], lr=0.1), batches, max_grad_norm=0.01)
        results.append([*result, diffusion.model.a.item()])
    assert results[0] == pytest.approx(results[1], rel=1e-12)
    assert abs(results[0][2] - 0.3) == pytest.approx(0.1, rel=1e-3), "Adam's first step is lr"


def test_training_learns_and_one_seed_gives_one_run():
    data = np.zeros((8, 1, 4, 4), np.float32)

    def run(seed):
        unet = Unet(8, dim_mults=(1,), channels=1, rng=0)
        diffusion = GaussianDiffusion(unet, image_size=4, timesteps=T, objective="pred_x0", loss_type="l1")
        losses, ema = train(diffusion, data, steps=25, batch_size=8, lr=3e-3, seed=seed, progress=False)
        return np.array(losses), ema

    losses, ema = run(1)
    assert losses[-5:].mean() < 0.5 * losses[:5].mean()
    assert ema.calls == 25
    assert np.array_equal(losses, run(1)[0])
    assert not np.array_equal(losses, run(2)[0])
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
