"""Which primitives the graphs consist of that a GPU or an Ascend gets, and what MindSpore's documentation says of them.

python tests/operators.py            prints docs/operators.md anew
python tests/operators.py collect A  prints the primitives of the recipes whose names begin with A, as JSON

The graphs are compiled on the CPU, as far as MindSpore's frontend goes, with the choices made for Ascend: what is
collected is what would be handed to that device's backend.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "operators.md"
PASS = "validate"  # the frontend's last pass: gradients expanded, nothing chosen by a backend yet
NOT_COMPUTED = {  # nodes that tie a graph together and launch nothing
    "Depend", "Load", "MakeTuple", "Return", "TupleGetItem", "UpdateState", "Partial", "Switch", "Cond",
    "TensorMove",  # a copy that the compiler puts in by itself (LPIPS' gradient has one); documented nowhere
}  # fmt: skip
NODE = re.compile(r"^ +%\d+\([^)]*\) = (?:PrimFunc_)?([A-Za-z]\w*)\(.*\n +: \((.*)\) -> \((.*)\)", re.MULTILINE)
DTYPE = re.compile(r"Tensor\[(\w+)\]")


# --- what is compiled ---------------------------------------------------------------------------------------------


def _diffusion(unet: dict, stages=(1, 2), **options):
    from ms_ddpm import GaussianDiffusion, Unet

    network = Unet(8, dim_mults=stages, channels=1, attn_heads=2, attn_dim_head=4, rng=0, **unet)
    return GaussianDiffusion(network, image_size=8, timesteps=8, **options)


def _train(cell, *, optimizer: str = "adam", amp: str = "O0", accumulate: int = 1, weight_decay=None, self_cond=False):
    import numpy as np

    from ms_ddpm import amp as precision
    from ms_ddpm.training.optim import OPTIMIZERS
    from ms_ddpm.training.train_step import TrainStep, to_inputs

    precision.why_not = lambda dtype: ""  # it would compute, and nothing is computed here
    precision.apply_amp(cell, amp)
    rng = np.random.default_rng(0)
    batch = (rng.random((2, cell.channels, *cell.image_size), dtype=np.float32),)
    if getattr(cell, "conditional", False):
        batch = (*batch, np.array([1, 0], np.int32))
    cell.set_train()
    made = OPTIMIZERS[optimizer](cell.trainable_params(), weight_decay=weight_decay)
    scaler = precision.DynamicLossScale(enabled=amp != "O0")
    step = TrainStep(cell, made, scaler, max_grad_norm=1.0, accumulate=accumulate)
    draws = (self_cond if isinstance(drawn, bool) else drawn for drawn in cell.draw(rng, batch))
    inputs = to_inputs((*batch, *draws))
    host = to_inputs((np.float32(1e-3), np.float32(0)))  # learning rate; whether to stop
    if accumulate == 1:
        step._whole(*host, *inputs)
    else:
        step._add(*inputs)
        step._finish(*host)


def _sample(diffusion, name: str, ema: bool = False):
    import numpy as np
    from mindspore import Tensor

    image, t = Tensor(np.zeros((2, 1, 8, 8), np.float32)), Tensor(np.zeros(2, np.int32))
    between = (Tensor(np.zeros(3, np.float32)),) if name == "ddim_step" else ()
    diffusion.compiled_step(name)(image, t, *between, image, image if diffusion.self_condition else None)
    if ema:
        from ms_ddpm import EMA

        average = EMA(diffusion)
        average._copy()
        average._blend(Tensor(np.float32(0.5)))


def _of_system(system: str, **options):
    """The Cell of another system, as small as its network can be."""
    from ms_ddpm import recipes
    from ms_ddpm.config import Config, own_fields

    small = {"channel_widths": [32, 32, 32, 32], "embed_dim": 8, "text_dim": 8}
    small = {name: value for name, value in small.items() if name in own_fields(system)}
    return recipes.build(Config(system=system, **{"image_size": 18} | small | options))


def _score(**options):
    return _of_system("score", **options)


def _conditional(**options):
    return _score(score_net="transformer", num_classes=3, class_dropout=0.1, **options)


def _latent(**options):
    widths, classes = [4, 8, 8, 8], {"num_classes": 3, "class_dropout": 0.1}
    return _of_system("latent", channel_widths=widths, image_size=28, **classes, **options)


def _autoencoder(lpips: bool):
    from ms_ddpm.models.lpips import LPIPS
    from ms_ddpm.systems.autoencoder.perceptual import PerceptualLoss

    cell = _of_system("autoencoder", image_size=24)
    if lpips:
        cell.perceptual = PerceptualLoss(LPIPS("squeeze", rng=0))
    return cell


def _corruption(kind: str):
    return _of_system("corruption", image_size=8, noise_kind=kind)


def _steps(model, guided: bool, *names: str):
    """The score samplers' steps, each a graph."""
    import numpy as np
    from mindspore import Tensor

    from ms_ddpm.samplers import likelihood, score

    def zeros(*shape):
        return Tensor(np.zeros(shape, np.float32))

    x, t = zeros(2, model.channels, *model.image_size), zeros(2)
    made = {
        "euler": (score.euler_step, (zeros(3), x)),
        "pc": (score.CORRECTOR_NORMS["image"], (zeros(3), zeros(1), x, x)),
        "pc_batch": (score.CORRECTOR_NORMS["batch"], (zeros(3), zeros(1), x, x)),
        "heun": (score.heun_step, (t, zeros(5))),
        "likelihood": (likelihood.score_and_pull, (x,)),
    }
    labels = Tensor(np.zeros(2, np.int32)) if model.conditional else None
    for name in names:
        make, more = made[name]
        model.compiled_step(make, guided)(x, t, labels, zeros(), *more)


