"""One network at its full size in a process of its own, by PyTorch or by us, with what it took.

  python -m tests.full_size_run torch unet FOLDER      diffusers' own: random weights are written there, and its results
  python -m tests.full_size_run ours unet FOLDER       reads them, and writes its own results beside

The last line of standard output is JSON: parameters, tensors, seconds of each part, and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

STAGES = 4
CLASSES = {  # whose original is where, and what it is called there and here
    "text_encoder": ("transformers", "CLIPTextModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "cifar10": ("diffusers", "UNet2DModel"),
}
CONFIGS = {  # Stable Diffusion 1's, and google/ddpm-cifar10-32's, where they are not the classes' own
    "text_encoder": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "vae": {
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * STAGES,
        "up_block_types": ("UpDecoderBlock2D",) * STAGES,
    },
    "unet": {"sample_size": 64, "cross_attention_dim": 768},
    "cifar10": {
        "sample_size": 32,
        "block_out_channels": (128, 256, 256, 256),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": None,
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
    },
}
RESULTS = {"torch": "torch.npz", "ours": "ours.npz"}


def inputs(name: str) -> dict[str, np.ndarray]:
    """What a network is called with."""
    rng = np.random.default_rng(7)
    if name == "text_encoder":
        return {"tokens": rng.integers(0, 49408, (2, 77)).astype(np.int32)}
    if name == "vae":
        images = rng.standard_normal((1, 3, 64, 64), dtype=np.float32)
        return {"images": images, "latents": rng.standard_normal((1, 4, 8, 8), dtype=np.float32)}
    if name == "unet":
        x, words = rng.standard_normal((2, 4, 8, 8)), rng.standard_normal((2, 77, 768))
        return {"x": x.astype(np.float32), "t": np.array([981, 17], np.float32), "words": words.astype(np.float32)}
    x = rng.standard_normal((2, 3, 32, 32), dtype=np.float32)
    return {
        "x": x,
        "t": np.array([981, 17], np.float32),
        "cotangent": rng.standard_normal(x.shape, dtype=np.float32),
        "x_T": rng.standard_normal(x.shape, dtype=np.float32),
        "noise": rng.standard_normal(x.shape, dtype=np.float32),
    }


def peak() -> int:
    """The largest resident memory of this process so far, in bytes.

    Not ``getrusage``: what it says begins with the memory of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024


class Clock(dict):
    """Seconds by name of what was done."""

    def of(self, name: str, function: Callable, *args, **kwargs):
        """The result of ``function``, whose seconds are kept."""
        began = time.perf_counter()
        found = function(*args, **kwargs)
        self[name] = round(time.perf_counter() - began, 2)
        return found


# --- PyTorch --------------------------------------------------------------------------------------------------------


def by_torch(name: str, folder: Path, clock: Clock) -> tuple[int, int, dict[str, np.ndarray]]:
    """(parameters, tensors, results) of the peer's network, whose weights are then in ``folder``."""
    import importlib

    import torch

    peer, kind = CLASSES[name]
    module = importlib.import_module(peer)
    torch.manual_seed(0)
    if name == "text_encoder":
        config = module.CLIPTextConfig(**CONFIGS[name])
        network = clock.of("made", getattr(module, kind), config).eval()
    else:
        network = clock.of("made", getattr(module, kind), **CONFIGS[name]).eval()
    with torch.no_grad():  # norms begin as 1 and 0, with which much would be right by chance
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn(parameter.shape)
    given = {key: torch.from_numpy(value) for key, value in inputs(name).items()}
    with torch.set_grad_enabled(name == "cifar10"):
        found = clock.of("computed", OF_TORCH[name], network, **given)
    parameters = list(network.parameters())
    clock.of("saved", network.save_pretrained, folder)
    arrays = {key: value.detach().numpy() for key, value in found.items()}
    return sum(p.numel() for p in parameters), len(parameters), arrays


def _torch_text(network, tokens):
    return {"vectors": network(tokens.long()).last_hidden_state}


def _torch_vae(network, images, latents):
    return {
        "moments": network.encode(images).latent_dist.parameters,
        "decoded": network.decode(latents).sample,
    }


def _torch_unet(network, x, t, words):
    return {"output": network(x, t, words).sample}


