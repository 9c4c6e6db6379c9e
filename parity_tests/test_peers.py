"""Tier "peers": published numbers are reached, other libraries agree, and every declared difference is really there."""

import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parity_tests import oracle, peers
from parity_tests.systems.core import peers as tier
from portparity import run
from portparity.verdict import AGREE, DIFFER, ulp_distance

ROOT = Path(__file__).resolve().parent.parent
CASES = list(tier.tier_peers())
MEMBERS = {}
for _case in CASES:
    MEMBERS.setdefault(_case.computation, []).append(_case)
DIFFUSERS = [c.computation for c in CASES if c.id.startswith("peers/diffusers/") and c.computation.rule != "exact"]


@pytest.fixture(scope="module")
def judged():
    """case -> the Outcome of torch_ref; a computation runs once for its cases."""
    found = {}

    def outcome_of(case):
        if case.id not in found:
            found.update({outcome.id: outcome for outcome in run(MEMBERS[case.computation], "torch")})
        return found[case.id]

    return outcome_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_torch_ref_agrees(case, judged):
    """MindSpore's side of the same cases is in test_cases.py."""
    pytest.importorskip("torch")
    outcome = judged(case)
    assert outcome.verdict == AGREE, outcome.message


# --- published values ---


@pytest.mark.parametrize("case", list(tier.published_cases()), ids=lambda case: case.id)
def test_the_float64_oracle_reaches_the_published_numbers(case):
    [outcome] = run([case], "numpy")
    assert outcome.verdict == AGREE, outcome.message


@pytest.mark.parametrize(("share", "verdict"), [(0.98, AGREE), (-0.98, AGREE), (1.02, DIFFER), (-1.02, DIFFER)])
def test_a_published_value_is_judged_by_the_tolerance_published_with_it(share, verdict):
    case = next(c for c in CASES if c.id == "peers/published/ddpm")
    off = {name: value + share * tier.CHAIN_TOLERANCES[name] for name, value in case.computation.truth({}).items()}
    assert run([judging(case, off)], "off")[0].verdict == verdict


def judging(case, produced):
    computation = replace(case.computation, candidates={"off": lambda inputs: produced}, inputs=dict)
    return replace(case, computation=computation)


@pytest.mark.parametrize("seed", [0, 7])
def test_normals_are_those_of_pytorchs_cpu_generator(seed):
    torch = pytest.importorskip("torch")
    generator = torch.manual_seed(seed)
    theirs = np.stack([torch.randn(4, 3, 8, 8, generator=generator).numpy() for _ in range(5)])
    np.testing.assert_allclose(tier.torch_cpu_normals(seed, 5, (4, 3, 8, 8)), theirs, rtol=0, atol=2e-6)


def test_leading_times_are_the_published_ones():
    assert tier.leading_times(1000, 5, offset=1) == (801, 601, 401, 201, 1)
    assert tier.leading_times(1000, 10) == (900, 800, 700, 600, 500, 400, 300, 200, 100, 0)


# --- diffusers ---


def test_leading_times_are_those_of_diffusers():
    scheduler = diffusers_scheduler("DDIMScheduler")
    for steps in range(1, 1001, 7):
        scheduler.set_timesteps(steps)
        assert tuple(scheduler.timesteps.tolist()) == tier.leading_times(1000, steps), steps


@pytest.mark.parametrize("computation", DIFFUSERS, ids=lambda computation: computation.key)
def test_in_double_the_formulas_of_diffusers_are_the_oracles(computation):
    spec, inputs = computation.spec, computation.inputs()
    theirs = tier.diffusers_leg(spec["kind"], spec, dtype="float64")(inputs)
    truth = computation.truth(inputs)
    for name, value in theirs.items():
        assert value.dtype == np.float64, name
        np.testing.assert_allclose(
            value, truth[name], rtol=0, atol=1e-19 + 1e-11 * np.abs(truth[name]).max(), err_msg=name
        )


