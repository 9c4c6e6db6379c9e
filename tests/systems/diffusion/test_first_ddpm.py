"""FirstDDPM, the beginner's class, and the code of the pages that show it."""

import re

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from tests.conftest import ROOT

SHAPE = (1, 28, 28)


def numbers(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *SHAPE), dtype=np.float32)


@pytest.fixture(scope="module")
def ddpm(mindspore):
    from mindspore import Parameter, Tensor, nn

    from ms_ddpm import FirstDDPM

    class Known(nn.Cell):
        def __init__(self):
            super().__init__()
            self.gain = Parameter(Tensor([0.5]), name="gain")

        def construct(self, x, t):
            return self.gain * x + t.reshape(-1, 1, 1, 1)

    return FirstDDPM(Known())


def test_forward_and_backward_are_the_two_lines_of_the_article(ddpm):
    x0, eta, t = numbers(3), numbers(3, 1), np.array([0, 100, 199], np.int32)
    betas = np.linspace(1e-4, 0.02, 200)
    abar = np.array([np.prod(1 - betas[: i + 1]) for i in t]).reshape(3, 1, 1, 1)
    expected = np.sqrt(abar) * x0 + np.sqrt(1 - abar) * eta
    for times in (t, t[:, None]):
        np.testing.assert_allclose(ddpm.forward(x0, times, eta).asnumpy(), expected, atol=1e-6)
        np.testing.assert_allclose(ddpm.backward(x0, times).asnumpy(), 0.5 * x0 + t.reshape(3, 1, 1, 1), atol=1e-4)
    drawn = np.random.default_rng(5).standard_normal(x0.shape, dtype=np.float32)
    assert np.array_equal(
        ddpm.forward(x0, t, rng=np.random.default_rng(5)).asnumpy(), ddpm.forward(x0, t, drawn).asnumpy()
    )


def test_without_noise_it_is_drawn_from_the_models_own_stream(ddpm):
    from ms_ddpm import FirstDDPM

    x0, t = numbers(2), np.array([3, 150])
    for seed in (7, np.random.default_rng(7)):
        own, expected = FirstDDPM(ddpm.network, rng=seed), np.random.default_rng(7)
        for call in (own, own.forward, own):  # every call draws other noise
            eta = expected.standard_normal(x0.shape, dtype=np.float32)
            assert np.array_equal(call(x0, t).asnumpy(), ddpm(x0, t, eta).asnumpy())
    assert not np.array_equal(ddpm(x0, t).asnumpy(), ddpm(x0, t).asnumpy())
    assert np.array_equal(ddpm(x0, t, eta).asnumpy(), ddpm.forward(x0, t, eta).asnumpy())
    before = ddpm(x0, t, rng=np.random.default_rng(7)).asnumpy()
    assert np.array_equal(before, ddpm(x0, t, rng=np.random.default_rng(7)).asnumpy())


def test_it_is_a_view_on_a_diffusion_and_its_weights_are_the_networks(ddpm):
    assert [name for name, _ in ddpm.parameters_and_names()] == ["network.gain"]
    assert len(ddpm.trainable_params()) == 1
    assert ddpm.diffusion.objective == "pred_noise"
    np.testing.assert_array_equal(ddpm.alpha_bars.asnumpy(), ddpm.diffusion.alphas_cumprod.asnumpy())
    images = numbers(2)
    t, noise, *_ = ddpm.diffusion.draw(np.random.default_rng(0), (images,))
    loss = ddpm.diffusion.p_losses(*map(_tensor, (images, t, noise)))
    by_hand = ddpm.backward(ddpm.forward(images, t, noise), t).asnumpy() - noise
    assert float(loss) == pytest.approx(float(np.mean(by_hand.astype(np.float64) ** 2)), rel=1e-5)


def _tensor(value):
    from mindspore import Tensor

    return Tensor(value)


def test_weights_of_the_pytorch_class_load_strictly_and_come_back(mindspore):
    torch_ref = pytest.importorskip("torch_ref")
    from ms_ddpm import FirstDDPM, Unet, convert

    theirs = torch_ref.FirstDDPM(torch_ref.Unet(8, dim_mults=(1, 2), channels=1))
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    assert all(name.startswith("network.") for name in state)
    ours = FirstDDPM(Unet(8, dim_mults=(1, 2), channels=1, rng=0))
    convert.from_torch(ours, state)
    back = convert.to_torch(ours)
    assert set(back) == set(state)
    assert all(np.array_equal(back[name], state[name]) for name in state)
    with pytest.raises(UserError, match=r"missing network\.init_conv\.bias"):
        convert.from_torch(ours, {name: value for name, value in state.items() if name != "network.init_conv.bias"})


