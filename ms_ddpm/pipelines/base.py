"""What the pipelines share: their directory, their parts, the noise, and images as numpy arrays or PIL's."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from PIL import Image

from ..bars import bar
from ..devices.runtime import OwnGraphs, device_target
from ..errors import UserError, quoted
from ..maths.random import noise_tape, normal
from ..models.pretrained import PretrainedModel, one_dtype
from ..nn.adapters import adapters_of
from ..pictures.images import to_uint8
from ..schedulers.base import described_type
from ..storage.directories import folder_of, read_json, without_fetching
from ..storage.files import write_atomically

INDEX = "model_index.json"
PICTURES = ("pil", "np")  # and what is no picture yet:
OUTPUTS = (*PICTURES, "latent")
DEVICES = {"cpu": "CPU", "cuda": "GPU", "gpu": "GPU", "npu": "Ascend", "ascend": "Ascend"}  # MindSpore's words for them
Made = TypeVar("Made", bound="Pipeline")
log = logging.getLogger("ms_ddpm")

# What scripts ask diffusers' pipelines to do for less memory, and what holds here. Nothing is done.
_ATTENTION = "attention is computed in pieces already where a C++ kernel does it"
_PICTURES = "the autoencoder takes all pictures of a call at once: draw fewer of them, or smaller ones"
_PLACES = "all networks stay on the device that MindSpore computes on"
WITHOUT_EFFECT = {
    "attention_slicing": _ATTENTION,
    "xformers_memory_efficient_attention": _ATTENTION,
    "vae_slicing": _PICTURES,
    "vae_tiling": _PICTURES,
    "model_cpu_offload": _PLACES,
    "sequential_cpu_offload": _PLACES,
}


def check_number(name: str, value: Any, fits: Callable[[Any], bool], words: str) -> None:
    """Raises UserError where ``value``, given as ``name``, is no number, or none that ``fits``, which are ``words``."""
    if not isinstance(value, Real) or isinstance(value, bool) or not fits(value):
        raise UserError(f"{name} is {quoted(value)}, expected {words}")


def from_0_to_1(value: float) -> bool:
    """Whether it is; NaN is not."""
    return 0 <= value <= 1


class ImagePipelineOutput(NamedTuple):
    """What a pipeline draws: images (B, H, W, C) in [0, 1] as a numpy array, or a list of PIL's."""

    images: Any


# --- noise --------------------------------------------------------------------------------------------------------


class Noise:
    """Standard normal arrays, one after the other: a tape, a numpy Generator, or the streams of a seed.

    With a seed image i has a stream of its own, so that it is the same picture whatever the number of images; the first
    here is number ``first_image``.
    """

    def __init__(
        self,
        tape: Iterable[Any] | None,
        generator: np.random.Generator | None,
        seed: int | None,
        first_image: int = 0,
    ):
        for name, value in (("first_image", first_image), ("seed", 0 if seed is None else seed)):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
                raise UserError(f"{name} is {quoted(value)}, expected a whole number of at least 0")
        if sum(source is not None for source in (tape, generator, seed)) > 1:
            raise UserError("noise, generator and seed were given together, expected at most one of them")
        if generator is not None and not isinstance(generator, np.random.Generator):
            kind = described_type(generator)
            raise UserError(f"generator is {kind}, expected a numpy Generator: numpy.random.default_rng(seed)")
        self.tape = None if tape is None else iter(tape)
        self.generator = generator
        self.seed = seed
        self.first_image = first_image
        self.streams: dict[tuple[int, ...], Iterator[np.ndarray]] = {}

    def draw(self, shape: tuple[int, ...], what: str) -> np.ndarray:
        """The next array, of ``shape``; ``what`` it is for is said where the tape has none. Raises UserError."""
        if self.tape is not None:
            found = next(self.tape, None)
            if found is None:
                raise UserError(f"the noise ran out before {what}, expected one more array of shape {shape}")
            found = found.asnumpy() if isinstance(found, Tensor) else np.asarray(found, np.float32)
            if found.shape != shape:
                raise UserError(f"the noise for {what} has shape {found.shape}, expected {shape}")
            return found
        if self.generator is not None:
            return normal(self.generator, shape)
        if shape not in self.streams:
            self.streams[shape] = noise_tape(self.seed, shape, self.first_image)
        return next(self.streams[shape])


# --- images -------------------------------------------------------------------------------------------------------


