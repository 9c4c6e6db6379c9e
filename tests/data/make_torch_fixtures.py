"""Makes torch_*.safetensors: what denoising-diffusion-pytorch itself computes, for the conversion tests.

    pip download --no-deps denoising-diffusion-pytorch==2.3.0     (and ==0.30.0), unpack each wheel, then
    python tests/data/make_torch_fixtures.py UNPACKED_2_3 UNPACKED_0_30

Each file holds the state of a small GaussianDiffusion with every parameter perturbed (so that a gain of 1 that is not
loaded shows), an input, and the network's output in float32 and in float64. The 2022 release adds 1e-3 to variances in
every dtype but float32, so its float64 output is that of another network: see tests/test_torch_ref.py.
"""

import importlib
import sys
import types
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
    for case, source in zip(CASES, sys.argv[1:], strict=True):
        make(case, source)
