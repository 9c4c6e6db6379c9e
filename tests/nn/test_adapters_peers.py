"""LoRA against peft and diffusers, where they are installed: outputs, gradients, and every format of a file."""

import json
import logging

import numpy as np
import pytest

from tests.nn.trained import trained
from tests.storage.test_lora_files import FORMATS, put

QKVO = ("to_q", "to_k", "to_v", "to_out.0")
ALL = (*QKVO, "conv1", "proj_in")


@pytest.fixture(autouse=True)
def _peers():
    """Not at the top: every process would import them to collect its tests."""
    for name in ("torch", "peft", "diffusers"):
        pytest.importorskip(name)


@pytest.fixture
def net(mindspore):
    """A convolution of stride 2, one of 1x1 and an attention over the pixels, under diffusers' names."""
    from tests.nn.small_attention import SmallBlock

    return SmallBlock(np.random.default_rng(3))


@pytest.fixture
def image(mindspore, rng):
    """Of no equal sides."""
    return mindspore.Tensor(rng.standard_normal((2, 3, 6, 10), dtype=np.float32))


class Pipeline:
    """What diffusers asks of one to load a LoRA: its two networks, here ``unet`` alone."""

    def __new__(cls, unet):
        import torch
        from diffusers.loaders import StableDiffusionLoraLoaderMixin

        class Loads(StableDiffusionLoraLoaderMixin):
            hf_device_map = None
            components = {"unet": unet}  # noqa: RUF012

        pipeline = Loads()
        pipeline.unet, pipeline.text_encoder = unet, torch.nn.Identity()
        return pipeline


def twin_of(net):
    """The network in PyTorch, with the same weights, as diffusers' loaders take one."""
    import torch
    from diffusers.loaders.peft import PeftAdapterMixin

    from ms_ddpm.nn.adapters import base_parameters
    from tests.nn.small_attention import torch_twin

    twin = torch_twin()
    twin.load_state_dict({name: torch.from_numpy(p.asnumpy().copy()) for name, p in base_parameters(net).items()})
    twin.__class__ = type("Unet", (type(twin), PeftAdapterMixin), {})
    return twin


def assert_close(ours, theirs, share=1e-5):
    theirs = theirs.detach().numpy()
    worst = np.abs(ours.asnumpy() - theirs).max() / np.abs(theirs).max()
    assert worst < share, worst


def as_torch(image):
    import torch

    return torch.from_numpy(image.asnumpy().copy())


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_what_diffusers_gives(name, net, image, rng, tmp_path):
    from ms_ddpm.nn.adapters import Adapters, weight_shapes
    from ms_ddpm.storage import lora_files

    adapters = Adapters(net)
    alpha = 6.0 if name == "kohya" else 3.0  # the others say none, and it is the rank
    factors = trained(adapters, "made", rng, rank=3, alpha=alpha)
    adapters.unload()
    base = net(image)
    file = put(tmp_path / "pytorch_lora_weights.safetensors", FORMATS[name]({"unet": factors}))
    adapters.load("read", lora_files.read(file, {"unet": weight_shapes(net)})["unet"])
    twin = twin_of(net)
    if name == "without prefix":  # which diffusers passes over with a warning
        file = put(file, FORMATS["processors"]({"unet": factors}))
    Pipeline(twin).load_lora_weights(str(tmp_path), weight_name=file.name)
    theirs = twin(as_torch(image))
    assert_close(net(image), theirs)
    assert np.abs(base.asnumpy() - theirs.detach().numpy()).max() > 0.01 * float(theirs.detach().abs().max())


def test_what_is_written_diffusers_reads(net, image, rng, tmp_path):
    """With ranks and alphas that differ, which the header says."""
    from ms_ddpm.nn.adapters import Adapters
    from ms_ddpm.storage import lora_files

    adapters = Adapters(net)
    made = trained(adapters, "made", rng, rank=3, alpha=5.0, targets=ALL)
    adapters.unload()
    parts = dict(enumerate(made.items()))
    mixed = {
        path: factors._replace(down=factors.down[:2], up=factors.up[:, :2], alpha=7.0) if i % 3 == 1 else factors
        for i, (path, factors) in parts.items()
    }
    adapters.load("mixed", mixed)
    lora_files.write(tmp_path / lora_files.NAME, {"unet": adapters.factors("mixed")})
    twin = twin_of(net)
    Pipeline(twin).load_lora_weights(str(tmp_path), weight_name=lora_files.NAME)
    assert_close(net(image), twin(as_torch(image)))


