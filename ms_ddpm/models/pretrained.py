"""Networks that live in directories as diffusers and transformers write them: config.json, and safetensors.

A Cell under `PretrainedModel` has the parameters' names of its PyTorch original, and that original's configuration is
its constructor: the arguments by position are the keys of config.json, with diffusers' or transformers' names, types
and defaults. What stands behind ``*`` is how it is made (``rng``, ``use_kernels``), and in no file.

    class Toy(PretrainedModel):
        FIXED: ClassVar = {"dropout": 0.0}

        def __init__(self, width: int = 320, act_fn: Literal["silu", "gelu"] = "silu", *, rng=None):
            super().__init__(locals())
            self.proj = Linear(width, width, rng=rng)

    toy = Toy.from_pretrained("directory", subfolder="toy")

Nothing is downloaded, and nothing unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import mindspore as ms
import numpy as np

from ..arrays import TakesArrays
from ..config import hints
from ..config.frozen import FrozenConfig
from ..errors import UserError, quoted
from ..maths.random import Blank
from ..nn.adapters import base_parameters
from ..nn.layers import use_kernels
from ..ops.assign import set_value, type_of
from ..storage import floats, mapped
from ..storage.directories import folder_of, read_json, without_fetching
from ..storage.files import write_atomically

CONFIG = "config.json"
LARGEST = 1_000_000  # of the whole numbers in a configuration: vocabularies have 50,000 words, layers 4,096 units
DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}
Model = TypeVar("Model", bound="PretrainedModel")


def one_dtype(dtype: Any, torch_dtype: Any) -> Any:
    """The one of two names' values that was given, or None. Raises UserError for both."""
    if dtype is not None and torch_dtype is not None:
        raise UserError("dtype and torch_dtype were both given, expected one of them: they are the same")
    return torch_dtype if dtype is None else dtype