def published_sum_of_diffusers(dtype):
    """The sum of DDPM from add_noise, t = [1, 0], by diffusers' own scheduler."""
    pytest.importorskip("diffusers")
    import torch

    from parity_tests.systems.core import on_diffusers as theirs

    row = tier.PUBLISHED["ddpm-noised"]
    inputs = {name: theirs.tensor(value, dtype) for name, value in tier.published_inputs(row).items()}
    spec = {"diffusion": tier.diffusion_spec(row.objective)}
    scheduler = theirs.scheduler_of(theirs.DDPMScheduler, spec, dtype)
    x = scheduler.add_noise(inputs["x"], inputs["noise"], torch.tensor([row.times[0]]))
    for i, time in enumerate(row.times):
        noise = inputs["tape"][min(i, len(inputs["tape"]) - 1)]
        x, _ = theirs.ddpm_step(scheduler, x * time / (time + 1), time, x, noise)
    return float(x.abs().double().sum())


def test_the_sum_that_float32_tables_move_is_diffusers_own_doing():
    row = tier.PUBLISHED["ddpm-noised"]
    assert abs(published_sum_of_diffusers("float32") - row.sum_abs) < 1e-3
    assert abs(published_sum_of_diffusers("float64") - (row.sum_abs - row.float32_tables)) < 1e-3


# --- declared differences: what is measured here is what the table says ---


def diffusers_scheduler(name, **options):
    return getattr(pytest.importorskip("diffusers"), name)(**options)


def rms(x):
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


def abar_of(schedule):
    return oracle.tables(oracle.beta_schedule(schedule, 1000))["alphas_cumprod"]


def measure_ddim_rederives():
    """x ~ N(0, 1), and the model says that 0.6 x is noise."""
    pytest.importorskip("diffusers")
    spec = {"affine": (12, 12, False), "diffusion": tier.diffusion_spec("pred_noise"), "eta": 0.0}
    x = np.random.default_rng(0).standard_normal(tier.PUBLISHED_SHAPE, dtype=np.float32)
    inputs = {**tier.gain_of(0.6), "x": x, "noise": x}
    again, kept = (
        tier.diffusers_leg("ddim_step", {**spec, "pairs": [(500, 400)], "rederive": flag})(inputs)
        for flag in (True, False)
    )
    assert np.mean(np.abs(again["x_start[t=500]"]) == 1) == pytest.approx(0.5, abs=0.05)
    return rms(again["x_next[t=500]"] - kept["x_next[t=500]"]) / rms(again["x_next[t=500]"])


def measure_float32_tables():
    scheduler = diffusers_scheduler("DDPMScheduler", beta_schedule="squaredcos_cap_v2")
    theirs = np.array([float(scheduler._get_variance(t)) for t in range(1, 1000)])
    ours = oracle.tables(oracle.beta_schedule("cosine", 1000))["posterior_variance"][1:]
    error = np.abs(theirs / ours - 1)
    assert np.argmax(error) + 1 == 8
    return error.max()


def measure_published_noised():
    return published_sum_of_diffusers("float64") - published_sum_of_diffusers("float32")


def nan_percent(variance_type, channels):
    torch = pytest.importorskip("torch")
    scheduler = diffusers_scheduler("DDPMScheduler", variance_type=variance_type)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 8, 8)))
    output = torch.cat([x, -x.abs()], 1)[:, :channels]
    return 100 * float(scheduler.step(output, 500, x).prev_sample.isnan().double().mean())


def measure_leading_times():
    leading, trailing = (diffusers_scheduler("DDIMScheduler", **o) for o in ({}, {"timestep_spacing": "trailing"}))
    for scheduler in (leading, trailing):
        scheduler.set_timesteps(50)
    assert trailing.timesteps.tolist() == list(oracle.ddim_times(1000, 50)[:-1])
    return float(trailing.timesteps[0] - leading.timesteps[0])