def test_the_documents_last_noise_level_is_no_noise(ddpm):
    """What docs/first_ddpm.md says of 200 steps up to 0.02, of 1000, and of 200 scaled."""
    from ms_ddpm import schedules

    last = {
        name: float(np.prod(1 - schedules.linear(*arguments)))
        for name, arguments in {"200": (200, 1e-4, 0.02), "1000": (1000, 1e-4, 0.02), "scaled": (200,)}.items()
    }
    assert float(ddpm.alpha_bars[-1]) == pytest.approx(last["200"], rel=1e-6)
    assert last["200"] == pytest.approx(0.132, abs=5e-4)
    assert np.sqrt(last["200"]) == pytest.approx(0.36, abs=5e-3)
    assert last["200"] / (1 - last["200"]) == pytest.approx(0.15, abs=5e-3)
    assert last["1000"] == pytest.approx(0.00004, abs=5e-6)
    assert last["scaled"] == pytest.approx(0.00003, abs=5e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, x: d.forward(x, [0, 200], x), "t has 200, expected 0 to n_steps - 1 (199)"),
        (lambda d, x: d.forward(x, [-1, 0], x), "t has -1"),
        (lambda d, x: d.forward(x, [1], x), "t has shape (1,) and dtype int64, expected 2 whole numbers"),
        (lambda d, x: d.backward(x, np.array([0.5, 1.0])), "expected 2 whole numbers, one per image: (2,) or (2, 1)"),
        (lambda d, x: d.backward(x, np.array([[0, 1]])), "t has shape (1, 2)"),
        (lambda d, x: d.forward(x, [0, 1], x, rng=np.random.default_rng(0)), "expected one of them, or neither"),
        (lambda d, x: d.forward(x, [0, 1], x[:1]), "eta has 1 images, expected as many as x0 (2)"),
        (lambda d, x: d.forward(x[:, :, :8], [0, 1], x), "x0 is (2, 1, 8, 28), expected (n, 1, 28, 28)"),
        (lambda d, x: d.backward("x", [0, 1]), "x is str, expected (n, 1, 28, 28)"),
    ],
)
def test_what_does_not_fit_is_named(ddpm, call, message):
    with pytest.raises(UserError) as caught:
        call(ddpm, numbers(2))
    assert message in str(caught.value)


def test_a_network_or_a_size_that_does_not_fit_is_named(mindspore):
    from ms_ddpm import FirstDDPM, Unet

    for size in ((28, 28), 5, "abc", (1, 0, 28), (1, 28.5, 28)):
        with pytest.raises(UserError, match=r"image_chw is .*, expected \(channels, height, width\)"):
            FirstDDPM(None, image_chw=size)
    for steps in (0, 2.5, "many", True):
        with pytest.raises(UserError, match=r"n_steps is .*, expected a whole number from 1"):
            FirstDDPM(None, n_steps=steps)
    learned = Unet(8, dim_mults=(1,), channels=1, learned_variance=True, rng=0)
    with pytest.raises(UserError, match="the network must give 1 channels"):
        FirstDDPM(learned)


PAGES = ["schedulers", "first_ddpm"]  # what test_docs.py does not run


@pytest.mark.parametrize("page", [*PAGES, "systems"])
def test_the_page_names_files_that_are_there(page):
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / target).exists(), target
    assert "0.0..." not in text  # a number that was never filled in
    for target in re.findall(r"(?:scripts|configs)/\w+\.(?:py|yaml)", text):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_page_runs(mindspore, tmp_path, page):
    from ms_ddpm import runtime

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    code = "\n".join(blocks)
    file = tmp_path / "code.py"
    file.write_text(code.replace("n_steps=200", "n_steps=3"))
    scope = {"__name__": "page"}
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)  # MindSpore's default, and nothing to wait for
    try:
        with runtime.execution_mode(1):
            exec(compile(file.read_text(), str(file), "exec"), scope)
    finally:
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
    assert np.isfinite((scope["images"] if page == "first_ddpm" else scope["x"]).asnumpy()).all()
    if page == "first_ddpm":
        assert 0.5 < float(scope["loss"]) < 5


def test_the_recipe_is_the_articles():
    from ms_ddpm.config import resolve

    config = resolve({}, str(ROOT / "configs/first_ddpm.yaml"))
    assert (config.timesteps, config.objective, config.loss_type) == (200, "pred_noise", "l2")
    assert config.beta_schedule == "linear"
    assert config.schedule_fn_kwargs == {"beta_start": 1e-4, "beta_end": 0.02}
    assert (config.image_size, config.channels, config.dataset) == (28, 1, "digits28")
    assert config.epochs
