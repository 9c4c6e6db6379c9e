"""Makes torch_*.safetensors: what denoising-diffusion-pytorch itself computes, for the conversion tests.

    pip download --no-deps denoising-diffusion-pytorch==2.3.0     (and ==0.30.0), unpack each wheel, then
    python tests/data/make_torch_fixtures.py UNPACKED_2_3 UNPACKED_0_30
    python tests/data/make_torch_fixtures.py releases FOLDER      (FOLDER/1.7.0 etc.: the unpacked wheels of RELEASES)

Each file holds the state of a small GaussianDiffusion with every parameter perturbed (so that a gain of 1 that is not
loaded shows), an input, and the network's output in float32 and in float64. The 2022 release adds 1e-3 to variances in
every dtype but float32, so its float64 output is that of another network: see tests/test_torch_ref.py.

The second writes torch_releases.safetensors: what each layout's releases answer to one input, with weights that
`weights_of` makes from their names.
"""

import importlib
import sys
import types
import zlib
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from safetensors.numpy import save_file

HERE = Path(__file__).parent
CASES = {"torch_2_3": {"self_condition": True}, "torch_2022": {}}
DIFFUSION = {  # the library's defaults in 2.3, its other settings in 2022
    "torch_2_3": {},
    "torch_2022": {"timesteps": 100, "objective": "pred_noise", "beta_schedule": "cosine"},
}


RELEASES = (  # the first and the last of every layout
    "0.28.0", "1.6.4", "1.7.0", "1.7.1", "1.7.2", "1.7.3", "1.7.4", "1.7.7", "1.8.0", "1.8.15", "1.9.0", "1.11.1",
    "2.0.0", "2.3.4",
)  # fmt: skip
SMALL = {"dim": 8, "dim_mults": (1, 2), "channels": 1, "self_condition": True}


def weights_of(shapes: dict) -> dict:
    """A trained network's sort of weights, float32, from names and shapes: no gain is 1 and no bias 0."""
    state = {}
    for name, shape in shapes.items():
        value = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith((".g", ".norm.weight")):
            value = 1 + 0.3 * value
        elif len(shape) > 1 and not name.endswith("mem_kv"):
            value = value / np.sqrt(np.prod(shape[1:]))
        state[name] = value.astype(np.float32)
    return state


def question() -> tuple:
    """x, t and the previous estimate that every release is asked about; the image is not square."""
    rng = np.random.default_rng(0)
    x, cond = (rng.standard_normal((2, 1, 4, 6)).astype(np.float32) for _ in range(2))
    return x, np.array([3, 700], np.int32), cond


def options_of(release: str) -> dict:
    """What a release's defaults leave out: those of 1.8.0 to 1.9.0 are for four stages."""
    return {"full_attn": (False, True)} if release.startswith("1.8.") or release == "1.9.0" else {}


def make_releases(folder: str) -> None:
    """Writes torch_releases.safetensors: the answer of every release in ``folder``."""
    answers = {}
    for release in RELEASES:
        unet = library(f"{folder}/{release}").Unet(**SMALL, **options_of(release))
        shapes = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
        unet.load_state_dict({name: torch.from_numpy(value) for name, value in weights_of(shapes).items()})
        x, t, cond = (torch.from_numpy(value) for value in question())
        with torch.no_grad():
            answers[release] = unet(x, t.long(), cond).numpy()
    save_file(answers, HERE / "torch_releases.safetensors")


def library(path: str):
    """The library's main module from an unpacked wheel, without the packages that only its Trainer needs."""
    absent = "torchvision torchvision.transforms torchvision.utils ema_pytorch accelerate pytorch_fid"
    for name in (*absent.split(), "pytorch_fid.inception", "pytorch_fid.fid_score"):
        sys.modules[name] = MagicMock()
    for name in [name for name in sys.modules if name.startswith("denoising_diffusion_pytorch")]:
        del sys.modules[name]
    package = types.ModuleType("denoising_diffusion_pytorch")
    package.__path__ = [f"{path}/denoising_diffusion_pytorch"]
    sys.modules["denoising_diffusion_pytorch"] = package
    return importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")


def make(name: str, path: str) -> None:
    """Writes ``name``.safetensors from the library at ``path``."""
    module = library(path)
    torch.manual_seed(0)
    unet = module.Unet(8, dim_mults=(1, 2), channels=1, **CASES[name])
    diffusion = module.GaussianDiffusion(unet, image_size=8, **DIFFUSION[name])
    with torch.no_grad():
        for parameter in diffusion.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([0, 37, 99])
    state = {key: value.numpy().copy() for key, value in diffusion.state_dict().items()}
    with torch.no_grad():
        y32 = unet(x, t).numpy()
        unet.double()
        torch.set_default_dtype(torch.float64)  # the time frequencies too
        y64 = unet(x.double(), t.double()).numpy()
        torch.set_default_dtype(torch.float32)
    extra = {"test.x": x.numpy(), "test.t": t.numpy().astype(np.int32), "test.y32": y32, "test.y64": y64}
    save_file({**state, **extra}, HERE / f"{name}.safetensors")


if __name__ == "__main__":
    if sys.argv[1] == "releases":
        make_releases(sys.argv[2])
    else:
        for case, source in zip(CASES, sys.argv[1:], strict=True):
            make(case, source)