def _decode(cell):
    """Encoder and decoder of a latent diffusion, as they are when nothing trains."""
    import numpy as np
    from mindspore import Tensor

    cell.set_train(False)
    autoencoder = cell.autoencoder
    shapes = {"encode": (autoencoder.channels, *autoencoder.image_size), "decode": autoencoder.latent_shape}
    for name, shape in shapes.items():
        autoencoder._call(name)(Tensor(np.zeros((2, *shape), np.float32)))


def _restore(cell):
    """A step of a corruption's chain."""
    import numpy as np
    from mindspore import Tensor

    x = Tensor(np.zeros((2, cell.channels, *cell.image_size), np.float32))
    cell.compiled_step()(x, Tensor(np.float32(0.5)))


def _schedule(name: str, kind, output_channels: int = 1, **options):
    """A step of a scheduler, of the ``kind`` that its module says."""
    import importlib

    import numpy as np
    from mindspore import Tensor

    from ms_ddpm import schedulers
    from ms_ddpm.devices.runtime import compiled

    limit = getattr(schedulers, f"{name.upper()}Scheduler")(8, **options)._limit
    x, output = (Tensor(np.zeros((2, channels, 8, 8), np.float32)) for channels in (1, output_channels))
    step = importlib.import_module(f"ms_ddpm.schedulers.{name}")._reverse_step(kind, limit)
    compiled(step)(output, x, x, Tensor(np.zeros((1, 7, 1, 1), np.float32)))


