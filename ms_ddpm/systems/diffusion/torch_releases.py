"""Which release of lucidrains/denoising-diffusion-pytorch computes what: one table, made by running the releases.

From 0.26.5 to 1.7.7 the U-Net's weights kept their names and shapes while what is computed with them changed six times,
so that a file loads anywhere and denoises right in one place only. Its Trainer's files say their release from 1.0.0 on,
as ``version``. For a file that does not, `releases_of` tells from names, shapes and tables which ones it can be of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ...errors import UserError, quoted

NEWEST = (2, 3, 4)  # that was run
Version = tuple[int, ...]


class Releases(NamedTuple):
    """Those from ``first`` to ``last`` have the layout ``norm``, or none that is here, and then ``why`` says so."""

    first: Version
    last: Version
    norm: str | None
    why: str = ""


RELEASES = (
    Releases((0, 0, 1), (0, 26, 4), None, "its layer normalisation has a bias, which no network here has"),
    Releases((0, 26, 5), (0, 27, 12), None, "its attention in the middle normalises queries and keys over the pixels"),
    Releases((0, 28, 0), (1, 6, 4), "group"),
    Releases((1, 7, 0), (1, 7, 0), "group-1.7.0"),
    Releases((1, 7, 1), (1, 7, 1), "group-1.7.1"),
    Releases((1, 7, 2), (1, 7, 3), "group-1.7.2"),
    Releases((1, 7, 4), (1, 7, 7), "group-1.7.4"),
    Releases((1, 8, 0), (1, 8, 15), "group-1.8.0"),
    Releases((1, 9, 0), (1, 11, 1), "group-1.9.0"),
    Releases((2, 0, 0), NEWEST, "rms"),
)
# Facts that a state dict shows, and the releases that have them.
CONV_DOWN = ((0, 0, 1), (0, 31, 1))
UNSHUFFLE_DOWN = ((0, 32, 0), NEWEST)
P2_TABLE = ((0, 0, 1), (1, 4, 6))
LOSS_WEIGHT_TABLE = ((1, 5, 0), NEWEST)
SELF_CONDITION = ((0, 27, 0), NEWEST)
BIASED_NORM = ((0, 0, 1), (0, 26, 4))
WRAPPED_ATTENTION = ((0, 26, 5), (1, 7, 7))
NO_MEMORY = ((1, 8, 0), (1, 8, 15))
MEMORY = ((1, 9, 0), (1, 11, 1))
RMS_BLOCKS = ((2, 0, 0), NEWEST)
DERIVES_AGAIN = (1, 4, 2)  # the first whose DDIM derives the noise again where x_0 was clipped


def text_of(version: Version) -> str:
    """(1, 7, 0) -> "1.7.0"."""
    return ".".join(map(str, version))


def between(first: Version, last: Version) -> str:
    """The releases from ``first`` to ``last`` in words."""
    if first == last:
        return text_of(first)
    return f"{text_of(first)} or later" if last == NEWEST else f"{text_of(first)} to {text_of(last)}"


def read_version(text: object) -> Version | None:
    """ "1.7.0" -> (1, 7, 0); None for what is no release."""
    match = re.fullmatch(r"v?([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?", text) if isinstance(text, str) else None
    return match and tuple(int(part or 0) for part in match.groups())


def newest() -> str:
    """The newest release that was compared."""
    return text_of(NEWEST)


def newer_than_known(text: object) -> str:
    """The release in ``text`` where it is newer than `newest`, else nothing."""
    version = read_version(text)
    return text_of(version) if version is not None and version > NEWEST else ""


def row_of(version: Version) -> Releases:
    """The row of ``version``; one that is newer than any in the table is taken for like the newest."""
    return next((row for row in reversed(RELEASES) if row.first <= version), RELEASES[0])


def release_like(norm: str, downsample: str, wanted: str | None = None) -> str:
    """The release whose Trainer is to load the weights of ``Unet(norm=norm, downsample=downsample)``.

    The newest that has this network, before 1.5.0 where "group" is concerned, or ``wanted``. Raises UserError where
    the network of ``wanted`` is another.
    """
    newest_of = text_of(next(row.last for row in RELEASES if row.norm == norm))
    if norm == "group":  # its tables here are those of before 1.5.0
        newest_of = text_of(CONV_DOWN[1] if downsample == "conv" else P2_TABLE[1])
    if wanted is None:
        return newest_of
    version = read_version(wanted)
    if version is None or row_of(version).norm != norm or (norm == "group" and (downsample == "conv") != (
        version <= CONV_DOWN[1]
    )):  # fmt: skip
        raise UserError(
            f"--release is {quoted(wanted)}, expected one with the network norm: {norm}, downsample: {downsample}, "
            f"such as {newest_of}"
        )
    return text_of(version)


def releases_of(state: Mapping[str, np.ndarray]) -> tuple[Version, Version]:
    """(first, last): the releases whose Trainer can have written ``state``, a GaussianDiffusion's.

    Where its parts go together in no release (an own network, or one converted from here), those of its blocks and
    attention, which decide what is computed.
    """
    names = {name.removeprefix("model.").removeprefix("denoise_fn.") for name in state}
    facts = []
    if "downs.0.0.block1.norm.weight" not in names:
        facts.append(RMS_BLOCKS)
    elif "downs.0.2.fn.norm.b" in names:
        facts.append(BIASED_NORM)
    elif "downs.0.2.fn.norm.g" in names:
        facts.append(WRAPPED_ATTENTION)
    else:
        facts.append(MEMORY if "mid_attn.mem_kv" in names else NO_MEMORY)
    if "downs.1.0.block1.norm.weight" in names:  # one stage alone halves nothing
        facts.append(CONV_DOWN if "downs.0.3.weight" in names else UNSHUFFLE_DOWN)
    if "p2_loss_weight" in names:
        facts.append(P2_TABLE)
    if "loss_weight" in names:
        facts.append(LOSS_WEIGHT_TABLE)
    inputs, outputs = (state.get(f"model.{layer}.weight") for layer in ("init_conv", "final_conv"))
    if np.ndim(inputs) == 4 and np.ndim(outputs) == 4 and inputs.shape[1] > outputs.shape[0]:
        facts.append(SELF_CONDITION)
    first, last = max(fact[0] for fact in facts), min(fact[1] for fact in facts)
    return (first, last) if first <= last else facts[0]


def rederives(state: Mapping[str, np.ndarray], *said: object) -> bool:
    """Whether DDIM of the release that ``state`` is of derives the noise again; where nobody knows, as today's does.

    ``said``: what the file and the user say of the release, the later one first to count.
    """
    known = [version for version in map(read_version, said) if version is not None]
    return (known[-1] if known else releases_of(state)[1]) >= DERIVES_AGAIN


def norm_of(
    state: Mapping[str, np.ndarray], version: object, release: str | None, chosen: str | None, name: str
) -> str | None:
    """The layout, a value of ``Unet(norm=...)``, with which the file called ``name`` denoises as it did in PyTorch.

    Args:
        state: of its GaussianDiffusion, PyTorch's names.
        version: what the file itself says of its release; what is none, or None, says nothing.
        release: what the user says of it; None: nothing.
        chosen: the layout of the user's configuration; None: there is none. It decides where no release is known.

    Raises:
        UserError: for a release whose layout is not here, for one that the state contradicts, where file, user and
            configuration do not agree, and where nobody says which of several releases it is of.
    """
    known = read_version(version)
    if release is not None:
        given = read_version(release)
        if given is None:
            raise UserError(
                f"--release is {quoted(release)}, expected a release of denoising-diffusion-pytorch such as 2.3.4"
            )
        if known is not None and given != known:
            raise UserError(f"{name} says that it is of release {text_of(known)}, and --release is {quoted(release)}")
        known = given
    if known is None and chosen is not None:
        return chosen
    first, last = releases_of(state)
    if known is None:
        return _only_layout(first, last, name)
    row = row_of(known)
    if row.norm is None:
        raise UserError(f"{name} is of release {text_of(known)}, which does not convert: {row.why}")
    if not first <= min(known, NEWEST) <= last:
        raise UserError(
            f"{name} cannot be of release {text_of(known)}, as {'it' if release is None else '--release'} says: "
            f"its names and tables are those of {between(first, last)}"
        )
    if chosen is not None and chosen != row.norm:
        raise UserError(
            f"{name} is of release {text_of(known)}, whose network is norm: {row.norm}, and the --config says "
            f"norm: {chosen}; set norm: {row.norm}"
        )
    return row.norm


def _only_layout(first: Version, last: Version, name: str) -> str:
    rows = [row for row in RELEASES if row.first <= last and row.last >= first]
    if not any(row.norm for row in rows):
        raise UserError(f"{name} is of release {between(first, last)}, which does not convert: {rows[0].why}")
    if len(rows) == 1:
        return rows[0].norm
    kinds = []
    for row in rows:
        at = between(max(first, row.first), min(last, row.last))
        kinds.append(at if row.norm else f"{at} (does not convert)")
    raise UserError(
        f"{name} does not say its release, and by its names it can be of {between(first, last)}, which compute "
        f"different things: {', '.join(kinds)}; say which, for example --release {text_of(_example(rows, last))}"
    )


def _example(rows: list[Releases], last: Version) -> Version:
    """The newest release of the rows that converts."""
    return min(last, next(row.last for row in reversed(rows) if row.norm))
