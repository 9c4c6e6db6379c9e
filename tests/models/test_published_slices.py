"""Our blocks give the numbers that diffusers published of its own.

The numbers, and the seeds, sizes and tolerances behind them, are those of diffusers' tests: of blocks
tests/models/unets/test_unet_2d_blocks.py with test_unet_blocks_common.py, of layers tests/models/test_layers_utils.py,
of pipelines tests/pipelines/{ddpm,ddim}. They tell what the library computed when they were written down, whatever
version is installed here: of it only the first weights are taken, which come from PyTorch's generator.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

BATCH, WIDTH, SIDE, TIME = 4, 32, 32, 128  # of the blocks' images and their time
DIGITS = 1e-4  # the published numbers have four, and the library itself is as far from them


# --- what the blocks are given --------------------------------------------------------------------------------------


def image_and_time():
    generator = torch.manual_seed(0)
    image = torch.randn(BATCH, WIDTH, SIDE, SIDE, generator=generator)
    return image, torch.randn(BATCH, TIME, generator=generator)


def skipped():
    """What a block on the way up is given from the way down."""
    return torch.randn(BATCH, WIDTH, SIDE, SIDE, generator=torch.manual_seed(1))


def theirs(name, **more):
    """diffusers' block ``name``, made after its inputs were drawn, as there."""
    from diffusers.models.unets import unet_2d_blocks

    return getattr(unet_2d_blocks, name)(in_channels=WIDTH, **more).eval()


def with_weights(ours, network):
    """Our Cell with all the weights of PyTorch's ``network``."""
    from ms_ddpm.ops.assign import set_value

    state = {name: value.numpy() for name, value in network.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.startswith("Conv2d_0")}  # "conv" by an old name
    own = dict(ours.parameters_and_names())
    assert own.keys() == state.keys()
    for name, parameter in own.items():
        set_value(parameter, state[name])
    return ours


def tensor(value):
    from mindspore import Tensor

    return Tensor(value.numpy())


def corner(array):
    """What is published: the last three rows and columns of the first image's last channel."""
    return array.asnumpy()[0, -1, -3:, -3:].reshape(-1)


# --- blocks ---------------------------------------------------------------------------------------------------------


def timed(dim, dim_out):
    from ms_ddpm.nn.blocks_2d import ResnetBlock2D

    return ResnetBlock2D(dim, dim_out, TIME, rng=0)


def timeless(dim, dim_out):
    from ms_ddpm.nn.blocks_2d import ResnetBlock2D

    return ResnetBlock2D(dim, dim_out, rng=0)


def of_pixels(dim):
    """Heads of one channel, which is those blocks' default."""
    from ms_ddpm.nn.transformer_2d import ImageAttention

    return ImageAttention(dim, dim, rng=0)


def of_words(dim):
    """One head, which is those blocks' default; without words the pixels stand in their place."""
    from ms_ddpm.nn.transformer_2d import Transformer2DModel

    return Transformer2DModel(dim, 1, 32, rng=0)


def halved(dim):
    from ms_ddpm.nn.blocks_2d import Downsample2D

    return Downsample2D(dim, rng=0)


def doubled(dim):
    from ms_ddpm.nn.blocks_2d import Upsample2D

    return Upsample2D(dim, rng=0)


def down(name, attention, block=timed, **more):
    from ms_ddpm.nn.stages_2d import DownStage

    image, time = image_and_time()
    if block is timed:
        more["temb_channels"] = TIME
    network = theirs(name, out_channels=WIDTH, **more)
    ours = with_weights(DownStage(WIDTH, WIDTH, 1, block, attention, halved), network)
    return ours(tensor(image), tensor(torch.nn.functional.silu(time)) if block is timed else None)[0]


def middle(name, attention, **more):
    from ms_ddpm.nn.stages_2d import MidStage

    image, time = image_and_time()
    ours = with_weights(MidStage(WIDTH, timed, attention), theirs(name, temb_channels=TIME, **more))
    return ours(tensor(image), tensor(torch.nn.functional.silu(time)))


def up(name, attention, **more):
    from ms_ddpm.nn.stages_2d import UpStage

    image, time = image_and_time()
    skip = skipped()
    network = theirs(name, out_channels=WIDTH, prev_output_channel=WIDTH, temb_channels=TIME, **more)
    ours = with_weights(UpStage(WIDTH, WIDTH, [WIDTH], timed, attention, doubled), network)
    return ours(tensor(image), (tensor(skip),), tensor(torch.nn.functional.silu(time)))