def measure_misaligned_times():
    """Steps from whose time t - T // S, where diffusers' formula leads, is not the next time."""
    scheduler = diffusers_scheduler("DDIMScheduler", timestep_spacing="trailing")
    scheduler.set_timesteps(30)
    times = scheduler.timesteps.numpy()
    return float(np.sum(np.maximum(times - 1000 // 30, -1) != [*times[1:], -1]))


def measure_sigmoid_schedule():
    theirs = diffusers_scheduler("DDPMScheduler", beta_schedule="sigmoid").alphas_cumprod
    return abs(float(theirs[500]) - abar_of("sigmoid")[500])


def measure_linear_unscaled():
    theirs = diffusers_scheduler("DDPMScheduler", num_train_timesteps=50).betas.numpy()
    ratio = oracle.beta_schedule("linear", 50) / theirs
    assert np.ptp(ratio) < 1e-4
    return ratio[0]


def measure_variance_at_zero():
    assert oracle.tables(oracle.beta_schedule("linear", 1000))["posterior_variance"][0] == 0
    return float(diffusers_scheduler("DDPMScheduler")._get_variance(0))


def measure_trailing_times():
    """Numbers of steps whose list goes on to -1."""
    scheduler = diffusers_scheduler("DDIMScheduler", timestep_spacing="trailing")
    longer = []
    for steps in range(1, 1001):
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) != steps:
            assert scheduler.timesteps[-1] == -1
            longer.append(steps)
    assert longer[:3] == [61, 103, 121]
    return float(len(longer))


def measure_clipped_times():
    """Numbers of steps, of 1 to 399, whose last time is -1."""
    scheduler = diffusers_scheduler(
        "DPMSolverMultistepScheduler", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing",
        lambda_min_clipped=-5.1,
    )  # fmt: skip
    found = []
    for steps in range(1, 400):
        scheduler.set_timesteps(steps)
        if scheduler.timesteps[-1] < 0:
            found.append(steps)
    assert found[:3] == [69, 70, 71]
    return float(len(found))


def measure_absent_arguments():
    """Of diffusers' schedulers, arguments that ours know and refuse."""
    from ms_ddpm.errors import UserError
    from ms_ddpm.schedulers import UniPCMultistepScheduler

    values = {"use_flow_sigmas": True, "use_dynamic_shifting": True, "shift_terminal": 0.1, "solver_p": "another"}
    for name, value in values.items():
        with pytest.raises(UserError, match=f"{name} is"):
            UniPCMultistepScheduler(**{name: value})
    return float(len(values))


def measure_epsilon_at_zero_snr():
    torch = pytest.importorskip("torch")
    scheduler = diffusers_scheduler("DDPMScheduler", rescale_betas_zero_snr=True, clip_sample=False)
    x, eps = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 2, 3, 8, 8)))
    return 100 * float(scheduler.step(eps, 999, x).pred_original_sample.isinf().double().mean())


def measure_third_order_sde():
    """What curvature weighs in a step: that of answers 2, 0, 0, the newest last, is 1, and so is the slope."""
    torch = pytest.importorskip("torch")
    scheduler = diffusers_scheduler("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++", solver_order=3)
    h, zero = 0.01, torch.zeros((), dtype=torch.float64)
    scheduler.sigmas = torch.exp(-h * torch.arange(4, dtype=torch.float64))
    scheduler._step_index = 2
    answers = [2 + zero, zero, zero]
    found = scheduler.multistep_dpm_solver_third_order_update(answers, sample=zero, noise=zero)
    alpha = 1 / torch.sqrt(1 + scheduler.sigmas[3] ** 2)
    of_slope = 1 - (1 - np.exp(-2 * h)) / (2 * h)
    return float(found / alpha) - of_slope


def measure_unipc_bh1_to_zero():
    torch = pytest.importorskip("torch")
    scheduler = diffusers_scheduler("UniPCMultistepScheduler", solver_type="bh1")
    scheduler.set_timesteps(5)
    x = torch.ones(1, 1, 4, 4)
    for time in scheduler.timesteps:
        x = scheduler.step(0.5 * x, time, x).prev_sample
    return 100 * float(x.isnan().double().mean())


def measure_noise_from_the_wrong_end():
    torch = pytest.importorskip("torch")
    one, zero, last = torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([999])
    found = {
        float(diffusers_scheduler(name).add_noise(one, zero, last))
        for name in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
    }
    assert len(found) == 1
    return found.pop()


def measure_velocity_of_a_place():
    torch = pytest.importorskip("torch")
    scheduler = diffusers_scheduler("EulerDiscreteScheduler")
    found = scheduler.get_velocity(torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([999.0]))
    return float(found**2) - float(scheduler.alphas_cumprod[999])


def measure_half_precision_noise():
    """Times at which their forward process leaves a float16 sample as it was."""
    torch = pytest.importorskip("torch")
    zeros, ones = torch.zeros(20, 1, dtype=torch.float16), torch.ones(20, 1, dtype=torch.float16)
    noised = diffusers_scheduler("DDPMScheduler").add_noise(zeros, ones, torch.arange(20))
    return float((noised == 0).sum())