def images_of(given: Any, name: str, channels: int = 3) -> np.ndarray:
    """PIL images or arrays, one or a list, as float32 (B, H, W, channels) in [0, 1].

    Arrays are (H, W[, C]) or (B, H, W, C), floating-point in [0, 1] or uint8. Raises UserError for anything else.
    """
    parts = list(given) if isinstance(given, (list, tuple)) else [given]
    made = [np.asarray(part.convert("L" if channels == 1 else "RGB")) if isinstance(part, Image.Image) else part
            for part in parts]  # fmt: skip
    arrays = [part.asnumpy() if isinstance(part, Tensor) else np.asarray(part) for part in made]
    grown = [array[None] if array.ndim == 3 or (array.ndim == 2 and channels == 1) else array for array in arrays]
    grown = [array[..., None] if array.ndim == 3 and channels == 1 else array for array in grown]
    shapes = {array.shape[1:] for array in grown}
    if len(shapes) != 1 or {array.ndim for array in grown} != {4} or grown[0].shape[-1] != channels:
        found = ", ".join(str(array.shape) for array in arrays)
        raise UserError(f"{name} has shape {found}, expected images of one size, (B, H, W, {channels}), or PIL's")
    joined = np.concatenate(grown)
    if joined.dtype == np.uint8:
        return joined.astype(np.float32) / 255
    if joined.dtype.kind != "f" or not np.isfinite(joined).all() or joined.min() < 0 or joined.max() > 1:
        raise UserError(f"{name} holds {joined.dtype} from {joined.min():.4g} to {joined.max():.4g}, expected 0 to 1")
    return joined.astype(np.float32)


def centred(images: np.ndarray) -> Tensor:
    """(B, H, W, C) in [0, 1] -> (B, C, H, W) in [-1, 1], as networks take them."""
    return Tensor(np.ascontiguousarray(np.transpose(2 * images - 1, (0, 3, 1, 2)), np.float32))


def shown(sample: Tensor) -> np.ndarray:
    """(B, C, H, W), [-1, 1] and what lies outside -> the same in [0, 1]."""
    return np.clip(sample.astype(ms.float32).asnumpy() / 2 + 0.5, 0, 1)


def as_asked(images: np.ndarray, output_type: str) -> Any:
    """(B, C, H, W) in [0, 1] as an array (B, H, W, C) ("np"), or ("pil") as a list of PIL's."""
    if output_type == "np":
        return np.transpose(images, (0, 2, 3, 1))
    return [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in to_uint8(images)]


def check_output(output_type: str, allowed: tuple[str, ...] = OUTPUTS) -> None:
    """Raises UserError for an ``output_type`` that is none."""
    if output_type not in allowed:
        raise UserError(f"output_type is {quoted(output_type)}, expected one of: {', '.join(allowed)}")


# --- the pipeline ---------------------------------------------------------------------------------------------------


