"""Bugs in code that nobody here wrote, each with the pair by which the plain command finds it.

What lvyufeng's denoising-diffusion-mindspore does wrong is written again here in a few lines, since it is no package;
everything else is called where it stands.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pairs import MINDONE, MINDSPORE, MINT, Made, Pair, _cell, _diffusers, _of, _torch, x
from .schedulers import ZERO_SNR, pair_of

LVYUFENG = "denoising-diffusion-mindspore"


@dataclass(frozen=True)
class Bug:
    """What is wrong where.

    Args:
        pair: that shows it.
        place: file and line in their package, or the function.
        cause: in a few words.
        intent: where it says that it should be otherwise.
        known: whether this project knew it before its harness was pointed at it.
    """

    pair: Pair
    place: str
    cause: str
    intent: str
    known: bool = False


def _torch_function(function: Callable) -> Made:
    """A function of tensors, which is given torch first, as a module."""

    def make() -> Any:
        import torch

        class Computed(torch.nn.Module):
            def forward(self, *args: torch.Tensor) -> Any:
                return function(torch, *args)

        return Computed()

    return make


def _mindspore_function(function: Callable) -> Made:
    """The same as a cell; the function is given mindspore first."""

    def make() -> Any:
        import mindspore

        class Computed(mindspore.nn.Cell):
            def construct(self, *args: mindspore.Tensor) -> Any:
                return function(mindspore, *args)

        return Computed()

    return make


ONCE = {"modes": ("pynative",)}


def _ms(name: str, place: str, cause: str, intent: str, original: Made, port: Made, *inputs: Any, known: bool = False):
    project = MINT if place.startswith("mint") else MINDSPORE
    return Bug(Pair(name, project, original, port, inputs, ONCE), place, cause, intent, known)


SAME = "documented as the function of that name, with PyTorch's formula"
WITH_NAN = x(5, 12).copy()
WITH_NAN[0, :3] = np.nan
PROBABLE = (1 / (1 + np.exp(-x(5, 12)))).astype(np.float32)
OTHER = x(12, 5).T.copy()
OF_MINDSPORE = (
    _ms("nn.SeLU", "nn.SeLU", "its gradient is another one where x < 0", SAME, _torch("SELU"), _cell("SeLU"), x(5, 12)),
    _ms("nn.KLDivLoss", "nn.KLDivLoss", "the gradient of the target is 0", SAME, _torch("KLDivLoss"),
        _cell("KLDivLoss"), x(5, 12), PROBABLE),
    _ms("nn.Upsample, bicubic", "nn.Upsample, ops.interpolate(mode='bicubic')",
        "a = -0.5, renormalised at the edges, where it is -0.75 with corners and in PyTorch", SAME,
        _torch("Upsample", size=(13, 11), mode="bicubic"), _cell("Upsample", size=(13, 11), mode="bicubic"),
        x(2, 3, 8, 8)),
    _ms("nn.Conv2dTranspose, output_padding", "nn/layer/conv.py, Conv2dTranspose._conv2d_transpose_pad",
        "rows and columns that output_padding adds are zeros instead of the convolution's", SAME,
        _torch("ConvTranspose2d", 4, 6, 3, stride=2, padding=1, output_padding=1),
        _cell("Conv2dTranspose", 4, 6, 3, stride=2, padding=1, output_padding=1, pad_mode="pad", has_bias=True),
        x(2, 4, 5, 5)),
    _ms("nn.ReLU of NaN", "nn.ReLU, ops.relu", "a NaN becomes 0: a run that has diverged goes on", "max(0, x)",
        _torch("ReLU"), _cell("ReLU"), WITH_NAN, known=True),
    _ms("mint.maximum of NaN", "mint.maximum", "a NaN is lost",
        "if one of the elements being compared is a NaN, then that element is returned",
        _torch_function(lambda torch, a, b: torch.maximum(a, b)),
        _mindspore_function(lambda ms, a, b: ms.mint.maximum(a, b)), WITH_NAN, OTHER, known=True),
    _ms("mint.clamp of NaN", "mint.clamp", "a NaN becomes a bound", "its formula leaves x where no bound is passed",
        _torch_function(lambda torch, a: torch.clamp(a, -1, 1)),
        _mindspore_function(lambda ms, a: ms.mint.clamp(a, -1, 1)), WITH_NAN),
    _ms("mint.expm1 near 0", "mint.expm1", "1 is subtracted from exp(x): no digit is left where the function is for",
        SAME, _torch_function(lambda torch, a: torch.expm1(a)),
        _mindspore_function(lambda ms, a: ms.mint.expm1(a)), 1e-3 * x(5, 12), known=True),
    _ms("mint.log1p near 0", "mint.log1p", "1 is added before the logarithm: no digit is left near 0", SAME,
        _torch_function(lambda torch, a: torch.log1p(a)),
        _mindspore_function(lambda ms, a: ms.mint.log1p(a)), 1e-4 * x(5, 12)),
    _ms("mint.tanh around 5", "mint.tanh, nn.Tanh", "beyond 5 it is taken for 1: 1e-4 off, and without a gradient",
        SAME, _torch_function(lambda torch, a: torch.tanh(a)),
        _mindspore_function(lambda ms, a: ms.mint.tanh(a)), 5 + 0.5 * x(5, 12)),
    _ms("nn.Mish of large numbers", "nn.Mish, ops.mish", "exp(x) overflows: from 45 on it is NaN", SAME, _torch("Mish"),
        _cell("Mish"), 30 * x(5, 12)),
    _ms("nn.LogSigmoid of large numbers", "nn.LogSigmoid, ops.logsigmoid", "exp(-x) overflows: -inf and NaN gradients",
        SAME, _torch("LogSigmoid"), _cell("LogSigmoid"), 60 * x(5, 12)),
    _ms("mint.cumprod's gradient at 0", "mint.cumprod", "its gradient divides by what was multiplied: NaN",
        SAME, _torch_function(lambda torch, a: torch.cumprod(a, 1)),
        _mindspore_function(lambda ms, a: ms.mint.cumprod(a, 1)), np.round(x(5, 12))),
    _ms("x ** 0's gradient at 0", "Tensor.__pow__, ops.pow", "0 times 0 ** -1 is NaN; the derivative of 1 is 0", SAME,
        _torch_function(lambda torch, a: a**0), _mindspore_function(lambda ms, a: a**0), np.round(x(5, 12))),
    _ms("ops.norm's gradient at 0", "ops.norm", "0 / 0 is NaN; PyTorch's is 0, a subgradient", SAME,
        _torch_function(lambda torch, a: torch.norm(a * 0, dim=1)),
        _mindspore_function(lambda ms, a: ms.ops.norm(a * 0, dim=1)), x(5, 12)),
    _ms("nn.RReLU in evaluation", "nn.RReLU", "slopes are drawn in evaluation as well, where they are to be the mean",
        "the paper that its documentation names", _torch("RReLU"), _cell("RReLU"), x(8, 20)),
    _ms("matmul of swapped axes", "Tensor.swapaxes, ops.matmul",
        "where both axes have one element its gradient raises in PyNative: perm of 3 for 4 axes", SAME,
        _torch_function(lambda torch, a, w: torch.matmul(a.swapaxes(1, 0), w)),
        _mindspore_function(lambda ms, a, w: ms.ops.matmul(a.swapaxes(1, 0), w)), x(1, 1, 16), x(16, 8)),
    _ms("nn.Upsample, bicubic with corners", "nn.Upsample, ops.interpolate(mode='bicubic')",
        "its weights are rounded to those of a table", SAME,
        _torch("Upsample", size=(11, 5), mode="bicubic", align_corners=True),
        _cell("Upsample", size=(11, 5), mode="bicubic", align_corners=True), x(2, 3, 8, 8)),
)  # fmt: skip


AFTER_AN_ERROR = """
import sys
import mindspore as ms