def _torch_cifar10(network, x, t, cotangent, x_T, noise):
    import diffusers
    import torch

    output = network(x, t).sample
    (output * cotangent).sum().backward()
    gradients = {f"gradient {name}": weight.grad for name, weight in network.named_parameters()}
    scheduler = diffusers.DDPMScheduler()
    scheduler.set_timesteps(2)
    sample = x_T
    diffusers.schedulers.scheduling_ddpm.randn_tensor = lambda *args, **kwargs: noise
    with torch.no_grad():
        for time in scheduler.timesteps:
            sample = scheduler.step(network(sample, time).sample, time, sample).prev_sample
    return {"output": output, "drawn": (sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1), **gradients}


OF_TORCH = {"text_encoder": _torch_text, "vae": _torch_vae, "unet": _torch_unet, "cifar10": _torch_cifar10}

# --- ours -----------------------------------------------------------------------------------------------------------


def by_us(name: str, folder: Path, clock: Clock) -> tuple[int, int, dict[str, np.ndarray]]:
    """(parameters, tensors, results) of our network with the weights of ``folder``."""
    from ms_ddpm.devices import runtime

    runtime.setup("CPU")
    from mindspore import Tensor

    import ms_ddpm

    network = clock.of("read", getattr(ms_ddpm, CLASSES[name][1]).from_pretrained, folder)
    given = {key: Tensor(value) for key, value in inputs(name).items()}
    found = OF_OURS[name](network, clock, **given)
    return network.num_parameters(), len(list(network.get_parameters())), found


def _twice(clock: Clock, name: str, graph: Callable, *args):
    """The result of ``graph`` on the host, called for the first time, which compiles it, and again."""

    def computed():
        return graph(*args).asnumpy()

    clock.of(f"{name}, first call", computed)
    return clock.of(name, computed)


def _our_text(network, clock, tokens):
    from ms_ddpm.devices.runtime import compiled
    from ms_ddpm.pipelines.stable_diffusion import _vectors

    return {"vectors": _twice(clock, "computed", compiled(_vectors(network)), tokens)}


def _our_vae(network, clock, images, latents):
    from ms_ddpm.devices.runtime import compiled
    from ms_ddpm.pipelines.stable_diffusion import _decoded, _moments

    return {
        "moments": _twice(clock, "encoded", compiled(_moments(network)), images),
        "decoded": _twice(clock, "decoded", compiled(_decoded(network)), latents),
    }


def _our_unet(network, clock, x, t, words):
    from ms_ddpm.devices.runtime import compiled
    from ms_ddpm.pipelines.stable_diffusion import _unguided

    return {"output": _twice(clock, "computed", compiled(_unguided(network)), x, t, words)}


def _our_cifar10(network, clock, x, t, cotangent, x_T, noise):
    import mindspore as ms

    from ms_ddpm import DDPMPipeline, DDPMScheduler
    from ms_ddpm.devices.runtime import compiled

    def loss(x, t, cotangent):
        output = network(x, t)
        return (output * cotangent).sum(), output

    weights = network.trainable_params()
    both = compiled(ms.value_and_grad(loss, None, weights, has_aux=True))

    def computed():
        (_, output), gradients = both(x, t, cotangent)
        return [output.asnumpy(), *(one.asnumpy() for one in gradients)]

    clock.of("with gradients, first call", computed)
    output, *gradients = clock.of("with gradients", computed)
    pipe = DDPMPipeline(network, DDPMScheduler())
    pipe.set_progress_bar_config(disable=True)
    tape = [x_T.asnumpy(), noise.asnumpy()]
    drawn = clock.of("two steps, first call", pipe, 2, num_inference_steps=2, output_type="np", noise=tape).images
    clock.of("two steps", pipe, 2, num_inference_steps=2, output_type="np", noise=tape)
    named = {f"gradient {weight.name}": one for weight, one in zip(weights, gradients, strict=True)}
    return {"output": output, "drawn": drawn, **named}


OF_OURS = {"text_encoder": _our_text, "vae": _our_vae, "unet": _our_unet, "cifar10": _our_cifar10}
SIDES = {"torch": by_torch, "ours": by_us}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=tuple(SIDES))
    parser.add_argument("name", choices=tuple(CLASSES))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    clock = Clock()
    parameters, tensors, arrays = SIDES[args.side](args.name, args.folder, clock)
    most = peak()  # before the results are written
    np.savez(args.folder / RESULTS[args.side], **arrays)
    print(json.dumps({"parameters": parameters, "tensors": tensors, "seconds": clock, "peak": most}))


if __name__ == "__main__":
    main()