class Pipeline:
    """Base of the pipelines. A class says:

        PARTS: by the name of a part, which is that of its folder too, (the library that model_index.json names, what
            reads the folder by the name of the class it holds).
        UNUSED: parts of the directory, and what diffusers asks about them, that are not used here.
        CLASSES: diffusers' names of the pipelines whose directories it reads.

    Attributes:
        show_progress: whether drawing has a bar; `set_progress_bar_config` changes it.
    """

    PARTS: ClassVar[Mapping[str, tuple[str, Callable[[str], Any]]]] = {}
    UNUSED: ClassVar[frozenset[str]] = frozenset()
    CLASSES: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **parts: Any):
        self.show_progress = True
        self.bar_options: dict[str, Any] = {"desc": "denoising"}
        self.graphs = OwnGraphs()
        for name, part in parts.items():
            setattr(self, name, part)

    @classmethod
    def from_pretrained(
        cls: type[Made],
        folder: str | Path,
        *,
        variant: str | None = None,
        dtype: ms.Type | str | None = None,
        torch_dtype: Any = None,
        **parts: Any,
    ) -> Made:
        """The pipeline in a directory as diffusers writes it: model_index.json, and a folder for each part.

        Args:
            folder: the directory; a hub's name is not looked up, since nothing is downloaded.
            variant: "fp16": of the networks' files, those named so.
            dtype: of the networks' parameters (default float32).
            torch_dtype: the same, by diffusers' older name; "float16" or PyTorch's own.
            parts: in the place of the directory's, for example ``scheduler=``. What diffusers is told about fetching
                files (``local_files_only``, ``use_safetensors=True``) is understood, and has no effect.

        Raises:
            UserError: another kind of pipeline; what is missing, unknown or damaged, in one line.
        """
        parts, dtype = without_fetching(parts), one_dtype(dtype, torch_dtype)
        place = folder_of(folder)
        index = read_json(place / INDEX)
        kind = index.get("_class_name")
        if kind not in (None, *cls.CLASSES, cls.__name__):
            raise UserError(
                f"{place} holds a {quoted(kind)}, and {cls.__name__} draws from one of: {', '.join(cls.CLASSES)}"
            )
        unknown = sorted(set(parts) - set(cls.PARTS) - cls.UNUSED)
        if unknown:
            raise UserError(f"{cls.__name__} has no part {unknown[0]!r}; it has: {', '.join(cls.PARTS)}")
        parts = {name: part for name, part in parts.items() if name in cls.PARTS}
        named = {name: value for name, value in index.items() if isinstance(value, list) and any(value)}
        foreign = sorted(set(named) - set(cls.PARTS) - cls.UNUSED)
        if foreign:
            raise UserError(f"{place} holds a {kind} with a {foreign[0]}, and {cls.__name__} has no such part")
        for name, (_, reader_of) in cls.PARTS.items():
            if name in parts:
                continue
            if name not in named:
                raise UserError(f"{place / INDEX} names no {name}, which {cls.__name__} needs")
            reader = reader_of(str(named[name][-1]))
            options = {}
            if issubclass(reader, PretrainedModel):
                options = {"variant": variant, "dtype": dtype}
            parts[name] = reader.from_pretrained(place, subfolder=name, **options)
        return cls(**parts)

    @property
    def components(self) -> dict[str, Any]:
        """The parts by name, as another pipeline of the class takes them."""
        return {name: getattr(self, name) for name in self.PARTS}

    @property
    def device(self) -> str:
        """What MindSpore computes on: "cpu", "cuda" or "npu"."""
        return next(name for name, target in DEVICES.items() if target == device_target())

    def to(self: Made, device: str) -> Made:
        """This pipeline, where ``device`` is what MindSpore computes on already: "cpu", "cuda" or "npu".

        Scripts for PyTorch say it behind `from_pretrained`; here `ms_ddpm.runtime.setup` chooses, before the first
        tensor. Raises UserError for any other device.
        """
        here = device_target()
        if DEVICES.get(str(device).split(":")[0].lower()) != here:
            names = [name for name, target in DEVICES.items() if target == here]
            raise UserError(
                f"the pipeline cannot go to {quoted(device)}, since MindSpore computes on {here} "
                f"({' or '.join(names)}); choose the device before the first tensor: runtime.setup(device_target)"
            )
        return self

    def save_pretrained(self, folder: str | Path, variant: str | None = None) -> None:
        """Writes the directory that `from_pretrained` and diffusers read. Raises UserError where it cannot."""
        place = Path(folder).expanduser()
        index: dict[str, Any] = {"_class_name": type(self).__name__}
        for name, (library, _) in self.PARTS.items():
            part = getattr(self, name)
            index[name] = [library, type(part).__name__]
            options = {"variant": variant} if isinstance(part, PretrainedModel) else {}
            part.save_pretrained(place / name, **options)
        write_atomically(place / INDEX, f"{json.dumps(index, indent=2)}\n".encode())

    def graph(self, what: Hashable, make: Callable[..., Callable], part: nn.Cell, *options: Any) -> Callable:
        """``make(part, *options)``, compiled when it is first asked for under the name ``what``.

        Another network in the place of ``part``, and other LoRAs in it, have graphs of their own: a graph reads the
        parameters that it was made with. Those that cannot be asked for again are forgotten.
        """
        present = set(adapters_of(part).structure)
        for name, network, structure in list(self.graphs):
            if name == what and not (network == id(part) and set(structure) <= present):
                del self.graphs[name, network, structure]
        return self.graphs.made((what, id(part), adapters_of(part).structure), make, part, *options)

    def set_progress_bar_config(self, *, disable: bool = False, **options: Any) -> None:
        """Whether drawing shows a bar, and tqdm's ``options`` for it, such as ``leave`` and ``desc``."""
        self.show_progress = not disable
        self.bar_options = {"desc": "denoising", **options}

    def progress(self, times: list[Any]) -> Iterable[tuple[int, Any]]:
        """The numbered ``times``, under a bar."""
        options = dict(self.bar_options)
        return bar(list(enumerate(times)), options.pop("desc"), show=self.show_progress, **options)


def _without_effect(name: str, words: str) -> Callable:
    """A method ``name`` that says ``words``, where it is to turn something on, and does nothing."""

    def method(self: Pipeline, *args: Any, **kwargs: Any) -> None:
        if name.startswith("enable"):
            log.warning("%s does nothing here: %s", name, words)

    method.__name__, method.__doc__ = name, f"Nothing; here for scripts that call it. Here {words}."
    return method


for _what, _words in WITHOUT_EFFECT.items():
    for _name in (f"enable_{_what}", f"disable_{_what}"):
        setattr(Pipeline, _name, _without_effect(_name, _words))


def chosen(known: Mapping[str, Any], what: str) -> Callable[[str], Any]:
    """What reads a part by the name of its class. It raises UserError for another."""

    def of(name: str) -> Any:
        if name not in known:
            raise UserError(f"the {what} is a {quoted(name)}, expected one of: {', '.join(known)}")
        return known[name]

    return of
