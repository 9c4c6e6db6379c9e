"""Every case of the harness, tier by tier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from portparity.case import TITLES, Case
from portparity.errors import UnknownCase
from portparity.selection import matches, select

from . import corruption, first_ddpm, latent, scheduler_peers, schedulers, score, score_nets
from .maths import tier0, tier1
from .nets import tier2, tier3
from .peers import tier_peers
from .sampling import tier5, tier6, tier7
from .training import tier4

__all__ = ["LONG", "LONG_SET", "SMALL", "SMALL_SET", "TIERS", "TITLES", "all_cases", "matches", "select"]


SYSTEMS = (  # the systems beside diffusion: modules with some of tier0 ... tier5 and tier_peers
    score_nets, score, latent, schedulers, scheduler_peers, first_ddpm, corruption,
)  # fmt: skip


def joined(number: str, *makers: Callable[[int], Iterator[Case]]) -> Callable[[int], Iterator[Case]]:
    """Tier ``number``: the cases of ``makers``, and then those of every system that has some."""
    makers += tuple(getattr(system, f"tier{number}") for system in SYSTEMS if hasattr(system, f"tier{number}"))

    def tier(seed: int = 0) -> Iterator[Case]:
        for make in makers:
            yield from make(seed)

    return tier


TIERS: dict[str, Callable[[int], Iterator[Case]]] = {
    "0": joined("0", tier0), "1": joined("1", tier1), "2": joined("2", tier2), "3": joined("3", tier3),
    "4": joined("4", tier4), "5": joined("5", tier5), "6": tier6, "7": tier7, "peers": joined("_peers", tier_peers),
}  # fmt: skip
SMALL, LONG = (Path(__file__).resolve().parent.parent / name for name in ("bundles", "bundles_long"))
SMALL_SET = (  # what parity_tests/bundles holds: some of every tier, a few MiB together
    "maths/cosine-T1000", "maths/sigmoid-T1000", "maths/q_sample-cosine-pynative", "maths/q_posterior-cosine-pynative",
    "step/p_mean_variance-pred_v-learned-selfcond-clip",
    "step/p_sample-pred_noise-fixed-plain-pynative",
    "step/ddim-pred_v-plain-eta1", "layers/weight_standardized_conv-scale1-pynative",
    "layers/resnet_block_rms-scale1-pynative", "layers/resnet_block_group-scale1-pynative",
    "layers/linear_attention-scale1-pynative", "layers/attention-scale30-pynative", "layers/time_mlp-scale1-pynative",
    "network/tiny_2_3-pynative", "network/tiny_2022-pynative", "training/loss-pred_v-l2-learned-plain-pynative",
    "training/adam-pynative", "training/ema", "sampling/ddim_eta1-pred_v-fixed-selfcond",
    "layers/block_dropout-scale1-graph",
    # the other systems
    "maths/sde_vp-pynative", "step/score_vp-euler-plain-pynative", "step/score_ve-euler-guided2.5-pynative",
    "step/score_vp-pc_image-plain-pynative", "training/score_loss-ve-classes-pynative", "sampling/score_euler-ve-plain",
    "sampling/score_heun-vp-plain", "layers/spatial_transformer-scale1-pynative", "training/latent_loss-pynative",
    "layers/batch_norm_training-scale1-pynative", "network/autoencoder_training-pynative",
    "training/autoencoder_loss-gradient-pynative", "step/corruption-pynative",
    "training/corruption_loss-poisson-pynative", "sampling/corruption_5-uniform",
    "step/scheduler_ddpm-epsilon-learned_range-clip-pynative",
    "step/scheduler_ddim-v_prediction-eta1-rederived-threshold-pynative", "sampling/first_ddpm",
)  # fmt: skip
LONG_SET = (  # what parity_tests/bundles_long holds: PyTorch's side takes a minute, and the tests need not wait for it
    "training/digits_200_steps-graph", "sampling/unet_ddpm_1000",
)  # fmt: skip


def all_cases(tiers: Sequence[str] = (), seed: int = 0) -> list[Case]:
    """Every case of ``tiers`` (default: all), in order; ``seed`` gives other inputs."""
    unknown = [tier for tier in tiers if tier not in TIERS]
    if unknown:
        raise UnknownCase(f"tier {unknown[0]!r} does not exist; there are: {', '.join(TIERS)}")
    return [case for tier, make in TIERS.items() if not tiers or tier in tiers for case in make(seed)]
