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
}  # fmt: skip
NODE = re.compile(r"^ +%\d+\([^)]*\) = (?:PrimFunc_)?([A-Za-z]\w*)\(.*\n +: \((.*)\) -> \((.*)\)", re.MULTILINE)
DTYPE = re.compile(r"Tensor\[(\w+)\]")


# --- what is compiled ---------------------------------------------------------------------------------------------


def _diffusion(unet: dict, **options):
    from ms_ddpm import GaussianDiffusion, Unet

    network = Unet(8, dim_mults=(1, 2), channels=1, attn_heads=2, attn_dim_head=4, rng=0, **unet)
    return GaussianDiffusion(network, image_size=8, timesteps=8, **options)


def _train(
    diffusion, *, optimizer: str = "adam", amp: str = "O0", accumulate: int = 1, weight_decay=None, self_cond=False
):
    import numpy as np

    from ms_ddpm import amp as precision
    from ms_ddpm.optim import OPTIMIZERS
    from ms_ddpm.train_step import TrainStep, to_inputs

    precision.why_not = lambda dtype: ""  # it would compute, and nothing is computed here
    precision.apply_amp(diffusion, amp)
    rng = np.random.default_rng(0)
    images = rng.random((2, 1, 8, 8), dtype=np.float32)
    diffusion.set_train()
    made = OPTIMIZERS[optimizer](diffusion.trainable_params(), weight_decay=weight_decay)
    scaler = precision.DynamicLossScale(enabled=amp != "O0")
    step = TrainStep(diffusion, made, scaler, max_grad_norm=1.0, accumulate=accumulate)
    t, noise, _, offset, key = diffusion.draw(rng, (images,))
    inputs = to_inputs((images, t, noise, self_cond, offset, key))
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


NEW = {"self_condition": True, "learned_variance": True, "dropout": 0.1, "random_fourier_features": True}
OLD = {"norm": "group", "downsample": "conv", "learned_sinusoidal_cond": True}
RECIPES: dict[str, Callable[[], None]] = {
    # Everything that can be switched on, in as few graphs as it fits into; these are what CI compiles.
    "A training, 2.3 layout": lambda: _train(_diffusion(NEW), weight_decay=0.01),
    "A sampling, 2.3 layout": lambda: _sample(_diffusion(NEW), "p_sample"),
    "A training, 2022 layout, O2": lambda: _train(
        _diffusion(OLD, loss_type="l1", objective="pred_noise", offset_noise_strength=0.1), amp="O2", optimizer="adamw",
        accumulate=2,
    ),
    "A sampling, 2022 layout": lambda: _sample(_diffusion(OLD, objective="pred_noise"), "ddim_step", ema=True),
    # The rest of the choices, each by itself.
    "B training, pred_x0, O1": lambda: _train(_diffusion({}, objective="pred_x0"), amp="O1"),
    "B training, attention in blocks": lambda: _train(_diffusion({"flash_attn": True, "full_attn": True})),
    "B training, 2022 layout": lambda: _train(_diffusion({"norm": "group", "downsample": "conv"})),
    "B training, 2.3 layout, O2": lambda: _train(_diffusion(NEW), amp="O2", self_cond=True),
    "B sampling, pred_x0": lambda: _sample(_diffusion({}, objective="pred_x0"), "ddim_step"),
    "B sampling, pred_noise": lambda: _sample(_diffusion(OLD, objective="pred_noise"), "p_sample"),
}  # fmt: skip


def collect(prefix: str = "") -> dict[str, dict[str, list[str]]]:
    """{recipe: {primitive: [dtypes of inputs and outputs that it occurs with]}}. For a process of its own."""
    os.environ |= {"MS_DEV_DUMP_IR_PASSES": PASS, "MS_DEV_PRECOMPILE_ONLY": "1", "GLOG_v": "3"}
    sys.path.insert(0, str(ROOT))
    from ms_ddpm import runtime

    runtime.setup("CPU")
    runtime.device_target = lambda: "Ascend"
    import mindspore as ms

    from ms_ddpm.nets import attention

    attention.QUERY_CHUNK = 8  # so that images of 8x8 are cut into blocks
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
    "Gather": "gather", "Greater": "greater", "GreaterEqual": "ge", "IsFinite": "isfinite", "Less": "less",
    "LessEqual": "le", "LessScalar": "less", "Log": "log", "Maximum": "maximum", "Minimum": "minimum", "Mul": "mul",
    "Muls": "mul", "Neg": "neg", "Reshape": "reshape", "Rsqrt": "rsqrt", "Select": "select", "SiLU": "silu",
    "Sign": "sign", "Sin": "sin", "SplitWithSize": "split", "Sqrt": "sqrt", "SumExt": "sum", "Tanh": "tanh",
    "Transpose": "transpose", "ZerosLikeExt": "zeros_like",
}  # fmt: skip
GRADIENTS = {
    "BiasAddGrad": "BiasAdd", "Conv2DBackpropFilter": "Conv2D", "Conv2DBackpropInput": "Conv2D",
    "PowTensorScalar": "erf", "RsqrtGrad": "rsqrt", "SiLUGrad": "silu", "SoftmaxBackward": "softmax",
    "SqrtGrad": "sqrt", "TanhGrad": "tanh",
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
    from ms_ddpm.runtime import mindspore_root

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

Written by `python tests/operators.py > docs/operators.md`; `tests/test_operators.py` fails when a graph has a primitive
or a dtype that does not stand here, and when the installed MindSpore's documentation says something else of one.

How it was found: each recipe below was compiled on a CPU with the choices that are made for Ascend (no C++ kernels,
float32 where the CPU widens to float64, plain sums), and the primitives were read from MindSpore's own dump of the
graph after the last pass of its frontend, gradients expanded. That is what a backend is handed. None of it was run on
an Ascend.

- Platforms: the words "Supported Platforms" in the documentation of MindSpore {version}, as it is installed, of the
  public function or class in the second column. A gradient has no documentation of its own; there the words are those
  of the function it belongs to.
- Dtypes: of all tensors that go in or come out. There is no float64 and no int64.
- Kernel: "aclnn" where the Ascend library inside the wheel holds an aclnn kernel of this name. Of the others the source
  of MindSpore 2.7, the newest that was at hand, has each under the older operator interface (ACL), as convolutions have
  always run, but for `ClampScalar`, which it expands into a minimum and a maximum.

Recipes:

{recipes}

| Primitive | Documented as | Platforms | Dtypes | Kernel | Used in |
|---|---|---|---|---|---|"""

NOTES = """
What the documentation restricts, and what we do:

| Restriction | Here |
|---|---|
| `ops.Conv2D` on Ascend: of group convolutions only depthwise ones | there are no groups |
| `ops.MatMul` on Ascend: no float64 | only the CPU is given float64 (`ms_ddpm/ops/elementary.py`) |
| `ops.gather` on Ascend: an index out of range is not noticed | t comes from the host, between 0 and T - 1 |
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