def test_two_adapters_at_once_are_theirs_and_so_are_their_gradients(mindspore, net, image, rng, tmp_path):
    import torch

    from ms_ddpm.nn.adapters import Adapters
    from ms_ddpm.storage import lora_files

    adapters, twin, given = Adapters(net), twin_of(net), {"style": 0.7, "pokemon": -1.6}
    pipeline = Pipeline(twin)
    for (name, scale), (rank, alpha) in zip(given.items(), ((3, 5.0), (2, 2.0)), strict=True):
        trained(adapters, name, rng, rank=rank, alpha=alpha, targets=ALL, scale=scale)
        lora_files.write(tmp_path / f"{name}.safetensors", {"unet": adapters.factors(name)})
        pipeline.load_lora_weights(str(tmp_path), weight_name=f"{name}.safetensors", adapter_name=name)
    twin.set_adapters(list(given), list(given.values()))
    twin.requires_grad_(True)
    theirs, ours = twin(as_torch(image)), net(image)
    assert_close(ours, theirs)

    cotangent = rng.standard_normal(ours.shape, dtype=np.float32)
    (theirs * torch.from_numpy(cotangent)).sum().backward()
    parameters = net.trainable_params()

    def loss(x):
        return (net(x) * mindspore.Tensor(cotangent)).sum()

    _, gradients = mindspore.value_and_grad(loss, None, parameters)(image)
    modules = dict(twin.named_modules())
    assert len(parameters) == 2 * 2 * len(ALL)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        _, name, *path, part = parameter.name.split(".")
        layer = modules[".".join(path)]
        assert_close(gradient, (layer.lora_A if part == "down" else layer.lora_B)[name].weight.grad, 1e-4)


@pytest.mark.parametrize("name", ["final", "kohya"])
def test_the_names_of_real_networks_are_found(name, rng, tmp_path):
    """Of diffusers' U-Net and transformers' text encoder, each layer's numbers and alpha / rank as they load them."""
    transformers = pytest.importorskip("transformers")
    import torch
    from diffusers import UNet2DConditionModel

    from ms_ddpm.nn.adapters import TARGETS, factor_shapes
    from ms_ddpm.storage import lora_files
    from ms_ddpm.storage.lora_files import Factors

    transformers.logging.set_verbosity_error()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(4, 8), layers_per_block=1, cross_attention_dim=6, norm_num_groups=2,
        attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    config = transformers.CLIPTextConfig(
        vocab_size=50, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=9, bos_token_id=48, eos_token_id=49,
    )  # fmt: skip
    pipeline = Pipeline(unet)
    pipeline.text_encoder = transformers.CLIPTextModel(config)
    ends = {"unet": TARGETS, "text_encoder": ("q_proj", "k_proj", "v_proj", "out_proj")}
    layers, networks = {}, {}
    for network, targets in ends.items():
        layers[network] = {
            path: tuple(module.weight.shape) for path, module in getattr(pipeline, network).named_modules()
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
        }  # fmt: skip
        networks[network] = {
            path: Factors(*(rng.standard_normal(s, dtype=np.float32) for s in factor_shapes(shape, 3)), 6.0)
            for path, shape in layers[network].items() if path.endswith(targets)
        }  # fmt: skip
    said = {} if name == "kohya" else {"lora_adapter_metadata": json.dumps({
        f"{network}.{key}": value for network, targets in ends.items()
        for key, value in (("r", 3), ("lora_alpha", 6), ("target_modules", targets))
    })}  # fmt: skip
    old = {
        "unet": networks["unet"],  # the published files have text_model, which transformers 5 has not
        "text_encoder": {f"text_model.{path.removeprefix('text_model.')}": f for path, f in
                         networks["text_encoder"].items()},
    }  # fmt: skip
    file = put(tmp_path / "pytorch_lora_weights.safetensors", FORMATS[name](old), **said)
    found = lora_files.read(file, layers)
    pipeline.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="theirs")
    count = 0
    for network in ends:
        for path, module in getattr(pipeline, network).named_modules():
            if hasattr(module, "lora_A"):
                ours = found[network][path]
                np.testing.assert_array_equal(module.lora_A["theirs"].weight.detach().numpy(), ours.down)
                np.testing.assert_array_equal(module.lora_B["theirs"].weight.detach().numpy(), ours.up)
                assert module.scaling["theirs"] == ours.alpha / 3 == 2
                count += 1
    assert count == sum(map(len, found.values())) == 40


def test_a_new_adapter_starts_as_pefts_does(mindspore):
    """The deviation of A over 40,000 numbers: peft's "gaussian", which diffusers' scripts ask for."""
    import peft
    import torch
    from mindspore import nn

    from ms_ddpm.nn.adapters import Adapters
    from ms_ddpm.nn.layers import Linear

    ours = nn.SequentialCell(Linear(10_000, 3, rng=np.random.default_rng(0)))
    adapters = Adapters(ours)
    adapters.add("new", rank=4, targets=("0",), rng=np.random.default_rng(1))
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["0"], init_lora_weights="gaussian")
    theirs = peft.inject_adapter_in_model(config, torch.nn.Sequential(torch.nn.Linear(10_000, 3)))[0]
    std = adapters.factors("new")["0"].down.std() / float(theirs.lora_A["default"].weight.std())
    assert abs(std - 1) < 0.02
    assert not theirs.lora_B["default"].weight.any()