class Strict(ms.nn.Cell):
    def construct(self, x):
        return x

x, net = ms.Tensor([float(word) for word in sys.argv[1:]]), Strict()
for _ in range(2):
    try:
        ms.value_and_grad(lambda x: net(x, unexpected=1).sum())(x)
    except TypeError:
        pass
print(x[-1].item())
"""


def _last_after_an_error(values: np.ndarray) -> np.ndarray:
    """In a process of its own, which cannot be used afterwards."""
    command = [sys.executable, "-c", AFTER_AN_ERROR, *(repr(float(value)) for value in values)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise TypeError(done.stderr.strip().splitlines()[-1])
    return np.float32(done.stdout.split()[-1])


OF_MINDSPORE = (
    *OF_MINDSPORE,
    Bug(
        Pair("x[-1] after an error", MINDSPORE, _torch_function(lambda torch, x: x[-1]), lambda: _last_after_an_error,
             (x(5),)),
        "mindspore.value_and_grad in PyNative, Tensor.__getitem__",
        "where construct raised TypeError under value_and_grad, twice, no tensor takes an integer as index any more",
        "an index may be an integer, as the very message says",
    ),
)  # fmt: skip


# --- mindone ---------------------------------------------------------------------------------------------------------


def _chain(place: str, cause: str, intent: str, pair: Pair, known: bool = False) -> Bug:
    return Bug(pair, f"diffusers/schedulers/scheduling_{place}", cause, intent, known)


def _of_mindone(pair: Pair, place: str, cause: str, intent: str, known: bool = False) -> Bug:
    return Bug(Pair(pair.name, pair.project, pair.original, pair.port, pair.inputs, ONCE), place, cause, intent, known)


def _step_of_torch(name: str, **numbers: Any) -> Made:
    """Three steps of an optimizer on given gradients, as a function of weight and gradients."""

    def stepped(torch: Any, weight: Any, gradients: Any) -> Any:
        with torch.no_grad():
            kept = torch.nn.Parameter(weight.detach().clone())
            optimizer = getattr(torch.optim, name)([kept], **numbers)
        for gradient in gradients.detach():
            kept.grad = gradient.clone()
            optimizer.step()
        return kept.detach().clone()

    return _torch_function(stepped)


def _step_of_mindone(name: str, **numbers: Any) -> Callable:
    def make() -> Callable:
        def stepped(weight: np.ndarray, gradients: np.ndarray) -> np.ndarray:
            import mindspore as ms

            kept = ms.Parameter(ms.Tensor(weight), name="weight")
            optimizer = _of("mindone.trainers.optim", "create_optimizer")([kept], name=name, **numbers)
            for gradient in gradients:
                optimizer((ms.Tensor(gradient),))
            return kept.asnumpy()

        return stepped

    return make


def _optimizer(name: str, theirs: str, cause: str, intent: str, known: bool = False, **numbers: Any) -> Bug:
    pair = Pair(f"create_optimizer {name}", f"{MINDONE} (trainers)",
                _step_of_torch(theirs, lr=1e-3, eps=1e-6, **numbers),
                _step_of_mindone(name, lr=1e-3, eps=1e-6, **numbers),
                (x(4, 5), 1e-3 * x(3, 4, 5)))  # fmt: skip
    return Bug(pair, "trainers/optim.py", cause, intent, known)


def _trainer(name: str, place: str, cause: str, intent: str, original: Callable, port: Callable, *inputs: Any) -> Bug:
    pair = Pair(name, f"{MINDONE} (trainers)", _torch_function(original), lambda: port, inputs)
    return Bug(pair, f"trainers/{place}", cause, intent)


def _came_of_a_vector(torch: Any, weight: Any, gradients: Any) -> Any:
    """CAME where nothing is factored: the paper's update, clipped by its root mean square, and averaged."""
    squares = average = torch.zeros_like(weight)
    for gradient in gradients:
        squares = 0.999 * squares + 0.001 * (gradient**2 + 1e-30)
        update = gradient / squares.sqrt()
        update = update / (update**2).mean().sqrt().clamp(min=1.0)
        average = 0.9 * average + 0.1 * update
        weight = weight - 1e-3 * average
    return weight