class PretrainedModel(TakesArrays):
    """Base of the networks with diffusers' or transformers' names and files: see the top of this module.

    A class says, where it needs to:
        WEIGHTS: the name of the file of weights, without .safetensors.
        FIXED: keys of the configuration of which one value is supported, and that value: the original's default.
        IGNORED: keys without effect here, kept in ``config``.
        TITLE: what a file begins with to say what it is of, in the place of ``_class_name``.
        renamed: a name of a tensor of an older generation -> today's.

    Attributes:
        config: what the constructor was given and the fixed keys, as ``config.sample_size`` or
            ``config["sample_size"]``; lists are tuples.
    """

    WEIGHTS = "diffusion_pytorch_model"
    FIXED: Mapping[str, Any] = {}
    IGNORED: frozenset[str] = frozenset()
    TITLE: Mapping[str, Any] | None = None

    def __init__(self, given: Mapping[str, Any]):
        """``given``: the constructor's ``locals()``. Raises UserError for a value of another type than its hint's."""
        super().__init__()
        values = {name: hints.as_tuples(given[name]) for name in self.settings()}
        self.check_values(values)
        self.config = FrozenConfig({**self.FIXED, **values})

    # --- configuration -------------------------------------------------------------------------------------------

    @classmethod
    def settings(cls) -> dict[str, tuple[Any, Any]]:
        """(type, default) by the name of a key: the arguments of the constructor by position."""
        return hints.arguments_of(cls.__init__)

    @classmethod
    def check_values(cls, values: Mapping[str, Any]) -> None:
        """Raises UserError for the first of ``values`` that is not of its key's type, or absurdly large."""
        known = cls.settings()
        for name, value in values.items():
            if not hints.fits(value, known[name][0]):
                raise UserError(f"{name} is {quoted(value)}, expected {hints.in_words(known[name][0])}")
            if any(type(one) is int and abs(one) > LARGEST for one in np.ravel(np.array(value, object))):
                raise UserError(f"{name} is {quoted(value)}, expected at most {LARGEST}")

    @classmethod
    def class_in(cls, config: Mapping[str, Any]) -> str | None:
        """The name of the class that ``config`` is of, if it says so."""
        listed = config.get("architectures")
        named = config.get("_class_name") or (listed[0] if isinstance(listed, list) and listed else listed)
        return str(named) if named else None

    @classmethod
    def split(cls, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(arguments of the constructor, ignored keys) of a configuration read from a file.

        Keys listed in ``_use_default_values`` were chosen by nobody: the defaults of today count, as in diffusers.
        Raises UserError naming the first key that is unknown, or has a value that is not supported.
        """
        owner = cls.class_in(config)
        if owner not in (None, cls.__name__):
            raise UserError(f"it is of the class {quoted(owner)}, expected {cls.__name__}")
        title = {"architectures", "model_type", "torch_dtype", "dtype", "transformers_version"}
        unchosen = config.get("_use_default_values")
        unchosen = unchosen if isinstance(unchosen, list) else []
        known, arguments, ignored = cls.settings(), {}, {}
        for name, value in config.items():
            if name.startswith("_") or name in title or name in unchosen:
                continue
            value = hints.as_tuples(value)
            if name in known:
                arguments[name] = value
            elif name in cls.IGNORED:
                ignored[name] = value
            elif name not in cls.FIXED:
                raise UserError(
                    f"{name} is {quoted(value)}, and {cls.__name__} has no such key; "
                    "it is of another kind of model, which is not supported"
                )
            elif value != hints.as_tuples(cls.FIXED[name]):
                raise UserError(f"{name} is {quoted(value)}, and only {quoted(cls.FIXED[name])} is supported")
        return arguments, ignored

    @classmethod
    def from_config(cls: type[Model], config: Mapping[str, Any] | str | Path, **options: Any) -> Model:
        """The network of a configuration, a mapping, a config.json or its directory, with random weights.

        ``options`` are those of the constructor behind ``*``. Raises UserError naming the key that is not supported.
        """
        if isinstance(config, Mapping):
            found, where = dict(config), "the configuration"
        else:
            where = Path(config).expanduser()
            if where.suffix != ".json" or where.is_dir():
                where = folder_of(config) / CONFIG
            if not where.is_file():
                raise UserError(
                    f"there is no {where.name} in {where.parent}, expected that of a {cls.__name__}; copy the whole "
                    "directory"
                )
            found = read_json(where)
        try:
            arguments, ignored = cls.split(found)
            made = cls(**arguments, **options)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        made.config = FrozenConfig({**made.config, **ignored})
        return made

    # --- weights -------------------------------------------------------------------------------------------------

    @staticmethod
    def renamed(name: str) -> str | None:
        """Today's name of a tensor that a file calls ``name``; None: it is no weight, and left out."""
        return name

    @classmethod
    def from_pretrained(
        cls: type[Model],
        folder: str | Path,
        subfolder: str | None = None,
        variant: str | None = None,
        dtype: ms.Type | str | None = None,
        torch_dtype: Any = None,
        **options: Any,
    ) -> Model:
        """The network in a directory as diffusers or transformers write it.

        Args:
            folder, subfolder: the directory that holds config.json and the weights.
            variant: "fp16" reads ``NAME.fp16.safetensors``.
            dtype: of the parameters: float32, float16 or bfloat16; None is float32, whatever the file holds.
            torch_dtype: the same, by diffusers' older name; "float16" or PyTorch's own.
            options: those of the constructor behind ``*``, but ``rng``. What diffusers is told about fetching files
                (``local_files_only``, ``use_safetensors=True``) is understood, and has no effect.

        Raises:
            UserError: a name that is no directory; an unknown or unsupported key; files that are missing or damaged;
                a tensor that is missing, foreign, of another shape, or not finite. Each names it, in one line.
        """
        options, dtype = without_fetching(options), one_dtype(dtype, torch_dtype)
        place = folder_of(folder, subfolder)
        tensors = mapped.find(place, cls.WEIGHTS, variant)
        made = cls.from_config(place, rng=Blank(), **options)
        made.hold_as(dtype)
        made.take_tensors(tensors, place)
        return made

    def hold_as(self, dtype: ms.Type | str | None) -> None:
        """Makes the parameters ``dtype`` (None: float32), before any graph has run. Raises UserError for another.

        What is no float32 runs by MindSpore's operators: the C++ kernels compute in float32 alone.
        """
        wanted = DTYPES.get(str(dtype or "float32").lower().rsplit(".")[-1])
        if wanted is None:
            raise UserError(f"dtype is {quoted(dtype)}, expected one of: {', '.join(DTYPES)}")
        if wanted != ms.float32:
            use_kernels(self, False)
        for parameter in self.get_parameters():
            if parameter.dtype != wanted:
                parameter.set_dtype(wanted)

    def take_tensors(self, tensors: mapped.Tensors, what: object) -> None:
        """Puts ``tensors`` into the parameters, one after the other; ``what`` is what messages call them.

        Names, shapes and types are judged before the first is read. Raises UserError as `from_pretrained`.
        """
        parameters = base_parameters(self)
        sources: dict[str, str] = {}
        for name in tensors:
            own = self.renamed(name)
            if own is None:
                continue
            if own in sources:
                raise UserError(f"{what} holds both {sources[own]} and {name}, which are the same weight")
            sources[own] = name
        problems = [f"{name} is missing" for name in parameters if name not in sources]
        problems += [f"{source} is foreign" for own, source in sources.items() if own not in parameters]
        for own in parameters.keys() & sources.keys():
            stored, shape = tensors.stored[sources[own]], tuple(parameters[own].shape)
            if stored.shape != shape:
                problems.append(f"{sources[own]} has shape {stored.shape}, expected {shape}")
            elif stored.dtype not in ("F64", "F32", "F16", "BF16"):
                problems.append(f"{sources[own]} holds {stored.dtype}, expected floating-point numbers")
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise UserError(f"the weights in {what} are not those of its {CONFIG}: {problems[0]}{more}")
        for own, parameter in parameters.items():
            value, dtype = tensors[sources[own]], type_of(parameter)
            if floats.name_of(value.dtype) != dtype:
                value = floats.cast(value, dtype)
            if not floats.is_finite(value):
                raise UserError(f"{sources[own]} in {what} holds values that are not finite in {dtype}")
            set_value(parameter, value)

    def save_pretrained(self, folder: str | Path, variant: str | None = None) -> None:
        """Writes config.json and the weights, in the parameters' type, so that diffusers or transformers read them.

        Raises UserError where ``folder`` cannot be written.
        """
        title = {"_class_name": type(self).__name__} if self.TITLE is None else dict(self.TITLE)
        text = json.dumps({**title, **self.config}, indent=2)
        place = Path(folder).expanduser()
        arrays = {name: parameter.asnumpy for name, parameter in base_parameters(self).items()}
        mapped.write(place / mapped.file_name(self.WEIGHTS, variant), arrays, {"format": "pt"})
        write_atomically(place / CONFIG, f"{text}\n".encode())

    def num_parameters(self) -> int:
        """How many numbers the parameters hold, without adapters."""
        return sum(int(np.prod(parameter.shape)) for parameter in base_parameters(self).values())