NEW = {"self_condition": True, "learned_variance": True, "dropout": 0.1, "random_fourier_features": True}
OLD = {"norm": "group", "downsample": "conv", "learned_sinusoidal_cond": True}
RECIPES: dict[str, Callable[[], None]] = {
    # Everything that can be switched on, in as few graphs as it fits into; these are what CI compiles. Of one stage
    # where another recipe has two: that of 2022 here, that of 2.3 below.
    "A training, 2.3 layout": lambda: _train(_diffusion(NEW, (1,)), weight_decay=0.01),
    "A sampling, 2.3 layout": lambda: _sample(_diffusion(NEW), "p_sample"),
    "A training, 2022 layout, O2": lambda: _train(
        _diffusion(OLD, loss_type="l1", objective="pred_noise", offset_noise_strength=0.1), amp="O2", optimizer="adamw",
        accumulate=2,
    ),
    "A sampling, 2022 layout": lambda: _sample(_diffusion(OLD, (1,), objective="pred_noise"), "ddim_step", ema=True),
    # The rest of the choices, each by itself.
    "B training, pred_x0, O1": lambda: _train(_diffusion({}, objective="pred_x0"), amp="O1"),
    "B training, attention in blocks": lambda: _train(_diffusion({"flash_attn": True, "full_attn": True})),
    "B training, 2022 layout": lambda: _train(_diffusion({"norm": "group", "downsample": "conv"})),
    "B training, 2.3 layout, O2": lambda: _train(_diffusion(NEW), amp="O2", self_cond=True),
    "B sampling, pred_x0": lambda: _sample(_diffusion({}, objective="pred_x0"), "ddim_step"),
    "B sampling, pred_noise": lambda: _sample(_diffusion(OLD, objective="pred_noise"), "p_sample"),
    # The other systems.
    "C training, score": lambda: _train(_score()),
    "C training, score, VP, O2": lambda: _train(_score(sde="vp", score_net="add"), amp="O2"),
    "C training, conditional score": lambda: _train(_conditional(sde="subvp")),
    "C training, latent score": lambda: _train(_latent()),
    "C training, autoencoder, gradient loss": lambda: _train(_autoencoder(False)),
    "C training, autoencoder, LPIPS": lambda: _train(_autoencoder(True)),
    "C training, corruption": lambda: _train(_corruption("poisson")),
    "C training, corruption, salt and pepper": lambda: _train(_corruption("salt_and_pepper")),
    "C sampling, score": lambda: _steps(_score(sde="vp"), False, "euler", "pc", "pc_batch", "heun", "likelihood"),
    "C sampling, guided latent score": lambda: _steps(_latent().model, True, "euler"),
    "C sampling, latents to images": lambda: _decode(_latent()),
    "C sampling, corruption": lambda: _restore(_corruption("uniform")),
    "C sampling, DDPM scheduler": lambda: _schedule("ddpm", "learned_range", 2),
    "C sampling, DDIM scheduler": lambda: _schedule("ddim", True, thresholding=True),
}  # fmt: skip


def collect(prefix: str = "") -> dict[str, dict[str, list[str]]]:
    """{recipe: {primitive: [dtypes of inputs and outputs that it occurs with]}}. For a process of its own."""
    os.environ |= {"MS_DEV_DUMP_IR_PASSES": PASS, "MS_DEV_PRECOMPILE_ONLY": "1", "GLOG_v": "3"}
    sys.path.insert(0, str(ROOT))
    from ms_ddpm import runtime

    runtime.setup("CPU")
    runtime.device_target = lambda: "Ascend"
    import mindspore as ms

    from ms_ddpm.ops import by_operators

    by_operators.QUERY_CHUNK = 8  # so that images of 8x8 are cut into blocks
    found = {}
    for recipe, compile_it in RECIPES.items():
        if not recipe.startswith(prefix):
            continue
        with tempfile.TemporaryDirectory() as folder:
            ms.set_context(save_graphs=1, save_graphs_path=folder)
            compile_it()
            ms.set_context(save_graphs=0)
            texts = [path.read_text(errors="replace") for path in Path(folder).rglob(f"*_{PASS}_*.ir")]
        found[recipe] = primitives(texts)
    return found


def primitives(texts: list[str]) -> dict[str, list[str]]:
    """{primitive: dtypes} of dumped graphs."""
    found: dict[str, set[str]] = {}
    for text in texts:
        for name, inputs, outputs in NODE.findall(text):
            if name not in NOT_COMPUTED:
                found.setdefault(name, set()).update(DTYPE.findall(inputs) + DTYPE.findall(outputs))
    return {name: sorted(dtypes) for name, dtypes in sorted(found.items())}


# --- what is known of a primitive -----------------------------------------------------------------------------------