def _came_of_mindone(weight: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    import mindspore as ms

    kept = ms.Parameter(ms.Tensor(weight), name="weight")
    optimizer = _of("mindone.trainers.optim", "create_optimizer")([kept], name="came", lr=1e-3, weight_decay=0.0)
    for gradient in gradients:
        optimizer((ms.Tensor(gradient),))
    return kept.asnumpy()


def _decay_of_torch(torch: Any, weight: Any, gradients: Any) -> Any:
    """Moonlight's optimizer where it is AdamW, without gradients: what decays."""
    for _ in gradients:
        weight = weight * (1 - 0.01 * 0.1)
    return weight


def _decay_of_muon(weight: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """What its groups say that they decay by."""
    import mindspore as ms

    kept = ms.Parameter(ms.Tensor(weight), name="weight")
    muon = _of("mindone.trainers.muon", "Muon")
    (group,) = muon(lr=0.01, wd=0.1, muon_params=[], adamw_params=[kept], clip_value=None).param_groups
    for _ in gradients:
        weight = weight * np.float32(1 - 0.01 * group["weight_decay"])
    return weight


def _orthogonal_of_torch(torch: Any, gradient: Any) -> Any:
    """Of a convolution's gradient as a matrix: five steps of the quintic that the function names."""
    matrix = gradient.flatten(1)
    matrix = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        square = matrix @ matrix.T
        matrix = 3.4445 * matrix + (-4.7750 * square + 2.0315 * square @ square) @ matrix
    return matrix.reshape(gradient.shape)


def _orthogonal_of_mindone(gradient: np.ndarray) -> np.ndarray:
    import mindspore as ms

    return _of("mindone.trainers.muon", "zeropower_via_newtonschulz5")(ms.Tensor(gradient), 5).float().asnumpy()


PORTED = "diffusers 0.35.2, which it says it is compatible with"
EMBEDDINGS, PROCESSOR = ".models.embeddings", ".models.attention_processor"
MASK = np.where(np.arange(7) < 5, 0, -1e4).astype(np.float32)[None, None].repeat(2, 0)
OF_MINDONE = (
    _chain("k_dpm_2_discrete.py:303",
           "lerp towards log(0) by 0.5 gives NaN where PyTorch's gives -inf: the last step is NaN", PORTED,
           pair_of("KDPM2DiscreteScheduler"), known=True),
    _chain("unipc_multistep.py:770, 777, 905, 913",
           "einsum k,bkc...->bc... became a product that broadcasts over the height of the image", PORTED,
           pair_of("UniPCMultistepScheduler", solver_order=3)),
    _chain("unipc_multistep.py:251",
           "alphas_cumprod[-1] is set before there is any: rescale_betas_zero_snr raises AttributeError", PORTED,
           pair_of("UniPCMultistepScheduler", **ZERO_SNR)),
    _chain("edm_euler.py:284",
           "a bracket is closed too late, .exp() of a numpy array: sigma_schedule exponential raises", PORTED,
           pair_of("EDMEulerScheduler", sigma_schedule="exponential")),
    _chain("vq_diffusion.py:70",
           "uniform(shape) of a numpy generator takes the shape for the lower bound: it raises, or gives NaN", PORTED,
           pair_of("VQDiffusionScheduler", num_vec_classes=6)),
    _of_mindone(
        _diffusers("PatchEmbed", (x(2, 3, 8, 8),), EMBEDDINGS, " with a table", height=8, width=8, patch_size=2,
                   in_channels=3, embed_dim=16, pos_embed_max_size=8),
        "diffusers/models/embeddings.py:538", "the sinusoidal table, a buffer, has become a parameter that is trained",
        PORTED),
    _of_mindone(
        _diffusers("Attention", {"hidden_states": x(2, 5, 16), "encoder_hidden_states": x(2, 7, 12),
                                 "attention_mask": MASK}, PROCESSOR, " with an encoder mask",
                   query_dim=16, heads=2, dim_head=8, cross_attention_dim=12),
        "diffusers/models/attention_processor.py, Attention.math_attention_op",
        "queries lose the axis of heads, the mask keeps it: it cannot be broadcast", PORTED, known=True),
    _of_mindone(
        _diffusers("Attention", {"hidden_states": x(2, 5, 16), "encoder_hidden_states": x(2, 7, 12)}, PROCESSOR,
                   " with another width of the context", query_dim=16, heads=2, dim_head=8, added_kv_proj_dim=12,
                   out_context_dim=10, context_pre_only=False, cross_attention_dim=12),
        "diffusers/models/attention_processor.py:258", "to_add_out is as wide as the image's output, not as the text's",
        PORTED),
    _of_mindone(
        _diffusers("Timesteps", (np.array([3, 500, 998]),), EMBEDDINGS, num_channels=32, flip_sin_to_cos=True,
                   downscale_freq_shift=0),
        "diffusers/models/embeddings.py, get_timestep_embedding",
        "frequencies by MindSpore's exp, which is 138 units off, times a time of up to 1,000", PORTED, known=True),
    _of_mindone(
        _diffusers("FluxAttention", {"hidden_states": x(2, 5, 16)}, ".models.transformers.transformer_flux",
                   query_dim=16, heads=2, dim_head=8, bias=True),
        "diffusers/models/transformers/transformer_flux.py, FluxAttention.scaled_dot_product_attention",
        "float32 has no way of its own: it is computed in float16, without a word", PORTED, known=True),
    _of_mindone(
        _diffusers("FirDownsample2D", (x(2, 8, 4, 4),), ".models.downsampling", channels=8, use_conv=True,
                   out_channels=8),
        "diffusers/models/downsampling.py:243", "mint.nn.funtional: it cannot run", PORTED),
    _optimizer("adamw", "AdamW", "nn.AdamWeightDecay, which has no bias correction", "its name, and PyTorch's AdamW",
               True, weight_decay=1e-2),
    _optimizer("adam", "Adam", "nn.Adam, which adds eps before the bias correction", "its name, and PyTorch's Adam",
               True, weight_decay=0.0),
    _trainer("create_optimizer came", "optim.py:100",
             "its default betas are two and eps is one number where CAME takes three and two: it raises",
             "its documented defaults, for each name", _came_of_a_vector, _came_of_mindone, x(7), x(3, 7)),
    _trainer("Muon's weight decay", "muon.py:155", "wd is handed on as wd, and read as weight_decay: nothing decays",
             "Moonlight's Muon, which it says it follows", _decay_of_torch, _decay_of_muon, x(4, 5), x(3, 2)),
    _trainer("Muon of a convolution", "muon.py:113", "after flattening it asserts that what was given has two axes",
             "every parameter of two axes or more", _orthogonal_of_torch, _orthogonal_of_mindone, x(4, 3, 3, 3)),
)  # fmt: skip


# --- mindcv, by which mindone's optimizers are made ------------------------------------------------------------------


def _nadam() -> Callable:
    def stepped(weight: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        import mindspore as ms

        kept = ms.Parameter(ms.Tensor(weight), name="weight")
        optimizer = _of("mindcv.optim.nadam", "NAdam")([kept], learning_rate=2e-3)
        for gradient in gradients:
            optimizer((ms.Tensor(gradient),))
        return kept.asnumpy()

    return stepped


OF_MINDCV = (
    Bug(Pair("mindcv NAdam", "mindcv", _step_of_torch("NAdam", lr=2e-3, momentum_decay=4e-3), _nadam,
             (x(4, 5), x(20, 4, 5))),
        "mindcv 0.3.0, optim/nadam.py, NAdam.construct", "the number of the step, global_step, is never counted up: "
        "the momentum's schedule stands still", "the schedule of the paper that it names"),
)  # fmt: skip


# --- lvyufeng's port -------------------------------------------------------------------------------------------------


def _lvyufeng(name: str, cause: str, intent: str, original: Callable, port: Callable, *inputs: Any) -> Bug:
    pair = Pair(name, LVYUFENG, _torch_function(original), _mindspore_function(port), inputs, ONCE)
    return Bug(pair, "ddm/denoising_diffusion_pytorch.py, ported", cause, intent, True)


def _betas(cos: Callable, steps: Any) -> Any:
    abar = cos((steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return 1 - abar[1:] / abar[:-1]


def _clipped_away(ms: Any, x_t: Any, noise: Any) -> Any:
    start = 2.0 * x_t - 1.5 * noise
    start.clip(-1.0, 1.0)
    return 0.7 * start + 0.2 * x_t


def _average_of_torch(torch: Any, weights: Any) -> Any:
    """ema-pytorch: acts at calls 1, 11, 21; copies while they are few."""
    average = weights[0]
    for call, weight in enumerate(weights):
        average = weight if call % 10 == 0 else average
    return average


def _average_of_port(ms: Any, weights: Any) -> Any:
    average = weights[0]
    for call in range(weights.shape[0]):
        average = weights[call] if call > 0 and (call + 1) % 10 == 0 else average
    return average


OF_LVYUFENG = (
    _lvyufeng("clip in p_mean_variance", "x.clip(...) gives its result, which is dropped", "x_0 within [-1, 1]",
              lambda torch, x_t, noise: 0.7 * (2.0 * x_t - 1.5 * noise).clamp(-1.0, 1.0) + 0.2 * x_t,
              _clipped_away, x(2, 3, 4, 4), x(2, 3, 5, 4)[:, :, :4]),
    _lvyufeng("P2 weights", "(b, 1, 1, 1) times (b,) is (b, 1, 1, b): every image gets the mean weight",
              "a weight for each image", lambda torch, loss, weight: (loss * weight).mean(),
              lambda ms, loss, weight: (loss.reshape(-1, 1, 1, 1) * weight).mean(), np.abs(x(5)), np.abs(x(6))[:5]),
    _lvyufeng("cosine schedule", "computed in float32", "in double and rounded once, as the original's",
              lambda torch, steps: _betas(torch.cos, steps.double()).float(),
              lambda ms, steps: _betas(ms.ops.cos, steps), (np.arange(0, 200) / 1000).astype(np.float32)),
    _lvyufeng("EMA's calls", "it acts at calls 10, 20, 30", "at 1, 11, 21: ema-pytorch", _average_of_torch,
              _average_of_port, x(15, 4)),
)  # fmt: skip

BUGS: tuple[Bug, ...] = (*OF_MINDSPORE, *OF_MINDONE, *OF_MINDCV, *OF_LVYUFENG)
