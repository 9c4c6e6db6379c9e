"""Weights to and from PyTorch, against what the library itself computed (data/make_torch_fixtures.py)."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from ms_ddpm.errors import UserError
from tests.conftest import ROOT, relative_rms

DIFFUSION = {"torch_2_3": {}, "torch_2022": {"timesteps": 100, "objective": "pred_noise", "beta_schedule": "cosine"}}
LAYOUTS = {
    "torch_2_3": {"self_condition": True},
    "torch_2022": {"norm": "group", "downsample": "conv"},
}


def fixture_file(name):
    content = load_file(ROOT / "tests" / "fixtures" / f"{name}.safetensors")
    test = {key[5:]: content.pop(key) for key in list(content) if key.startswith("test.")}
    return content, test


def build(name, **options):
    from ms_ddpm import GaussianDiffusion, Unet

    unet = Unet(8, dim_mults=(1, 2), channels=1, rng=1, **LAYOUTS[name])
    return GaussianDiffusion(unet, image_size=8, **{**DIFFUSION[name], **options})


@pytest.fixture(scope="module", params=list(LAYOUTS))
def loaded(request, mindspore):
    from ms_ddpm import convert

    state, test = fixture_file(request.param)
    diffusion = build(request.param)
    convert.from_torch(diffusion, state)
    return request.param, diffusion, state, test


def float64_output(name, state, test):
    """The network's output in double. The 2022 library's own (test["y64"]) adds 1e-3 to variances in double."""
    torch = pytest.importorskip("torch")
    from torch_ref import Unet

    unet = Unet(8, dim_mults=(1, 2), channels=1, **LAYOUTS[name])
    unet.load_state_dict({k[6:]: torch.tensor(v) for k, v in state.items() if k.startswith("model.")})
    with torch.no_grad():
        return unet.double()(torch.tensor(test["x"]).double(), torch.tensor(test["t"]).long()).numpy()


def test_a_pytorch_checkpoint_denoises_to_the_same_numbers(mindspore, loaded):
    """Error against float64 within 4x of PyTorch's own, which is a rounding error."""
    from ms_ddpm.devices.runtime import compiled

    name, diffusion, state, test = loaded
    y = compiled(diffusion.model)(mindspore.Tensor(test["x"]), mindspore.Tensor(test["t"])).asnumpy()
    truth = float64_output(name, state, test)
    ours, theirs = relative_rms(y, truth), relative_rms(test["y32"], truth)
    assert theirs < 2e-6, f"the library is {theirs:.2e} from float64: not a rounding error"
    assert ours <= 4 * theirs, f"ours {ours:.2e}, PyTorch's {theirs:.2e}"


def test_what_comes_back_is_what_went_in(loaded):
    from ms_ddpm import convert

    _, _, state, _ = loaded
    back = convert.to_torch(loaded[1])
    assert set(state) == set(back)
    for key, value in back.items():
        if key.startswith("model."):
            assert np.array_equal(value, state[key]), key


def test_the_architecture_is_read_off_the_names_and_shapes(loaded):
    from ms_ddpm.systems.diffusion.weights import infer_diffusion, infer_unet

    name, diffusion, state, _ = loaded
    unet = infer_unet({key[6:]: value for key, value in state.items() if key.startswith("model.")})
    assert (unet["dim"], unet["dim_mults"], unet["channels"], unet["out_dim"]) == (8, [1, 2], 1, 1)
    assert (unet["norm"], unet["downsample"]) == (diffusion.model.norm_kind, diffusion.model.downsample_kind)
    assert unet["self_condition"] == diffusion.self_condition
    expected = {
        "torch_2_3": {"timesteps": 1000, "beta_schedule": "sigmoid", "objective": "pred_v"},
        "torch_2022": {"timesteps": 100, "beta_schedule": "cosine"},  # the objective stands nowhere
    }
    assert infer_diffusion(state) == expected[name]


def test_a_state_that_lacks_any_one_array_is_refused_not_misread(mindspore):
    from ms_ddpm.systems.diffusion.weights import infer_unet

    state, _ = fixture_file("torch_2_3")
    unet = {key[6:]: value for key, value in state.items() if key.startswith("model.")}
    whole = infer_unet(unet)
    refused = 0
    for missing in unet:
        try:
            found = infer_unet({key: value for key, value in unet.items() if key != missing})
        except UserError:
            refused += 1
            continue
        assert found == whole, missing
    assert refused > 5
    with pytest.raises(UserError):
        infer_unet({})


def test_every_difference_is_named(mindspore):
    from ms_ddpm import convert

    diffusion = build("torch_2_3")
    state, _ = fixture_file("torch_2_3")
    before = diffusion.model.init_conv.weight.asnumpy().copy()
    del state["model.final_conv.bias"]
    state["model.extra"] = np.zeros(1, np.float32)
    state["model.init_conv.bias"] = np.zeros(9, np.float32)
    with pytest.raises(UserError) as caught:
        convert.from_torch(diffusion, state)
    message = str(caught.value)
    assert "missing model.final_conv.bias" in message
    assert "unexpected model.extra" in message
    assert "model.init_conv.bias has shape (9,), expected (8,)" in message
    assert "\n" not in message
    assert np.array_equal(before, diffusion.model.init_conv.weight.asnumpy()), "loaded in part"


@pytest.mark.parametrize("options", [{"beta_schedule": "cosine"}, {"objective": "pred_noise"}, {"timesteps": 50}])
def test_another_schedule_or_objective_is_refused(mindspore, options):
    from ms_ddpm import convert

    state, _ = fixture_file("torch_2_3")
    with pytest.raises(UserError, match="table"):
        convert.from_torch(build("torch_2_3", **options), state)


def test_other_layouts_do_not_load(mindspore):
    from ms_ddpm import convert

    state, _ = fixture_file("torch_2022")
    with pytest.raises(UserError, match="missing model"):
        convert.from_torch(build("torch_2_3"), state)
