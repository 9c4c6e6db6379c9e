"""Names and arrays of lucidrains/denoising-diffusion-pytorch, release by release.

Arrays keep their shapes on the way (convolutions (O, I, k, k), dense (out, in)); only names differ, because that
library numbers the members of a stage where this one names them. Which release computes what with them is in
`ms_ddpm.systems.diffusion.torch_releases`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from mindspore import nn

from ...config import FIELDS, from_mapping, read_value
from ...config.layouts import LAYOUTS
from ...errors import UserError, reason_of
from ...maths import schedules
from ...models.unet import Unet
from ...nn.attention import Attention, LinearAttention
from ...storage.torch_side import TABLE_TOLERANCE, Said, TorchSide
from . import torch_releases
from .config import DiffusionConfig
from .first_ddpm import FirstDDPM
from .gaussian_diffusion import GaussianDiffusion
from .torch_releases import P2_TABLE, read_version

P2_WEIGHT = "p2_loss_weight"  # the 2022 releases' table: (k + snr)^-gamma alone, where 2.3 has loss_weight
DEFAULT_HIDDEN = 4 * 32  # channels of attention: heads times their width

MIN_SNR_GAMMA = 5  # the default
ENDS_IN_NOISE = 0.9995  # above our schedules' largest beta, .999

_RENAMES = (
    (re.compile(r"^time_mlp\.embedding\."), "time_mlp.0."),
    (re.compile(r"^time_mlp\.linear1\."), "time_mlp.1."),
    (re.compile(r"^time_mlp\.linear2\."), "time_mlp.3."),
    (re.compile(r"\bmlp\.(weight|bias)$"), r"mlp.1.\1"),
    (re.compile(r"^((?:downs|ups)\.\d+)\.block1\."), r"\1.0."),
    (re.compile(r"^((?:downs|ups)\.\d+)\.block2\."), r"\1.1."),
    (re.compile(r"^((?:downs|ups)\.\d+)\.attn\."), r"\1.2."),
    (re.compile(r"^((?:downs|ups)\.\d+)\.resample\.conv\."), r"\1.3.1."),
    (re.compile(r"^((?:downs|ups)\.\d+)\.resample\."), r"\1.3."),
)


def _attention_name(name: str, linear: bool, pre_norm: bool) -> str:
    """The PyTorch name, within its attention, of our ``name`` there."""
    if linear:
        name = re.sub(r"^to_out\.", "to_out.0.", name)
        name = re.sub(r"^out_norm\.", "to_out.1.", name)
    if pre_norm:  # Residual(PreNorm(attention)) of 2022
        name = f"fn.{name}" if name.startswith("norm.") else f"fn.fn.{name}"
    return name


def unet_names(unet: Unet) -> dict[str, str]:
    """Our parameter names -> PyTorch's, for every parameter of ``unet``."""
    attentions = {
        f"{name}.": isinstance(cell, LinearAttention)
        for name, cell in unet.cells_and_names()
        if isinstance(cell, (LinearAttention, Attention))
    }
    names = {}
    for ours, _ in unet.parameters_and_names():
        theirs = ours
        for prefix, linear in attentions.items():
            if ours.startswith(prefix):
                theirs = prefix + _attention_name(ours[len(prefix) :], linear, LAYOUTS[unet.norm_kind].wrapped)
        for pattern, replacement in _RENAMES:
            theirs = pattern.sub(replacement, theirs)
        names[ours] = theirs
    return names


def _network(cell: nn.Cell) -> str | None:
    """Where ``cell`` has its U-Net: "" where it is one, None where it has none."""
    if isinstance(cell, Unet):
        return ""
    inner = "model" if isinstance(cell, GaussianDiffusion) else "network" if isinstance(cell, FirstDDPM) else ""
    return f"{inner}." if inner and isinstance(getattr(cell, inner), Unet) else None


def names_of(cell: nn.Cell) -> dict[str, str] | None:
    """Our parameter names -> PyTorch's, for a `Unet`, and a `GaussianDiffusion` or `FirstDDPM` around one."""
    prefix = _network(cell)
    if prefix is None:
        return None
    unet = getattr(cell, prefix[:-1]) if prefix else cell
    return {f"{prefix}{ours}": f"{prefix}{theirs}" for ours, theirs in unet_names(unet).items()}


# Names at one place of the PyTorch modules, in the order in which their parameters come.
_ORDER = (
    "init_conv", "time_mlp", "downs", "ups", "mid_block1", "mid_attn", "mid_block2", "final_res_block", "final_conv",
    "mlp", "block1", "block2", "res_conv", "proj", "mem_kv", "fn", "norm", "to_qkv", "to_out", "g", "weights", "weight",
    "bias",
)  # fmt: skip


def parameter_order(diffusion: GaussianDiffusion) -> list[str]:
    """Our names of a diffusion's parameters in the order of PyTorch's, which is that of its optimizer's state."""
    names = names_of(diffusion)

    def place(ours: str) -> list[int]:
        parts = names[ours].removeprefix("model.").split(".")
        return [int(part) if part.isdigit() else _ORDER.index(part) for part in parts]

    return sorted(names, key=place)


