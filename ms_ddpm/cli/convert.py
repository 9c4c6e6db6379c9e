"""Move a model between PyTorch (denoising-diffusion-pytorch 0.28 to 2.3) or another MindSpore port and ms_ddpm.

  python scripts/convert.py from-torch model-100.pt --image_size 64 --output_dir runs/ported
  python scripts/sample.py --checkpoint runs/ported
  python scripts/convert.py to-torch runs/digits --output digits.pt        (or digits.safetensors)
  python scripts/convert.py from-mindspore model-100.ckpt --config configs/flowers64.yaml --output_dir runs/ported
  python scripts/convert.py lpips squeezenet1_1-b8a52dc0.pth squeeze.pth --output lpips.safetensors

from-torch reads the network's arguments, noise schedule and objective from names, shapes and tables; --image_size is
not in a checkpoint. Releases compute different things under the same names: which one a file is of it says itself from
1.0.0 on, and for others --release does. A .pt is read with weights_only=True: a file that would run code is refused.

With --config of a recipe of another system, FILE is a state dict of its article's network (docs/systems.md):
  python scripts/convert.py from-torch ckpt_res.pth --config configs/score_mnist.yaml --output_dir runs/ported
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import Config, from_yaml, read_value, to_dict
from ..config.keys import DEFAULT_SYSTEM
from ..errors import UserError
from . import Parser, add_machine_options, as_called, output_directory, start_machine


def build_parser() -> Parser:
    """The options of convert.py."""
    parser = Parser(prog="convert.py", description=__doc__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="from-torch | to-torch | from-mindspore | lpips", parser_class=Parser
    )
    read = commands.add_parser(
        "from-torch", prog="convert.py from-torch", description="PyTorch file -> checkpoint directory"
    )
    read.add_argument("file", help=".pt (a training checkpoint or a state dict) or .safetensors")
    read.add_argument("--output_dir", required=True, metavar="DIR", help="where the checkpoint directory goes")
    read.add_argument("--image_size", nargs="+", metavar="X", help="side, or height and width (or give --config)")
    read.add_argument(
        "--objective", metavar="X", help="pred_noise, pred_x0 or pred_v, where the checkpoint does not tell (2022)"
    )
    read.add_argument(
        "--release", metavar="X", help="of denoising-diffusion-pytorch, such as 1.7.0, where the file does not tell"
    )
    read.add_argument(
        "--config", metavar="FILE", help="YAML that describes the model, instead of reading it from the file"
    )
    add_machine_options(read)
    port = commands.add_parser(
        "from-mindspore", prog="convert.py from-mindspore",
        description="MindSpore checkpoint of another port (.ckpt) -> checkpoint directory",
    )  # fmt: skip
    port.add_argument("file", help=".ckpt that mindspore.save_checkpoint wrote: a network, a diffusion, an EMA")
    port.add_argument("--output_dir", required=True, metavar="DIR", help="where the checkpoint directory goes")
    port.add_argument(
        "--config", required=True, metavar="FILE",
        help="YAML that describes the model: a .ckpt holds no noise schedule, objective or image size",
    )  # fmt: skip
    add_machine_options(port)
    write = commands.add_parser(
        "to-torch", prog="convert.py to-torch", description="checkpoint directory -> PyTorch file"
    )
    write.add_argument("checkpoint", help="output directory of train.py, or a step-... in it")
    write.add_argument("--output", required=True, metavar="FILE", help="FILE.pt (needs torch) or FILE.safetensors")
    write.add_argument(
        "--weights", choices=("ema", "model"), default="ema", help="which weights a .safetensors holds [ema]"
    )
    write.add_argument(
        "--release", metavar="X",
        help="of denoising-diffusion-pytorch that is to load it [the newest with this network; 2022's: before 1.5.0]",
    )  # fmt: skip
    add_machine_options(write)
    lpips = commands.add_parser(
        "lpips", prog="convert.py lpips", description="published weights of LPIPS -> one safetensors file"
    )
    lpips.add_argument(
        "files", nargs="+", metavar="FILE",
        help="torchvision's squeezenet1_1 (alexnet, vgg16) .pth and the lpips package's weights/v0.1/squeeze.pth "
        "(alex.pth, vgg.pth), or its whole state dict",
    )  # fmt: skip
    lpips.add_argument("--output", required=True, metavar="FILE", help="FILE.safetensors, for --lpips_weights")
    add_machine_options(lpips)
    return parser


def configuration(args: dict, state: Mapping[str, Any], version: object = None) -> Config:
    """The configuration of a PyTorch state: from --config, or read off the state, its release and --image_size.

    Raises UserError where the state does not tell it, or is of another.
    """
    from .. import registry
    from ..storage.torch_side import Said

    said = Said(str(args["file"]), version, args.get("release"), args["objective"])
    if args["config"]:
        values = from_yaml(args["config"])
    else:
        if not args["image_size"]:
            raise UserError("--image_size is missing: a PyTorch checkpoint does not hold it (or give --config)")
        values = registry.get(DEFAULT_SYSTEM).torch_side().configuration(state, said)
    if args["image_size"]:
        values["image_size"] = read_value("image_size", args["image_size"])
    config = Config(**values)
    side = registry.of(config).torch_side()
    if args["config"]:
        side.check(config, state, said)
    if remark := side.remark(said):
        print(remark)
    return config


def from_torch(args: dict) -> int:
    """Converts a PyTorch file to a checkpoint directory."""
    from ..storage import torch_files

    read = torch_files.read(Path(args["file"]))
    from .. import registry
    from ..storage import convert

    config = configuration(args, read["model"], read["version"])
    start_machine(args)
    system = registry.of(config)
    cell = system.build(config)
    ported = system.torch_part(cell)
    groups = {}
    for group, state in (("model", read["model"]), ("ema", read["ema"] or read["model"])):
        convert.from_torch(ported, state)
        groups[group] = {name: p.asnumpy().copy() for name, p in cell.parameters_and_names()}
    return write_checkpoint(args, config, cell, groups, read["step"], read["ema_step"], len(read["model"]))


def write_checkpoint(args: dict, config: Config, cell: Any, groups: dict, step: int, ema_calls: int, count: int) -> int:
    """The checkpoint directory of ``groups``, "model" and "ema" weights of ``cell``, with a fresh optimizer."""
    import numpy as np

    from .. import registry
    from ..storage import checkpoint, floats

    trained = [name for name, p in cell.parameters_and_names() if p.requires_grad]
    groups["ema"] = {name: floats.cast(groups["ema"][name], "float32") for name in trained}
    zeros = {
        f"{key}.{name}": np.zeros_like(groups["ema"][name]) for key in ("exp_avg", "exp_avg_sq") for name in trained
    }
    groups["optimizer"] = {"steps": np.zeros(1, np.float32), **zeros}
    folder = output_directory(args["output_dir"])
    if checkpoint.steps(folder / "checkpoints"):
        raise UserError(f"{folder} already holds checkpoints; choose another --output_dir")
    training = {
        "ema_calls": ema_calls,
        "scaler": {"enabled": False, "scale": 1.0, "good_steps": 0.0},  # a run that goes on begins its own
        "best_loss": None,
        "best_step": None,
        "skipped_steps": 0,
    }
    state = {
        "seed": config.seed,
        "config": to_dict(config),
        "versions": checkpoint.versions(),
        "training": training,
        "source": Path(args["file"]).name,
    }
    path = checkpoint.save(folder / "checkpoints", step, groups, state)
    print(f"{count} arrays -> {path}; the optimizer starts afresh")
    if not registry.of(config).no_options:
        print(as_called(f"sample from it: python scripts/sample.py --checkpoint {folder}"))
    return 0


def from_mindspore(args: dict) -> int:
    """Converts a MindSpore checkpoint of another port to a checkpoint directory."""
    config = Config(**from_yaml(args["config"]))
    start_machine(args)
    from .. import registry
    from ..storage import convert, mindspore_files
    from ..systems import recipes

    arrays = mindspore_files.read(args["file"])
    cell = recipes.build(config)
    ported = registry.of(config).network_part(cell)
    found = mindspore_files.states(arrays, ported, args["file"])
    groups = {}
    for group in ("model", "ema"):
        convert.from_torch(ported, found.get(group, found["model"]))
        groups[group] = {name: p.asnumpy().copy() for name, p in cell.parameters_and_names()}
    step = mindspore_files.step_of(arrays)
    return write_checkpoint(args, config, cell, groups, step, step, len(found["model"]))


def trainer_parts(part: Any, config: Config, path: Path, state: Mapping[str, Any], release: str) -> dict[str, Any]:
    """What a release's ``Trainer.load`` wants beside the weights: its optimizer's state, its version."""
    from .. import registry
    from ..storage import checkpoint, convert, torch_files

    names, moments = convert.torch_names(part), checkpoint.load(path, ("optimizer",)).arrays["optimizer"]
    order = registry.of(config).torch_side().order(part)
    of_each = [
        {key: moments[f"{key}.{ours}"] for key in ("exp_avg", "exp_avg_sq")} if f"exp_avg.{ours}" in moments else None
        for ours in order
    ]
    optimizer = torch_files.optimizer_state(
        [state[names[ours]] for ours in order], of_each, float(moments["steps"].reshape(-1)[0]),
        decoupled=config.optimizer == "adamw", lr=config.train_lr, betas=config.adam_betas,
        weight_decay=config.weight_decay,
    )  # fmt: skip
    return {"opt": optimizer, "scaler": None, "version": release}


def to_torch(args: dict) -> int:
    """Converts a checkpoint directory to a PyTorch file."""
    from ..storage import checkpoint, torch_files

    output = Path(args["output"])
    if output.suffix not in (".pt", ".safetensors"):
        raise UserError(f"--output is {output}, expected a name that ends in .pt or .safetensors")
    pickled = output.suffix == ".pt"
    if pickled:
        torch_files.require_torch()
    path = checkpoint.locate(Path(args["checkpoint"]))
    start_machine(args)
    from .. import registry
    from ..storage import convert, tensorfile
    from ..systems import recipes

    states = {}
    for weights in ("model", "ema") if pickled else (args["weights"],):
        cell, config = recipes.load(path, weights)
        system = registry.of(config)
        release = system.torch_side().release(config, args["release"])
        part = system.torch_part(cell)
        states[weights] = convert.to_torch(part, release)
    state = checkpoint.read_state(path)
    step = state["step"]
    if pickled:
        more = trainer_parts(part, config, path, states["model"], release) if release else {}
        torch_files.write(output, states, step, state["training"]["ema_calls"], more)
    else:
        tensorfile.write(output, states[args["weights"]])
    read = f'torch.load("{output}")["model"]' if pickled else f'safetensors.torch.load_file("{output}")'
    print(f"step {step} -> {output}: {system.torch_side().taker_of(config)}.load_state_dict({read}) takes it")
    return 0


def lpips(args: dict) -> int:
    """Puts the published weights of LPIPS into one file, after checking that they are whole."""
    from ..storage import torch_files

    output = Path(args["output"])
    if output.suffix != ".safetensors":
        raise UserError(f"--output is {output}, expected a name that ends in .safetensors")
    states = [torch_files.read(Path(file))["model"] for file in args["files"]]
    start_machine(args)
    from ..models.lpips import lpips_of, published
    from ..storage import tensorfile

    network = lpips_of(published(states), " and ".join(args["files"]))
    tensorfile.write(output, {name: p.asnumpy() for name, p in network.parameters_and_names()})
    print(
        f"LPIPS by {network.net} -> {output}: train.py --system autoencoder --perceptual lpips --lpips_weights {output}"
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Converts."""
    args = vars(build_parser().parse_args(argv))
    commands = {"from-torch": from_torch, "to-torch": to_torch, "from-mindspore": from_mindspore, "lpips": lpips}
    return commands[args["command"]](args)