def lucidrains_sigmoid_abar():
    """Their formula, (end - sigmoid(z)) / (end - start) with both ends rounded to float32."""
    start, end = (float(np.float32(1 / (1 + np.exp(-z)))) for z in (-3.0, 3.0))
    abar = (end - 1 / (1 + np.exp(-np.linspace(-3, 3, 1001)))) / (end - start)
    abar = abar / abar[0]
    return np.cumprod(1 - np.clip(1 - abar[1:] / abar[:-1], 0, 0.999))


def measure_sigmoid_ends():
    return float(
        ulp_distance(lucidrains_sigmoid_abar().astype(np.float32), abar_of("sigmoid").astype(np.float32)).max()
    )


def measure_immiscible_target():
    optimize, distance = (pytest.importorskip(f"scipy.{name}") for name in ("optimize", "spatial.distance"))
    rng = np.random.default_rng(0)
    images, noise = rng.uniform(-1, 1, (64, 192)), rng.standard_normal((64, 192))
    used = noise[optimize.linear_sum_assignment(distance.cdist(images, noise))[1]]
    return rms(used - noise)


def measure_ddim_coefficients():
    abar, later, one = abar_of("cosine"), np.arange(999), np.float32(1)
    low, high = (abar.astype(np.float32)[times] for times in (later + 1, later))
    sigma = np.sqrt((one - low / high) * (one - high) / (one - low))
    theirs = np.sqrt(one - high - sigma**2)
    error = np.abs(theirs / oracle.ddim_coefficients(abar, later + 1, later, 1.0)[1] - 1)
    assert theirs.dtype == np.float32
    assert np.argmax(error) == 0
    return error.max()


def measure_ddim_times():
    torch = pytest.importorskip("torch")
    numpys = 0
    for steps in range(1, 1001):
        ours = list(oracle.ddim_times(1000, steps))
        assert torch.linspace(-1, 999, steps + 1).int().tolist()[::-1] == ours, steps
        numpys += np.linspace(-1, 999, steps + 1, dtype=np.float32).astype(int).tolist()[::-1] != ours
    return float(numpys)


def measure_cosine_sim_attention():
    q, k, v = np.random.default_rng(0).standard_normal((3, 1, 4, 64, 32))
    ours = oracle.full_attention(q, k, v)
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    return rms(oracle.full_attention(10 * np.sqrt(32) * q, k, v) - ours) / rms(ours)


def measure_ema_decay():
    """Their expression, 1 - (1 + epoch / inv_gamma)^-power, of an integer tensor."""
    torch = pytest.importorskip("torch")
    calls = np.arange(102, 20000)
    theirs = 1 - (1 + torch.from_numpy(calls - 101) / 1.0) ** -(2 / 3)
    assert theirs.dtype == torch.float32
    return np.abs(theirs.double().numpy() - [oracle.ema_decay(int(n), beta=1.0) for n in calls]).max()


def measure_log_variance_at_zero():
    tables = oracle.tables(oracle.beta_schedule("linear", 1000))
    return np.log(tables["posterior_variance"][1]) - tables["posterior_log_variance_clipped"][0]


MEASURES = {name.removeprefix("measure_"): f for name, f in list(globals().items()) if name.startswith("measure_")} | {
    "fixed_large_log": lambda: nan_percent("fixed_large_log", 3),
    "learned_negative": lambda: nan_percent("learned", 6),
    "ema_frozen": lambda: oracle.ema_decay(111, beta=1.0),
}
MEASURED = [row for row in peers.DIFFERENCES if row.case]


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row.case)
def test_a_declared_difference_is_there_and_of_the_stated_size(row):
    assert MEASURES[row.case]() == pytest.approx(row.size, rel=0.1)


def test_every_measure_belongs_to_a_difference_and_every_size_to_a_measure():
    assert sorted(row.case for row in MEASURED) == sorted(MEASURES)
    assert all((row.size is None) == (row.case == "") for row in peers.DIFFERENCES)


def test_the_document_is_the_table():
    assert (ROOT / "docs/differences.md").read_text(encoding="utf-8") == peers.differences_markdown()


