#!/usr/bin/env python
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

import io
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import Parser, add_machine_options, output_directory, run, start_machine
from ms_ddpm.config import Config, from_mapping, from_yaml, read_value, to_dict
from ms_ddpm.errors import UserError, quoted, reason_of


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


def _torch():
    try:
        import torch
    except ImportError:
        raise UserError("a .pt file needs PyTorch; run: pip install torch (or use .safetensors)") from None
    return torch


def read_torch_file(path: Path) -> dict:
    """{"model": state, "ema": state or None, "step": int, "ema_step": int, "version": str or None} of numpy arrays.

    What the file is its beginning tells, not its name. Raises UserError where it cannot be read.
    """
    from ms_ddpm import foreign_files, memory
    from ms_ddpm.untrusted import check_regular

    try:
        check_regular(path)
        kind, words = foreign_files.kind_of(path)
    except FileNotFoundError:
        raise UserError(f"no file {path}; expected a PyTorch checkpoint") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}; expected a PyTorch checkpoint") from None
    if words and not kind:
        raise UserError(f"{path} is {words}, expected a PyTorch checkpoint (.pt) or .safetensors")
    if kind == foreign_files.SAFETENSORS or (path.suffix == ".safetensors" and not kind):
        from ms_ddpm import tensorfile

        return {"model": _bare(tensorfile.read(path)), "ema": None, "step": 0, "ema_step": 0, "version": None}
    if kind == foreign_files.MINDSPORE:
        raise UserError(
            f"{path} is a MindSpore checkpoint, not a PyTorch file; run: convert.py from-mindspore {path} --config ..."
        )
    torch = _torch()
    try:
        # Opened here: given a path, torch goes by its name and reads a .safetensors otherwise.
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")  # of old pickle protocols: such a file is refused or read, and that is said
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for broken and for unsafe files
        if kind and "weights_only" in str(error):
            reason = "it holds pickled objects, which could run code"
        elif kind:
            reason = f"it is damaged: {reason_of(error)}"
        else:
            reason = "it is not a PyTorch file"
        raise UserError(
            f"{path} is refused: {reason}; save its state_dict() with torch.save and convert that"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, expected a checkpoint or state dict")

    def arrays(state) -> dict:
        tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
        # A tensor of stride 0 is as large as it says and takes four bytes in the file.
        memory.require(sum(4 * v.numel() for v in tensors.values()), f"what {path} holds", "it may be damaged")
        odd = [k for k, v in tensors.items() if v.is_complex() or v.is_quantized]
        if odd:
            raise UserError(f"{path}: {quoted(odd[0])} holds {tensors[odd[0]].dtype}, expected real numbers")
        try:
            return {k: v.detach().float().contiguous().numpy() for k, v in tensors.items()}
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:  # sparse, or without values
            raise UserError(f"{path} holds tensors that numpy cannot: {reason_of(error)}") from None

    model = content.get("model", content)
    if not isinstance(model, dict):
        raise UserError(f"{path}: 'model' is a {type(model).__name__}, expected a state dict")

    def whole(value):
        if isinstance(value, torch.Tensor) and value.numel() == 1 and value.device.type == "cpu":
            value = value.item()
        return value if type(value) is int and 0 <= value < 10**18 else None

    ema, ema_step = content.get("ema"), None
    if isinstance(ema, dict):
        prefix, ema_step = "ema_model.", whole(ema.get("step"))
        ema = arrays({str(k)[len(prefix) :]: v for k, v in ema.items() if str(k).startswith(prefix)}) or None
    step = whole(content.get("step", 0))
    if step is None:
        raise UserError(f"{path}: 'step' is {quoted(content['step'])}, expected a whole number")
    return {
        "model": _bare(arrays(model)),
        "ema": _bare(ema) if isinstance(ema, dict) else None,
        "step": step,
        "ema_step": step if ema_step is None else ema_step,
        "version": content.get("version"),
    }


def _bare(state: dict) -> dict:
    """``state`` without the "module." that DataParallel puts before every name."""
    from ms_ddpm.torch_releases import DATA_PARALLEL

    if state and all(name.startswith(DATA_PARALLEL) for name in state):
        return {name.removeprefix(DATA_PARALLEL): value for name, value in state.items()}
    return state


def configuration(args: dict, state: dict, version: object = None) -> Config:
    """The configuration of a PyTorch state: from --config, or read off the state, its release and --image_size."""
    from ms_ddpm import convert, torch_releases

    said = version, args.get("release")
    if args["config"]:
        values = from_yaml(args["config"])
        if values.get("system", "diffusion") == "diffusion":
            torch_releases.norm_of(state, *said, values.get("norm", "rms"), str(args["file"]))
    else:
        if not args["image_size"]:
            raise UserError("--image_size is missing: a PyTorch checkpoint does not hold it (or give --config)")
        norm = torch_releases.norm_of(state, *said, None, str(args["file"]))
        values = from_mapping({**convert.infer_diffusion(state), **network(state, norm)}, str(args["file"]))
        values["rederive_pred_noise"] = torch_releases.rederives(state, *said)
        if args["objective"]:
            values["objective"] = read_value("objective", args["objective"])
        if "objective" not in values:
            raise UserError(
                "a checkpoint of the 2022 releases does not tell its objective; give --objective "
                "(pred_noise was their default), or --config"
            )
    if args["image_size"]:
        values["image_size"] = read_value("image_size", args["image_size"])
    return Config(**values)


def network(state: dict, norm: str | None = None) -> dict:
    """The U-Net's part of a configuration, read off a GaussianDiffusion's state and the layout of its release."""
    from ms_ddpm import convert

    unet = convert.infer_unet({name[6:]: value for name, value in state.items() if name.startswith("model.")}, norm)
    unet["learned_variance"] = unet.pop("out_dim") == 2 * unet["channels"]
    return unet


def from_torch(args: dict) -> int:
    """Converts a PyTorch file to a checkpoint directory."""
    read = read_torch_file(Path(args["file"]))
    from ms_ddpm import convert, registry, torch_releases

    config = configuration(args, read["model"], read["version"])
    if newer := torch_releases.newer_than_known(args["release"] or read["version"]):
        print(f"release {newer} is newer than any that was compared; taken for like {torch_releases.newest()}")
    start_machine(args)
    system = registry.of(config)
    cell = system.build(config)
    ported = system.torch_part(cell)
    wrapped = any(name.removeprefix("module.").startswith("net.") for name in read["model"])
    if config.system == "score" and config.sigma_data is not None and not wrapped:
        raise UserError(
            f"{args['file']} is of a bare network, and the recipe has sigma_data {config.sigma_data:g}; "
            "leave sigma_data and data_mean out of it"
        )
    groups = {}
    for group, state in (("model", read["model"]), ("ema", read["ema"] or read["model"])):
        convert.from_torch(ported, state)
        groups[group] = {name: p.asnumpy().copy() for name, p in cell.parameters_and_names()}
    return write_checkpoint(args, config, cell, groups, read["step"], read["ema_step"], len(read["model"]))


def write_checkpoint(args: dict, config: Config, cell, groups: dict, step: int, ema_calls: int, count: int) -> int:
    """The checkpoint directory of ``groups``, "model" and "ema" weights of ``cell``, with a fresh optimizer."""
    import numpy as np

    from ms_ddpm import checkpoint

    trained = [name for name, p in cell.parameters_and_names() if p.requires_grad]
    groups["ema"] = {name: groups["ema"][name] for name in trained}
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
    if config.system != "autoencoder":
        print(f"sample from it: python scripts/sample.py --checkpoint {folder}")
    return 0


def from_mindspore(args: dict) -> int:
    """Converts a MindSpore checkpoint of another port to a checkpoint directory."""
    config = Config(**from_yaml(args["config"]))
    start_machine(args)
    from ms_ddpm import convert, mindspore_files, recipes, registry

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


def trainer_parts(torch, cell, config: Config, path: Path, tensors: dict, release: str) -> dict:
    """What a release's ``Trainer.load`` wants beside the weights: its optimizer's state, its version."""
    from ms_ddpm import checkpoint, convert

    names, moments = convert.torch_names(cell), checkpoint.load(path, ("optimizer",)).arrays["optimizer"]
    order = convert.parameter_order(cell)
    parameters = [torch.nn.Parameter(tensors[names[ours]]) for ours in order]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    decay = {} if config.weight_decay is None else {"weight_decay": config.weight_decay}
    optimizer = kind(parameters, lr=config.train_lr, betas=tuple(config.adam_betas), **decay)
    steps = float(moments["steps"].reshape(-1)[0])
    for ours, parameter in zip(order, parameters, strict=True):
        if steps and f"exp_avg.{ours}" in moments:  # one that has not stepped is written as a fresh one
            optimizer.state[parameter] = {"step": torch.tensor(steps)} | {
                key: torch.from_numpy(moments[f"{key}.{ours}"].copy()) for key in ("exp_avg", "exp_avg_sq")
            }
    return {"opt": optimizer.state_dict(), "scaler": None, "version": release}


def to_torch(args: dict) -> int:
    """Converts a checkpoint directory to a PyTorch file."""
    from ms_ddpm import checkpoint

    output = Path(args["output"])
    if output.suffix not in (".pt", ".safetensors"):
        raise UserError(f"--output is {output}, expected a name that ends in .pt or .safetensors")
    torch = _torch() if output.suffix == ".pt" else None
    path = checkpoint.locate(Path(args["checkpoint"]))
    start_machine(args)
    import numpy as np

    from ms_ddpm import convert, recipes, registry, tensorfile, torch_releases
    from ms_ddpm.files import write_atomically

    states, release = {}, None
    for weights in ("model", "ema") if torch else (args["weights"],):
        cell, config = recipes.load(path, weights)
        if config.system == "diffusion":
            release = torch_releases.release_like(config.norm, config.downsample, args["release"])
        elif args["release"]:
            raise UserError(f"--release is {quoted(args['release'])}, and the run is of the system {config.system}")
        states[weights] = convert.to_torch(registry.of(config).torch_part(cell), release)
    state = checkpoint.read_state(path)
    step = state["step"]
    if torch:
        tensors = {w: {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in s.items()} for w, s in states.items()}
        ema = {f"ema_model.{k}": v for k, v in tensors["ema"].items()}
        ema |= {f"online_model.{k}": v for k, v in tensors["model"].items()}
        # One number each in ema-pytorch before 0.4 and none after; torch puts a single one into none, not the reverse.
        calls = state["training"]["ema_calls"]
        ema |= {"initted": torch.tensor([calls > 0]), "step": torch.tensor([calls])}
        content = {"step": step, "model": tensors["model"], "ema": ema}
        if release:
            content |= trainer_parts(torch, cell, config, path, tensors["model"], release)
        whole = io.BytesIO()  # torch.save turns a full disk into a RuntimeError about positions
        torch.save(content, whole)
        write_atomically(output, whole.getbuffer())
    else:
        tensorfile.write(output, states[args["weights"]])
    read = f'torch.load("{output}")["model"]' if torch else f'safetensors.torch.load_file("{output}")'
    taker = "diffusion" if config.system == "diffusion" else "network"
    if config.system == "score" and config.sigma_data is not None:
        taker = f"torch_ref.PreconditionedScore(network, sde, {config.sigma_data:g}, {config.data_mean:g})"
    print(f"step {step} -> {output}: {taker}.load_state_dict({read}) takes it")
    return 0


def lpips(args: dict) -> int:
    """Puts the published weights of LPIPS into one file, after checking that they are whole."""
    output = Path(args["output"])
    if output.suffix != ".safetensors":
        raise UserError(f"--output is {output}, expected a name that ends in .safetensors")
    states = [read_torch_file(Path(file))["model"] for file in args["files"]]
    start_machine(args)
    from ms_ddpm import tensorfile
    from ms_ddpm.nets.lpips import lpips_of, published

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


if __name__ == "__main__":
    run(main)