# Where MindSpore's documentation has a primitive: under the public function that it is, or (the second element) that
# it is the gradient of, or part of it. Primitives that are not here have a documented class of their own.
FUNCTIONS = {
    "Abs": "abs", "Add": "add", "Assign": "assign", "BroadcastTo": "broadcast_to", "ClampScalar": "clamp",
    "Concat": "cat", "Cos": "cos", "Divs": "div", "EqScalar": "eq", "Equal": "equal", "Erf": "erf", "Exp": "exp",
    "ExpandDims": "expand_dims", "Gather": "gather", "Greater": "greater", "GreaterEqual": "ge", "IsFinite": "isfinite",
    "Less": "less", "LessEqual": "le", "LessScalar": "less", "Log": "log", "Maximum": "maximum", "Minimum": "minimum",
    "Mul": "mul", "Muls": "mul", "Neg": "neg", "PadV3": "pad", "ReLU": "relu", "Reshape": "reshape", "Rsqrt": "rsqrt",
    "Select": "select", "SiLU": "silu", "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin", "Slice": "slice",
    "SplitWithSize": "split", "Sqrt": "sqrt", "StridedSlice": "strided_slice", "SumExt": "sum", "Tanh": "tanh",
    "TopK": "topk", "Transpose": "transpose", "UnsortedSegmentSum": "unsorted_segment_sum",
    "ZerosLikeExt": "zeros_like",
}  # fmt: skip
GRADIENTS = {
    "AvgPoolGrad": "AvgPool", "BiasAddGrad": "BiasAdd", "Conv2DBackpropFilter": "Conv2D",
    "Conv2DBackpropInput": "Conv2D", "MaxPoolGrad": "MaxPool", "PowTensorScalar": "erf", "ReluGrad": "relu",
    "RsqrtGrad": "rsqrt", "SiLUGrad": "silu", "SigmoidGrad": "sigmoid", "SoftmaxBackward": "softmax",
    "SqrtGrad": "sqrt", "StridedSliceGrad": "strided_slice", "TanhGrad": "tanh",
}  # fmt: skip
PLATFORMS = ("Ascend", "GPU", "CPU")
DTYPES = {"Bool", "Float16", "Float32", "Int32"}  # anything else has limits somewhere: float64 and int64 on Ascend


def documented_as(primitive: str) -> str:
    """The name under which the documentation has a primitive, of `mindspore.ops`."""
    return FUNCTIONS.get(primitive) or GRADIENTS.get(primitive) or primitive


def platforms(primitive: str) -> list[str]:
    """The platforms that the installed MindSpore's documentation names for it."""
    from mindspore import ops

    text = getattr(ops, documented_as(primitive)).__doc__ or ""
    line = re.search(r"Supported Platforms:\s*\n\s*(.+)", text)
    return [name for name in PLATFORMS if line and f"``{name}``" in line.group(1)]


def rows(found: dict[str, dict[str, list[str]]]) -> dict[str, tuple[list[str], list[str]]]:
    """{primitive: (dtypes, recipes)} over all recipes."""
    union: dict[str, tuple[set, list]] = {}
    for recipe, names in found.items():
        for name, dtypes in names.items():
            known, recipes = union.setdefault(name, (set(), []))
            known.update(dtypes)
            recipes.append(recipe)
    return {name: (sorted(dtypes), recipes) for name, (dtypes, recipes) in sorted(union.items())}


def listed(page: str) -> dict[str, tuple[str, list[str], list[str]]]:
    """{primitive: (documented as, platforms, dtypes)} of docs/operators.md."""
    found = {}
    for line in page.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 6:
            found[cells[0]] = cells[1], cells[2].split(", "), cells[3].split(", ")
    return found


# --- the page ------------------------------------------------------------------------------------------------------


def _aclnn() -> set[str]:
    """Primitives with a kernel of the kind "aclnn" in the Ascend library of the installed wheel."""
    from ms_ddpm.devices.runtime import mindspore_root

    library = (mindspore_root() / "lib/plugin/libmindspore_ops_ascend.so").read_bytes()
    snake = {name.decode() for name in re.findall(rb"customize/(\w+?)_aclnn(?:_kernel)?\.", library)}
    generated = {name.decode() for name in re.findall(rb"Aclnn(\w+?)KernelMod", library)}
    generated |= {name.decode() for name in re.findall(rb"\0aclnn(\w+)\0", library)}
    return generated | {name.replace("_", "") for name in snake}


