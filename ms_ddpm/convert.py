"""Weights to and from PyTorch: names and arrays of lucidrains/denoising-diffusion-pytorch, release by release.

Arrays keep their shapes on the way (convolutions (O, I, k, k), dense (out, in)); only names differ, because that
library numbers the members of a stage where this one names them. Which release computes what with them is in
`ms_ddpm.torch_releases`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from mindspore import nn

from . import schedules
from .config import FIELDS
from .diffusion import GaussianDiffusion
from .errors import UserError, reason_of
from .first_ddpm import FirstDDPM
from .layouts import LAYOUTS
from .nets.attention import Attention, LinearAttention
from .nets.unet import Unet
from .ops.assign import set_value
from .torch_releases import DATA_PARALLEL, P2_TABLE, read_version

TABLE_TOLERANCE = 1e-3
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


# Names at one place of the PyTorch modules, in the order in which their parameters come.
_ORDER = (
    "init_conv", "time_mlp", "downs", "ups", "mid_block1", "mid_attn", "mid_block2", "final_res_block", "final_conv",
    "mlp", "block1", "block2", "res_conv", "proj", "mem_kv", "fn", "norm", "to_qkv", "to_out", "g", "weights", "weight",
    "bias",
)  # fmt: skip


def parameter_order(diffusion: GaussianDiffusion) -> list[str]:
    """Our names of a diffusion's parameters in the order of PyTorch's, which is that of its optimizer's state."""
    names = torch_names(diffusion)

    def place(ours: str) -> list[int]:
        parts = names[ours].removeprefix("model.").split(".")
        return [int(part) if part.isdigit() else _ORDER.index(part) for part in parts]

    return sorted(names, key=place)


def torch_names(cell: nn.Cell) -> dict[str, str]:
    """Our parameter names -> PyTorch's, for a `Unet`, a `GaussianDiffusion` or `FirstDDPM` around one, or a Cell with
    the attribute ``named_as_torch``, whose names are PyTorch's already.
    """
    if isinstance(cell, Unet):
        return unet_names(cell)
    if getattr(cell, "named_as_torch", False):
        return {name: name for name, _ in cell.parameters_and_names()}
    inner = "model" if isinstance(cell, GaussianDiffusion) else "network" if isinstance(cell, FirstDDPM) else ""
    if inner and isinstance(getattr(cell, inner), Unet):
        return {f"{inner}.{ours}": f"{inner}.{theirs}" for ours, theirs in unet_names(getattr(cell, inner)).items()}
    raise UserError(f"{type(cell).__name__} has no PyTorch names; expected a Unet or a GaussianDiffusion around one")


def _tables(cell: nn.Cell, names_of_2022: bool) -> dict[str, np.ndarray]:
    """The tables a PyTorch state of ``cell`` has, float64."""
    if not isinstance(cell, GaussianDiffusion):
        return {}
    tables = dict(cell.tables)
    if names_of_2022:
        of_objective = schedules.loss_weight(tables["alphas_cumprod"], cell.objective)
        tables[P2_WEIGHT] = tables.pop("loss_weight") / of_objective
    return tables


def _is_2022(cell: nn.Cell) -> bool:
    return getattr(getattr(cell, "model", cell), "norm_kind", "") == "group"


def to_torch(cell: nn.Cell, release: str | None = None) -> dict[str, np.ndarray]:
    """The state dict PyTorch would have: names -> float32 arrays, tables included for a GaussianDiffusion.

    ``release``: of denoising-diffusion-pytorch, whose names the tables have (default: `torch_releases.release_like`).
    """
    has_p2 = _is_2022(cell) if release is None else read_version(release) <= P2_TABLE[1]
    values = dict(cell.parameters_and_names())
    state = {theirs: values[ours].asnumpy().copy() for ours, theirs in torch_names(cell).items()}
    return {**{name: table.astype(np.float32) for name, table in _tables(cell, has_p2).items()}, **state}


def _table_problems(tables: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> list[str]:
    """One sentence per table of ``state`` that is not the cell's own."""
    problems = []
    for name, own in tables.items():
        given = state.get(name)
        if given is None:
            problems.append(f"missing table {name}")
        elif np.shape(given) != own.shape:
            problems.append(f"table {name} has shape {np.shape(given)}, expected {own.shape}")
        else:
            with np.errstate(all="ignore"):
                error = np.abs(np.asarray(given, np.float64) - own) / np.maximum(np.abs(own), 1e-12)
            if not error.max() <= TABLE_TOLERANCE:
                problems.append(
                    f"table {name} differs by {error.max():.1e} at t={int(np.argmax(error))} "
                    "(other schedule or objective?)"
                )
    return problems


def from_torch(cell: nn.Cell, state: Mapping[str, np.ndarray]) -> None:
    """Loads a PyTorch state dict (names -> numpy arrays) into ``cell``, all of it or nothing.

    The ``module.`` that ``torch.nn.DataParallel`` puts before every name is taken off.

    Raises:
        UserError: naming every missing and unexpected key, every shape that differs, and every table that differs from
            the cell's own by more than 1e-3 (the cell keeps its own).
    """
    # PyTorch's batch normalisation counts its batches, and computes nothing with the number.
    state = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    parameters = dict(cell.parameters_and_names())
    names = torch_names(cell)
    if state and all(name.startswith(DATA_PARALLEL) for name in state):
        state = {name.removeprefix(DATA_PARALLEL): value for name, value in state.items()}
    tables = _tables(cell, P2_WEIGHT in state)
    known = {*names.values(), *tables}
    problems = [f"missing {theirs}" for theirs in names.values() if theirs not in state]
    problems += [f"unexpected {theirs}" for theirs in state if theirs not in known]
    for ours, theirs in names.items():
        if theirs in state and tuple(np.shape(state[theirs])) != tuple(parameters[ours].shape):
            problems.append(f"{theirs} has shape {np.shape(state[theirs])}, expected {tuple(parameters[ours].shape)}")
        elif theirs in state and not (np.asarray(state[theirs]).dtype.kind == "f" and np.isfinite(state[theirs]).all()):
            problems.append(f"{theirs} holds values that are not finite numbers")
    problems += _table_problems(tables, state)
    if problems:
        raise UserError(f"the PyTorch weights do not fit this {type(cell).__name__}: " + "; ".join(problems))
    for ours, theirs in names.items():
        set_value(parameters[ours], state[theirs])


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
