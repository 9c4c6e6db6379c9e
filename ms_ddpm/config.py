"""The configuration of a run: one dataclass, from which YAML files, flags and ``--help`` are all made."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._readers import READERS
from .config_systems import MAX_STEPS, SCORE_SAMPLERS, SMALLEST_EPS, SYSTEMS, check_system
from .errors import UserError, quoted, reason_of
from .layouts import NORMS

SCHEDULE_NAMES = ("constant", "cosine", "linear", "exponential")
MAX_YAML = 100_000  # bytes; PyYAML reads about 100 kB a second
MAX_YAML_VALUES = 10_000  # once aliases are written out; a recipe has fewer than a hundred


def _option(
    default: Any, kind: str, help: str, *, choices: Sequence[str] = (), low: float | None = None,
    high: float | None = None,
) -> Any:  # fmt: skip
    """A field: ``kind`` is a key of `_readers.READERS`, with "?" behind it where null is allowed."""
    metadata = {"kind": kind, "help": help, "choices": tuple(choices), "low": low, "high": high}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Config:
    """Everything that makes a run. Names are those of `Unet`, `GaussianDiffusion` and `Trainer`."""

    source: str = _option("", "str", "paper or article the recipe comes from (a note)")
    system: str = _option("diffusion", "str", "what is trained; see docs/systems.md", choices=SYSTEMS)
    # data
    dataset: str = _option(
        "digits", "name", "'digits' or 'digits28' (built in), or a path: image folder, MNIST/CIFAR files, .npz"
    )
    image_size: Any = _option(8, "size", "side of the images, or height and width", low=1)
    channels: int = _option(1, "int", "1 grayscale, 3 RGB, 4 RGBA", low=1)
    background: str = _option(
        "white", "colour", "seen through transparent pixels (1 or 3 channels): a colour's name, or #rrggbb"
    )
    full_depth: bool = _option(False, "bool", "keep what PNG and TIFF of 16 bits hold; otherwise 8 bits of it")
    labels_from: str = _option(
        "files", "str", "files: labels of MNIST, CIFAR, .npz; folders: each folder of images is a class",
        choices=("files", "folders"),
    )  # fmt: skip
    flip: bool = _option(False, "bool", "mirror each image with probability 1/2")
    validation_images: int = _option(128, "int", "images held out for the validation loss; 0: none", low=0)
    workers: int = _option(1, "int", "threads that load images", low=1, high=1024)
    # network
    dim: int = _option(64, "int", "width of the first stage", low=4)
    init_dim: Any = _option(None, "int?", "channels after the first convolution (default: dim)", low=1)
    dim_mults: list = _option(
        [1, 2, 4, 8], "ints", "width of each stage in units of dim; resolution halves between", low=1
    )
    self_condition: bool = _option(False, "bool", "feed the previous estimate of x_0 back in")
    learned_variance: bool = _option(False, "bool", "learn the variance of the reverse process")
    learned_sinusoidal_cond: bool = _option(False, "bool", "learned Fourier features of the time")
    random_fourier_features: bool = _option(False, "bool", "fixed random Fourier features of the time")
    learned_sinusoidal_dim: int = _option(16, "int", "how many Fourier features", low=2)
    sinusoidal_pos_emb_theta: float = _option(10000.0, "float", "longest period of the sinusoids", low=1)
    dropout: float = _option(0.0, "float", "dropout in the residual blocks", low=0)
    attn_dim_head: Any = _option(32, "int_or_ints", "width of a head, or one per stage", low=1)
    attn_heads: Any = _option(4, "int_or_ints", "attention heads, or one per stage", low=1)
    full_attn: Any = _option(None, "bools?", "softmax attention per stage (default: innermost only)")
    flash_attn: bool = _option(False, "bool", "softmax attention block by block: less memory, same numbers")
    norm: str = _option(
        "rms", "str", "'rms': today's PyTorch layout; 'group': the 2022 one; others: of the releases between",
        choices=NORMS,
    )  # fmt: skip
    downsample: str = _option("unshuffle", "str", "'unshuffle': today's; 'conv': 2022's", choices=("unshuffle", "conv"))
    # diffusion
    timesteps: int = _option(1000, "int", "T", low=1, high=1_000_000)
    sampling_timesteps: Any = _option(None, "int?", "steps of sampling; fewer than T: DDIM", low=1, high=MAX_STEPS)
    objective: str = _option("pred_v", "str", "what is predicted", choices=("pred_v", "pred_noise", "pred_x0"))
    beta_schedule: str = _option(
        "sigmoid", "str", "noise schedule", choices=("linear", "cosine", "sigmoid", "scaled_linear")
    )
    schedule_fn_kwargs: dict = _option({}, "mapping", "arguments of the schedule, as name=value")
    loss_type: str = _option("l2", "str", "loss", choices=("l2", "l1"))
    ddim_sampling_eta: float = _option(0.0, "float", "0 deterministic ... 1 as noisy as DDPM", low=0)
    rederive_pred_noise: bool = _option(
        True, "bool", "DDIM: noise of a clipped x_0 is computed again from it; no: it stays as predicted, as in 2022"
    )
    offset_noise_strength: float = _option(0.0, "float", "offset noise", low=0)
    min_snr_loss_weight: bool = _option(False, "bool", "min-SNR loss weight")
    min_snr_gamma: float = _option(5.0, "float", "its gamma", low=0)
    p2_loss_weight_gamma: float = _option(0.0, "float", "P2 loss weight: gamma; 0: off", low=0)
    p2_loss_weight_k: float = _option(1.0, "float", "P2 loss weight: k", low=0)
    immiscible: bool = _option(False, "bool", "assign each image the nearest noise of the batch")
    # classes, of the score and latent systems
    num_classes: int = _option(0, "int", "classes to condition on; 0: none", low=0, high=100_000)
    class_dropout: float = _option(
        0.1, "float", "how often the class is hidden in training, for guidance", low=0, high=1
    )
    guidance_scale: float = _option(1.0, "float", "classifier-free guidance in sampling; 1: none", low=0)
    # score: stochastic differential equations
    sde: str = _option("ve", "str", "the noising process", choices=("ve", "vp", "subvp"))
    sigma: float = _option(25.0, "float", "ve: its noise grows as sigma^t", low=1.001)
    sde_beta_min: float = _option(0.1, "float", "vp, subvp: beta at t = 0", low=0)
    sde_beta_max: float = _option(20.0, "float", "vp, subvp: beta at t = 1", low=0)
    score_net: str = _option(
        "concat", "str", "skips of the score U-Net; 'transformer': added, with attention to the class",
        choices=("concat", "add", "transformer"),
    )  # fmt: skip
    whole_images: bool = _option(
        False, "bool", "zeros around the images, so that the score U-Net sees their last row and column"
    )
    channel_widths: list = _option([32, 64, 128, 256], "ints", "channels of each resolution", low=1)
    embed_dim: int = _option(256, "int", "width of the time's Fourier features", low=2)
    fourier_scale: float = _option(30.0, "float", "of those features' frequencies", low=0)
    text_dim: int = _option(256, "int", "width of the class embedding", low=1)
    num_heads: int = _option(1, "int", "attention heads of the transformer blocks", low=1)
    sigma_data: Any = _option(
        None, "float?", "the data's deviation, to precondition the network with (default: it is not)", low=1e-3
    )
    data_mean: float = _option(0.0, "float", "the data's mean, with sigma_data")
    time_power: float = _option(1.0, "float", "above 1: more training at small times", low=1e-3, high=10)
    score_sampler: str = _option(
        "euler", "str", "euler (Euler-Maruyama), pc (predictor-corrector), ode (RK45), heun", choices=SCORE_SAMPLERS
    )
    sampling_eps: float = _option(1e-3, "float", "time at which sampling ends", low=SMALLEST_EPS, high=0.5)
    sampling_denoise: bool = _option(False, "bool", "end with the expected image instead of a last step")
    corrector_snr: float = _option(0.16, "float", "pc: signal-to-noise ratio of the corrector", low=0)
    # autoencoder and latent
    autoencoder: Any = _option(None, "name?", "latent: output directory of the autoencoder's run")
    autoencoder_channels: list = _option(
        [4, 4, 4], "ints", "channels of its three convolutions; the last: of latents", low=1
    )
    perceptual: str = _option(
        "gradient", "str", "what is added to the squared error", choices=("lpips", "gradient", "none")
    )
    lpips_weights: Any = _option(None, "name?", "lpips: its weights, made by scripts/convert.py lpips")
    perceptual_weight: float = _option(1.0, "float", "how much of it", low=0)
    # corruption
    noise_kind: str = _option(
        "uniform", "str", "what images are corrupted with",
        choices=("uniform", "gaussian", "salt_and_pepper", "poisson", "multiplicative"),
    )  # fmt: skip
    # training
    epochs: Any = _option(
        None, "int?", "passes over the data, instead of train_num_steps; see docs/systems.md", low=1, high=MAX_STEPS
    )
    train_num_steps: int = _option(100000, "int", "optimizer steps", low=1, high=10**9)
    train_batch_size: int = _option(16, "int", "images per step and accumulation", low=1)
    gradient_accumulate_every: int = _option(1, "int", "batches per optimizer step", low=1)
    train_lr: float = _option(1e-4, "float", "learning rate", low=0)
    optimizer: str = _option("adam", "str", "optimizer", choices=("adam", "adamw"))
    adam_betas: list = _option([0.9, 0.99], "floats", "betas of Adam", low=0)
    weight_decay: Any = _option(None, "float?", "weight decay (default: the optimizer's, adam 0, adamw 0.01)", low=0)
    max_grad_norm: float = _option(1.0, "float", "largest norm of the gradient; larger ones are scaled down", low=0)
    lr_schedule: str = _option("constant", "str", "learning-rate schedule", choices=SCHEDULE_NAMES)
    lr_decay: float = _option(0.98, "float", "exponential: factor per epoch", low=0, high=1)
    lr_floor: float = _option(0.2, "float", "exponential: smallest factor", low=0, high=1)
    warmup_steps: int = _option(0, "int", "steps of linear warm-up", low=0)
    ema_decay: float = _option(0.995, "float", "decay of the averaged weights", low=0)
    ema_update_every: int = _option(10, "int", "steps between their updates", low=1)
    amp_level: str = _option("O0", "str", "O0 float32; O1 matrix products in half precision; O2 activations too",
                             choices=("O0", "O1", "O2"))  # fmt: skip
    amp_dtype: str = _option("float16", "str", "half precision of O1 and O2", choices=("float16", "bfloat16"))
    max_nonfinite: int = _option(20, "int", "stop after so many non-finite steps in a row", low=1)
    seed: int = _option(0, "int", "one seed gives one run", low=0)
    # output
    output_dir: str = _option("runs/default", "name", "where checkpoints, log and samples go")
    save_and_sample_every: int = _option(1000, "int", "steps between checkpoints and sample grids", low=1)
    num_samples: int = _option(25, "int", "images in the sample grid", low=1)
    keep_checkpoint_max: int = _option(3, "int", "newest checkpoints kept (best is kept too); 0: all", low=0)
    log_every: int = _option(10, "int", "steps between log lines", low=1)
    tensorboard: bool = _option(False, "bool", "write TensorBoard files too")
    resume: str = _option(
        "auto", "name", "auto: continue what is in output_dir; whole: also where its last is damaged; never; a path"
    )
    accept_changes: Any = _option(
        None, "names?", "continue although these have changed: the names that the refusal says (data: the data set)"
    )
    init_from: Any = _option(
        None, "name?", "a new run begins with the weights of this run or checkpoint, at step 0 (fine-tuning)"
    )
    init_weights: str = _option("ema", "str", "init_from: its averaged or its raw weights", choices=("ema", "model"))
    # machine
    device_target: str = _option("CPU", "name", "CPU, GPU or Ascend")
    device_id: Any = _option(None, "int?", "which GPU or Ascend device", low=0)
    mode: int = _option(0, "int", "0 compiled graph, 1 PyNative (debugging)", low=0)
    matmul_precision: str = _option("highest", "str", "float32 products: highest: true float32; high: TF32 or HF32",
                                    choices=("highest", "high"))  # fmt: skip
    threads: Any = _option(None, "int?", "CPU cores to compute on (default: all)", low=1, high=4096)
    distribute: bool = _option(False, "bool", "one of several workers; started by msrun --worker_num N ...")


FIELDS = {f.name: f for f in dataclasses.fields(Config)}

# What may differ between a run and its continuation: everything else would make it another run.
FREE_ON_RESUME = frozenset(
    [
        "source",
        "train_num_steps",
        "output_dir",
        "save_and_sample_every",
        "num_samples",
        "keep_checkpoint_max",
        "log_every",
        "tensorboard",
        "resume",
        "accept_changes",
        "init_from",  # a run that goes on has weights of its own
        "init_weights",
        "device_target",
        "device_id",
        "mode",
        "threads",
        "distribute",
        "workers",
        "max_nonfinite",
        "train_lr",  # what the message about non-finite steps advises to change
        "max_grad_norm",
        "amp_level",
        "amp_dtype",
        "matmul_precision",
        "sampling_timesteps",
        "ddim_sampling_eta",
        "rederive_pred_noise",
        "guidance_scale",
        "score_sampler",
        "sampling_eps",
        "corrector_snr",
        "sampling_denoise",
        "epochs",
    ]
)


def read_value(name: str, value: Any) -> Any:
    """``value`` of the configuration key ``name``, in its type. Raises UserError where it does not fit."""
    meta = FIELDS[name].metadata
    kind = meta["kind"]
    if kind.endswith("?") and (value is None or value in ("null", ["null"])):
        return None
    read, expected = READERS[kind.rstrip("?")]
    try:
        result = read(value)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"configuration key {name} is {quoted(value)}, expected {expected}") from None
    if meta["choices"] and result not in meta["choices"]:
        raise UserError(f"configuration key {name} is {quoted(value)}, expected one of: {', '.join(meta['choices'])}")
    low, high = meta["low"], meta["high"]
    items = result if isinstance(result, list) else [result]
    if low is not None and any(item < low for item in items):
        raise UserError(f"configuration key {name} is {quoted(value)}, expected at least {low:g}")
    if high is not None and any(item > high for item in items):
        raise UserError(f"configuration key {name} is {quoted(value)}, expected at most {high}")
    return result


def from_mapping(values: dict, origin: str) -> dict[str, Any]:
    """Typed values of a mapping; ``origin`` is named in errors."""
    if not isinstance(values, dict):
        raise UserError(f"{origin} holds {type(values).__name__}, expected 'key: value' lines")
    result = {}
    for name, value in values.items():
        if name not in FIELDS:
            near = difflib.get_close_matches(name[:50], FIELDS, 1) if isinstance(name, str) else []
            hint = f"; did you mean {near[0]}?" if near else "; train.py --help lists the keys"
            raise UserError(f"{origin} has the unknown configuration key {quoted(name)}{hint}")
        try:
            result[name] = read_value(name, value)
        except UserError as error:
            raise UserError(f"{origin}: {error}") from None
    return result


def _check_nodes(root: Any) -> None:
    """Raises ValueError where a YAML document is a bomb of aliases or gives a key twice."""
    import yaml

    left, waiting = MAX_YAML_VALUES, [root]
    while waiting:
        node = waiting.pop()
        left -= 1
        if left < 0:
            raise ValueError(f"it holds more than {MAX_YAML_VALUES} values")
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    seen = set()
    for key in (key.value for key, _ in root.value) if isinstance(root, yaml.MappingNode) else ():
        if isinstance(key, str) and key in seen:
            raise ValueError(f"it gives the key {quoted(key)} more than once")
        seen.add(key if isinstance(key, str) else None)


def _parse(text: str) -> Any:
    """The values of a YAML text. Raises ValueError where it is none, in one line."""
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        _check_nodes(root)
        return loader.construct_document(root)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError) as error:
        raise ValueError(reason_of(error)) from None  # PyYAML's constructors let all of these through


def from_yaml(path: str | Path) -> dict[str, Any]:
    """Typed values of a YAML file. Raises UserError where it cannot be read or a key or value is wrong."""
    from .untrusted import read_text

    try:
        values = _parse(read_text(path, MAX_YAML))
    except OSError as error:
        raise UserError(f"cannot read --config {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"--config {path} is not YAML: {reason_of(error)}") from None
    return from_mapping(values, f"--config {path}")


# Kinds of one value -> how help shows it.
_SCALARS = {"int": "INT", "float": "FLOAT", "str": "STR", "name": "STR", "colour": "COLOUR"}


def add_options(parser: argparse.ArgumentParser, names: Sequence[str] | None = None) -> None:
    """Adds a flag per configuration key (or per name given) to ``parser``; unset flags stay out of the result."""
    for name in names or FIELDS:
        if name == "source":
            continue
        f = FIELDS[name]
        kind, help = f.metadata["kind"].rstrip("?"), f.metadata["help"].replace("%", "%%")
        default = f.default if f.default is not dataclasses.MISSING else f.default_factory()
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": f"{help} [{default}]", "dest": name}
        if kind == "bool":
            options["action"] = argparse.BooleanOptionalAction
        elif kind not in _SCALARS:
            options["nargs"] = "+"
        if f.metadata["choices"]:
            options["metavar"] = "{" + ",".join(f.metadata["choices"]) + "}"
        elif kind != "bool":
            options["metavar"] = _SCALARS.get(kind, "X")
        parser.add_argument(f"--{name}", **options)


def resolve(flags: dict[str, Any], config_path: str | None) -> Config:
    """The configuration of a YAML file (or the defaults) overridden by flags.

    Raises UserError for a value that does not fit, and for a key that only other systems read.
    """
    values = from_yaml(config_path) if config_path else {}
    values.update({name: read_value(name, value) for name, value in flags.items() if name in FIELDS})
    config = Config(**values)
    check_system(vars(config), vars(Config()))
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Plain values, for JSON and YAML."""
    return dataclasses.asdict(config)


def free_on_resume(lr_schedule: str) -> frozenset[str]:
    """The keys that may change: a run may be made longer, unless its learning rate depends on its length."""
    return FREE_ON_RESUME - {"train_num_steps", "epochs"} if lr_schedule in ("cosine", "linear") else FREE_ON_RESUME


def changes(old: dict[str, Any], new: dict[str, Any], also_free: Sequence[str] = ()) -> dict[str, str]:
    """What makes ``new`` another run than ``old``, as key -> phrase; ``also_free`` may differ too.

    What ``old`` lacks, because its version did not know it, was as the default is.
    """
    free = free_on_resume(new["lr_schedule"])
    before = {**to_dict(Config()), **old} if old else {}
    fixed = [name for name in FIELDS if name not in free and name not in also_free and name in before and name in new]
    return {
        name: f"{name} was {quoted(before[name])}, now {quoted(new[name])}"
        for name in fixed
        if before[name] != new[name]
    }


def differences(old: dict[str, Any], new: dict[str, Any], also_free: Sequence[str] = ()) -> list[str]:
    """The phrases of `changes`."""
    return list(changes(old, new, also_free).values())