def test_the_chinese_document_has_the_same_rows_and_sizes():
    """What was measured anew there must not stay as it was here."""

    def rows(text):
        cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
        return [
            (len(row), sorted(re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", row[3])), re.findall(r"`\w+`", row[4]))
            for row in cells
        ]

    chinese = (ROOT / "docs/differences.zh.md").read_text(encoding="utf-8")
    assert rows(chinese) == rows(peers.differences_markdown())


# --- lucidrains, where it is installed: what is said of it is so ---


def test_lucidrains_sigmoid_schedule_is_as_transcribed_here():
    pytest.importorskip("denoising_diffusion_pytorch")
    tables = peers.lucidrains("tables", {"affine": (2, 2, False), "diffusion": {"image_size": 4}}, {})
    np.testing.assert_array_equal(tables["alphas_cumprod"], lucidrains_sigmoid_abar().astype(np.float32))


def test_lucidrains_learned_variance_cannot_sample_by_ddim():
    learned = pytest.importorskip("denoising_diffusion_pytorch.learned_gaussian_diffusion")
    import torch

    from parity_tests.backends.shared_torch import AffineModel

    diffusion = learned.LearnedGaussianDiffusion(AffineModel(2, 4, False), image_size=4, sampling_timesteps=2)
    with pytest.raises(NameError):
        diffusion.sample(1)
    images, noise, t = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4), torch.tensor([500])
    assert diffusion.objective == "pred_v"
    assert diffusion.p_losses(images, t, noise=noise) >= 1  # the target is the noise; v would be sqrt(abar) of it


def test_lucidrains_immiscible_noise_is_not_its_target():
    theirs = pytest.importorskip("denoising_diffusion_pytorch.denoising_diffusion_pytorch")
    import torch

    from parity_tests.backends.shared_torch import AffineModel

    diffusion = theirs.GaussianDiffusion(
        AffineModel(2, 2, False), image_size=4, objective="pred_noise", immiscible=True
    )
    images = torch.linspace(-1, 1, 3).reshape(3, 1, 1, 1).expand(3, 2, 4, 4)
    noise, t = images.flip(0), torch.full((3,), 999)
    x_t = diffusion.q_sample(images, t, noise)
    used = diffusion.predict_noise_from_start(x_t, t, images)
    torch.testing.assert_close(used, noise.flip(0), rtol=0, atol=1e-3)


# --- what is not installed ---


def test_nothing_is_imported_before_it_is_used_and_what_is_missing_is_said():
    program = (
        "import sys\n"
        "for name in ('torch', 'diffusers', 'mindspore', 'denoising_diffusion_pytorch'): sys.modules[name] = None\n"
        "from parity_tests import peers\n"
        "from parity_tests.systems.core.peers import tier_peers, diffusers_cases, lucidrains_cases\n"
        "print(len(list(tier_peers())), len(list(diffusers_cases())), len(list(lucidrains_cases())))\n"
        "print(*peers.missing_peers(), sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    counts, *missing = done.stdout.splitlines()
    published, with_diffusers, with_lucidrains = map(int, counts.split())
    assert published == len(tier.PUBLISHED) + 2
    assert with_diffusers > 50
    assert with_lucidrains > 200
    assert [line.split()[0] for line in missing] == list(peers.MODULES)


def test_peers_that_are_installed_are_compared():
    families = {case.id.split("/")[1] for case in CASES}
    here = {"published"} | ({"diffusers"} if importlib.util.find_spec("diffusers") else set())
    assert here <= families
    assert len({case.id for case in CASES}) == len(CASES)


def test_checks_of_what_is_not_installed_are_left_out_by_name_and_counted(monkeypatch):
    from parity_tests import cli

    monkeypatch.setattr(peers, "installed", lambda package: package != "diffusers")
    options = cli.build_parser().parse_args(["check", "--tier", "peers", "--case", "peers/diffusers/ddim-*"])
    ((reason, ids),) = cli.absent(options).items()
    assert reason == "diffusers not installed (pip install diffusers)"
    assert len(ids) > 3
    assert all(name.startswith("peers/diffusers/ddim-") for name in ids)
    assert cli.absent(cli.build_parser().parse_args(["check", "--tier", "0"])) == {}