def _is_2022(cell: nn.Cell) -> bool:
    return getattr(getattr(cell, "model", cell), "norm_kind", "") == "group"


def constants(cell: nn.Cell, release: str | None = None, among: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """See `TorchSide.constants`: the tables of a GaussianDiffusion."""
    if not isinstance(cell, GaussianDiffusion):
        return {}
    if among is not None:
        names_of_2022 = P2_WEIGHT in among
    else:
        names_of_2022 = _is_2022(cell) if release is None else read_version(release) <= P2_TABLE[1]
    tables = dict(cell.tables)
    if names_of_2022:
        of_objective = schedules.loss_weight(tables["alphas_cumprod"], cell.objective)
        tables[P2_WEIGHT] = tables.pop("loss_weight") / of_objective
    return tables


# --- what a PyTorch state dict says about the network it came from ----------------------------------------------------


def _closest(candidates: Mapping[str, np.ndarray], given: np.ndarray, what: str) -> str:
    for name, candidate in candidates.items():
        if candidate.shape == given.shape and np.allclose(candidate, given, rtol=TABLE_TOLERANCE, atol=1e-9):
            return name
    raise UserError(f"the checkpoint's {what} is none of: {', '.join(candidates)}; give a --config that describes it")


def infer_unet(state: Mapping[str, np.ndarray], norm: str | None = None) -> dict:
    """The `Unet` arguments that the names and shapes of a Unet's PyTorch state dict tell.

    They do not tell every layout from every other: ``norm``, see `torch_releases.norm_of`, says which it is. Without,
    it is the first that has these names: "rms", "group", "group-1.8.0" or "group-1.9.0".
    """
    try:
        return _read_unet(state, norm or _first_norm(state))
    except UserError:
        raise
    except (KeyError, ValueError, AttributeError, IndexError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise UserError(
            f"the checkpoint holds no whole U-Net of denoising-diffusion-pytorch: {reason_of(error)}"
        ) from None


def _first_norm(state: Mapping[str, np.ndarray]) -> str:
    if "downs.0.0.block1.norm.weight" not in state:
        return "rms"
    if "mid_attn.fn.norm.g" in state:
        return "group"
    return "group-1.9.0" if "mid_attn.mem_kv" in state else "group-1.8.0"


def _read_unet(state: Mapping[str, np.ndarray], norm: str) -> dict:
    stages = 1 + max(int(match[1]) for match in (re.match(r"downs\.([0-9]{1,3})\.", name) for name in state) if match)
    layout = LAYOUTS[norm]
    dim = state["time_mlp.1.weight"].shape[0] // 4
    inputs, outputs = state["init_conv.weight"].shape[1], state["final_conv.weight"].shape[0]
    channels = min(inputs, outputs)
    if inputs == outputs and inputs in (2, 6, 8):
        raise UserError(
            f"the checkpoint has {inputs} channels in and out: images of {inputs} channels, or of {inputs // 2} with "
            "self-conditioning and learned variance? give a --config that describes it"
        )

    def resample(i: int) -> np.ndarray:
        return state.get(f"downs.{i}.3.weight", state.get(f"downs.{i}.3.1.weight"))

    arguments = {
        "dim": dim,
        "init_dim": int(state["init_conv.weight"].shape[0]),
        "dim_mults": [int(resample(i).shape[0]) // dim for i in range(stages)],
        "channels": int(channels),
        "out_dim": int(outputs),
        "self_condition": bool(inputs == 2 * channels and inputs != outputs),
        "norm": norm,
        "downsample": "conv" if stages > 1 and "downs.0.3.weight" in state else "unshuffle",
    }
    if "time_mlp.0.weights" in state:
        arguments["learned_sinusoidal_cond"] = True
        arguments["learned_sinusoidal_dim"] = int(state["time_mlp.0.weights"].shape[0]) * 2
    if not layout.wrapped:
        full = [f"downs.{i}.2.to_out.weight" in state for i in range(stages)]
        for i in range(stages):
            if not full[i] and f"downs.{i}.2.to_out.0.weight" not in state:
                raise KeyError(f"downs.{i}.2.to_out.weight")
        arguments["full_attn"] = full
    if layout.memory:
        memories = [state[f"downs.{i}.2.mem_kv"].shape for i in range(stages)]
        arguments["attn_heads"] = [int(shape[1]) for shape in memories]
        arguments["attn_dim_head"] = [int(shape[3 if f else 2]) for shape, f in zip(memories, full, strict=True)]
    elif any(state[name].shape[0] != 3 * DEFAULT_HIDDEN for name in state if name.endswith(".to_qkv.weight")):
        raise UserError(
            "the checkpoint's attention has another width than 4 heads of 32, and its names do not tell how many heads "
            "there are; give a --config that describes it"
        )
    return arguments


def infer_diffusion(state: Mapping[str, np.ndarray]) -> dict:
    """timesteps, beta_schedule and objective, from the tables of a GaussianDiffusion's PyTorch state dict.

    The 2022 releases have no table that tells the objective: it is missing then.
    """
    if "betas" not in state:
        raise UserError("the checkpoint holds no diffusion tables (no 'betas'); give a --config that describes it")
    most = FIELDS["timesteps"].metadata["high"]
    if np.ndim(state["betas"]) != 1 or not 1 <= len(state["betas"]) <= most or state["betas"].dtype.kind != "f":
        raise UserError(f"the checkpoint's 'betas' has shape {np.shape(state['betas'])}, expected 1 to {most} numbers")
    betas = np.asarray(state["betas"], np.float64)
    if betas[-1] > ENDS_IN_NOISE:
        raise UserError(
            f"the checkpoint's last beta is {betas[-1]:g}, so that nothing of the image is left at the last step; such "
            "noise schedules (those of releases 1.6.0 and 1.6.1) do not convert: none here is like them"
        )
    candidates = {}
    for name, schedule in schedules.BETA_SCHEDULES.items():
        candidates[name] = schedule(len(betas))
    schedule = _closest(candidates, betas, "noise schedule")
    tables = schedules.diffusion_tables(candidates[schedule])
    found = {"timesteps": len(betas), "beta_schedule": schedule}
    if "loss_weight" in state:
        weights = {name: schedules.loss_weight(tables["alphas_cumprod"], name) for name in schedules.OBJECTIVE_WEIGHT}
        weight = np.asarray(state["loss_weight"], np.float64)
        clipped = {
            name: schedules.loss_weight(tables["alphas_cumprod"], name, min_snr_loss_weight=True) for name in weights
        }
        try:
            found["objective"] = _closest(weights, weight, "objective (loss_weight)")
        except UserError:
            _refuse_inverted(tables["alphas_cumprod"], clipped, weight)
            found["objective"] = _closest(clipped, weight, "objective (loss_weight)")
            found["min_snr_loss_weight"] = True
    return found


def _refuse_inverted(alphas_cumprod: np.ndarray, clipped: Mapping[str, np.ndarray], weight: np.ndarray) -> None:
    """Raises UserError where ``weight`` is that of min-SNR the wrong way round, which three releases had."""
    snr = alphas_cumprod / (1 - alphas_cumprod)
    for name, right in clipped.items():
        wrong = right / np.minimum(snr, MIN_SNR_GAMMA) * np.maximum(snr, MIN_SNR_GAMMA)
        if wrong.shape == weight.shape and np.allclose(wrong, weight, rtol=TABLE_TOLERANCE):
            raise UserError(
                f"the checkpoint's loss_weight is that of {name} with min_snr_loss_weight in releases 1.5.0 to 1.5.2, "
                "which took the larger of SNR and gamma for the smaller; it does not convert: no loss here is like it"
            )


def network(state: Mapping[str, np.ndarray], norm: str | None = None) -> dict[str, Any]:
    """The U-Net's part of a configuration, read off a GaussianDiffusion's state and the layout of its release."""
    unet = infer_unet({name[6:]: value for name, value in state.items() if name.startswith("model.")}, norm)
    unet["learned_variance"] = unet.pop("out_dim") == 2 * unet["channels"]
    return unet


class DiffusionTorch(TorchSide):
    """The files of the library's Trainer, and states of its GaussianDiffusion."""

    taker = "diffusion"

    def names(self, part: nn.Cell) -> dict[str, str] | None:
        """`names_of`."""
        return names_of(part)

    def constants(self, part: nn.Cell, **like: Any) -> dict[str, np.ndarray]:
        """`constants`."""
        return constants(part, **like)

    def order(self, part: nn.Cell) -> Sequence[str]:
        """`parameter_order`."""
        return parameter_order(part)

    def configuration(self, state: Mapping[str, np.ndarray], said: Said) -> dict[str, Any]:
        """Network, schedule and objective, from names, shapes and tables, and what is said of the release."""
        norm = torch_releases.norm_of(state, said.version, said.release, None, said.file)
        values = from_mapping({**infer_diffusion(state), **network(state, norm)}, said.file)
        values["rederive_pred_noise"] = torch_releases.rederives(state, said.version, said.release)
        if said.objective:
            values["objective"] = read_value("objective", said.objective)
        if "objective" not in values:
            raise UserError(
                "a checkpoint of the 2022 releases does not tell its objective; give --objective "
                "(pred_noise was their default), or --config"
            )
        return values

    def check(self, config: DiffusionConfig, state: Mapping[str, np.ndarray], said: Said) -> None:
        """Raises UserError where the release that the state is of has another layout than the configuration."""
        torch_releases.norm_of(state, said.version, said.release, config.norm, said.file)

    def remark(self, said: Said) -> str:
        """That the release is newer than any that was compared."""
        newer = torch_releases.newer_than_known(said.release or said.version)
        if not newer:
            return ""
        return f"release {newer} is newer than any that was compared; taken for like {torch_releases.newest()}"

    def release(self, config: DiffusionConfig, wanted: str | None) -> str:
        """`torch_releases.release_like`."""
        return torch_releases.release_like(config.norm, config.downsample, wanted)