def decoder(name):
    from ms_ddpm.nn.stages_2d import DecoderStage

    image = torch.randn(BATCH, WIDTH, SIDE, SIDE, generator=torch.manual_seed(0))
    network = theirs(name, out_channels=WIDTH)
    return with_weights(DecoderStage(WIDTH, WIDTH, 1, timeless, doubled), network)(tensor(image))


def encoder(name):
    from ms_ddpm.nn.stages_2d import DownStage

    image = torch.randn(BATCH, WIDTH, SIDE, SIDE, generator=torch.manual_seed(0))
    network = theirs(name, out_channels=WIDTH)
    return with_weights(DownStage(WIDTH, WIDTH, 1, timeless, None, halved), network)(tensor(image))[0]


WORDS = {"cross_attention_dim": 32}
BLOCKS = {
    "DownBlock2D": (
        lambda name: down(name, None),
        [-0.0232, -0.9869, 0.8054, -0.0637, -0.1688, -1.4264, 0.4470, -1.3394, 0.0904],
    ),
    "AttnDownBlock2D": (
        lambda name: down(name, of_pixels),
        [0.0636, 0.8964, -0.6234, -1.0131, 0.0844, 0.4935, 0.3437, 0.0911, -0.2957],
    ),
    "CrossAttnDownBlock2D": (
        lambda name: down(name, of_words, **WORDS),
        [0.2238, -0.7396, -0.2255, -0.3829, 0.1925, 1.1665, 0.0603, -0.7295, 0.1983],
    ),
    "DownEncoderBlock2D": (
        encoder,
        [1.1102, 0.5302, 0.4872, -0.0023, -0.8042, 0.0483, -0.3489, -0.5632, 0.7626],
    ),
    "UNetMidBlock2D": (
        lambda name: middle(name, of_pixels),
        [-0.1062, 1.7248, 0.3494, 1.4569, -0.0910, -1.2421, -0.9984, 0.6736, 1.0028],
    ),
    "UNetMidBlock2DCrossAttn": (
        lambda name: middle(name, of_words, **WORDS),
        [0.0187, 2.4220, 0.4484, 1.1203, -0.6121, -1.5122, -0.8270, 0.7851, 1.8335],
    ),
    "UpBlock2D": (
        lambda name: up(name, None),
        [-0.2041, -0.4165, -0.3022, 0.0041, -0.6628, -0.7053, 0.1928, -0.0325, 0.0523],
    ),
    "AttnUpBlock2D": (
        lambda name: up(name, of_pixels),
        [0.0979, 0.1326, 0.0021, 0.0659, 0.2249, 0.0059, 0.1132, 0.5952, 0.1033],
    ),
    "CrossAttnUpBlock2D": (
        lambda name: up(name, of_words, **WORDS),
        [-0.1403, -0.3515, -0.0420, -0.1425, 0.3167, 0.5094, -0.2181, 0.5931, 0.5582],
    ),
    "UpDecoderBlock2D": (
        decoder,
        [0.4404, 0.1998, -0.9886, -0.3320, -0.3128, -0.7034, -0.6955, -0.2338, -0.3137],
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block(mindspore, name):
    computed, published = BLOCKS[name]
    np.testing.assert_allclose(corner(computed(name)), published, atol=DIGITS)


# --- layers ---------------------------------------------------------------------------------------------------------


def upsampled():
    from diffusers.models import resnet

    torch.manual_seed(0)
    image = torch.randn(1, 32, 32, 32)
    return with_weights(doubled(32), resnet.Upsample2D(32, use_conv=True))(tensor(image))


def nearest():
    from ms_ddpm.ops import by_operators

    torch.manual_seed(0)
    return by_operators.upsample()(tensor(torch.randn(1, 32, 32, 32)))


def downsampled():
    from diffusers.models import resnet

    torch.manual_seed(0)
    image = torch.randn(1, 32, 64, 64)
    return with_weights(halved(32), resnet.Downsample2D(32, use_conv=True))(tensor(image))


def residual():
    from diffusers.models import resnet

    torch.manual_seed(0)
    image, time = torch.randn(1, 32, 64, 64), torch.randn(1, TIME)
    network = resnet.ResnetBlock2D(in_channels=32, temb_channels=TIME)
    return with_weights(timed(32, 32), network)(tensor(image), tensor(torch.nn.functional.silu(time)))


def transformer():
    from diffusers import Transformer2DModel

    from ms_ddpm.nn import transformer_2d

    torch.manual_seed(0)
    image = torch.randn(1, 64, 64, 64)
    network = Transformer2DModel(
        in_channels=64, num_attention_heads=2, attention_head_dim=32, dropout=0.0, cross_attention_dim=64
    )
    ours = with_weights(transformer_2d.Transformer2DModel(64, 2, 64, rng=0), network)
    return ours(tensor(image), tensor(torch.randn(1, 4, 64)))


LAYERS = {
    "Upsample2D, alone": (
        nearest,
        [-0.2173, -1.2079, -1.2079, 0.2952, 1.1254, 1.1254, 0.2952, 1.1254, 1.1254],
    ),
    "Upsample2D": (
        upsampled,
        [0.7145, 1.3773, 0.3492, 0.8448, 1.0839, -0.3341, 0.5956, 0.1250, -0.4841],
    ),
    "Downsample2D": (
        downsampled,
        [0.9267, 0.5878, 0.3337, 1.2321, -0.1191, -0.3984, -0.7532, -0.0715, -0.3913],
    ),
    "ResnetBlock2D": (
        residual,
        [-1.9010, -0.2974, -0.8245, -1.3533, 0.8742, -0.9645, -2.0584, 1.3387, -0.4746],
    ),
    "Transformer2DModel": (
        transformer,
        [0.0143, -0.6909, -2.1547, -1.8893, 1.4097, 0.1359, -0.2521, -1.3359, 0.2598],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(mindspore, name):
    computed, published = LAYERS[name]
    np.testing.assert_allclose(corner(computed()), published, atol=DIGITS)


@pytest.mark.parametrize(
    ("options", "published"),
    [
        (
            {"flip_sin_to_cos": False, "freq_shift": 1},
            [0.9646, 0.9804, 0.9892, 0.9615, 0.9787, 0.9882, 0.9582, 0.9769, 0.9872],
        ),
        (
            {"flip_sin_to_cos": True, "freq_shift": 0},
            [0.3019, 0.2280, 0.1716, 0.3146, 0.2377, 0.1790, 0.3272, 0.2474, 0.1864],
        ),
    ],
)
def test_the_embedding_of_a_time(mindspore, options, published):
    from ms_ddpm.nn.blocks_2d import Timesteps

    found = Timesteps(64, **options)(mindspore.Tensor(np.arange(128, dtype=np.float32)))
    np.testing.assert_allclose(found.asnumpy()[23:26, 47:50].reshape(-1), published, atol=DIGITS)


# --- pipelines ------------------------------------------------------------------------------------------------------


def drawn(pipeline, scheduler, **options):
    """The last three rows and columns of the blue of what two steps draw from PyTorch's noise."""
    import diffusers

    import ms_ddpm

    options |= {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**options)
    unet = with_weights(ms_ddpm.UNet2DModel(**options, rng=0, use_kernels=False), network)
    pipe = getattr(ms_ddpm, pipeline)(unet, getattr(ms_ddpm, scheduler)())
    pipe.set_progress_bar_config(disable=True)
    side, generator = options["sample_size"], torch.Generator().manual_seed(0)
    noise = [torch.randn(1, 3, side, side, generator=generator).numpy() for _ in range(2)]
    return pipe(1, num_inference_steps=2, output_type="np", noise=noise).images[0, -3:, -3:, -1].reshape(-1)


def test_a_picture_by_ddpm(mindspore):
    found = drawn("DDPMPipeline", "DDPMScheduler", block_out_channels=(32, 64), layers_per_block=2, sample_size=32)
    published = [0.9956, 0.5785, 0.4675, 0.9930, 0.0, 1.0, 0.0012, 0.00026, 0.00051]
    np.testing.assert_allclose(found, published, atol=1e-3)


def test_a_picture_by_ddim(mindspore):
    found = drawn(
        "DDIMPipeline", "DDIMScheduler", block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=4, sample_size=8
    )
    published = [0.0, 0.9979, 0.0, 0.9999, 0.9986, 0.9991, 0.00071, 0.0, 0.0]
    np.testing.assert_allclose(found, published, atol=1e-3)