def page(found: dict[str, dict[str, list[str]]]) -> str:
    """docs/operators.md."""
    import mindspore as ms

    aclnn = _aclnn()
    lines = [HEAD.format(version=ms.__version__, recipes="\n".join(f"- {name[2:]}" for name in found))]
    for name, (dtypes, recipes) in rows(found).items():
        public = documented_as(name)
        role = f"gradient of `ops.{public}`" if name in GRADIENTS else f"`ops.{public}`"
        kernel = "aclnn" if {name, name.lower()} & aclnn else "-"
        training = [recipe for recipe in recipes if "training" in recipe]
        use = "both" if training and len(training) < len(recipes) else "training" if training else "sampling"
        lines.append(f"| `{name}` | {role} | {', '.join(platforms(name))} | {', '.join(dtypes)} | {kernel} | {use} |")
    return "\n".join([*lines, NOTES])


HEAD = """# The operators of our graphs

Written by `python tests/operators.py > docs/operators.md`; `tests/ops/test_operators.py` fails when a graph has a
primitive or a dtype that does not stand here, and when the installed MindSpore's documentation says something else of
one.

How it was found: each recipe below was compiled on a CPU with the choices that are made for Ascend (no C++ kernels,
float32 where the CPU widens to float64, plain sums), and the primitives were read from MindSpore's own dump of the
graph after the last pass of its frontend, gradients expanded. That is what a backend is handed. None of it was run on
an Ascend.

- Platforms: the words "Supported Platforms" in the documentation of MindSpore {version}, as it is installed, of the
  public function or class in the second column. A gradient has no documentation of its own; there the words are those
  of the function it belongs to.
- Dtypes: of all tensors that go in or come out. There is no float64 and no int64.
- Kernel: "aclnn" where the Ascend library inside the wheel holds an aclnn kernel of this name. Of the others the source
  of MindSpore 2.7, the newest that was at hand, or the installed library has each under the older operator interface
  (ACL), as convolutions have always run, but for `ClampScalar`, which is expanded into a minimum and a maximum.

Recipes:

{recipes}

| Primitive | Documented as | Platforms | Dtypes | Kernel | Used in |
|---|---|---|---|---|---|"""

NOTES = """
Stable Diffusion's networks are none of the recipes: their blocks call the operators above (`Conv2D`, `MatMul`,
`BatchMatMul`, `Softmax`, `Erf` of GEGLU's GELU, `Split`, `Transpose`), and `Pad` where an image is halved with a row
and a column at its end. What the C++ kernels take of them on a CPU: [The kernels](kernels.md).

What the documentation restricts, and what we do:

| Restriction | Here |
|---|---|
| `ops.Conv2D` on Ascend: of group convolutions only depthwise ones | there are no groups |
| `ops.MatMul` on Ascend: no float64 | only the CPU is given float64 (`ms_ddpm/ops/elementary.py`) |
| `ops.gather` on Ascend: an index out of range is not noticed | t comes from the host, between 0 and T - 1; classes \
are checked there (`check_labels`) |
| `ops.slice`: its gradient is a kernel of the host on Ascend | `ops.strided_slice` where a gradient is needed |
| `ops.tile` on Ascend: at most 8 axes | 4 |
| `PowTensorScalar`, `ZerosLikeExt`: as classes documented for Ascend alone | MindSpore makes them itself, of \
documented functions; where a backend lacks them it expands them, which was seen on the CPU |
| overflow of int32 on Ascend: nothing found | the dropout hash goes without (`ms_ddpm/ops/modular.py`) |
| `aclnnRightShift` of CANN: Atlas A2 and A3, not the Atlas training series (910A) | only dropout needs it |
"""


if __name__ == "__main__":
    prefix = sys.argv[2] if len(sys.argv) > 2 else ""
    collected = collect(prefix)
    print(json.dumps(collected) if sys.argv[1:2] == ["collect"] else page(collected), end="")
