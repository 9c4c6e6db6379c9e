"""What sample.py does with a pipeline's directory: pictures of prompts or of none, their files, grid and description.

python scripts/sample.py --checkpoint stable-diffusion --prompt "a red three" "a blue seven" --num 4
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data import reading
from ..errors import UserError, quoted
from ..pictures import images
from ..storage import lora_files
from ..storage.directories import folder_of, read_json
from ..storage.files import atomic, output_directory, write_atomically
from .base import INDEX, Pipeline, as_asked, check_number
from .stable_diffusion import RANGES, StableDiffusionPipeline
from .unconditional import KINDS, DDIMPipeline, DDPMPipeline

OF_PROMPTS = (  # options of sample.py that only a network with prompts understands
    "prompt", "negative_prompt", "guidance_scale", "lora", "init_image", "strength", "mask", "height", "width",
    "clip_skip",
)  # fmt: skip
DESCRIBED = ("checkpoint", "seed", "sampling_steps", "eta", "variant", "dtype", *OF_PROMPTS)
WITH_PROMPTS = StableDiffusionPipeline.CLASSES
WITHOUT = {"DDPM": DDPMPipeline, "DDIM": DDIMPipeline}
OF_A_PROMPT, OF_NONE = 4, 64  # pictures that are drawn where nobody says how many
AT_A_TIME = 4


def lora_of(given: str) -> tuple[str, float]:
    """ "FILE" or "FILE:SCALE" -> (file, scale). A number behind the last colon is a scale, unless that is a file."""
    file, colon, scale = given.rpartition(":")
    if not colon or Path(given).expanduser().exists():
        return given, 1.0
    try:
        number = float(scale)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--lora is {quoted(given)}, expected FILE or FILE:SCALE, SCALE a number")
    return file, number


def file_of(number: int) -> str:
    """The name of a picture's file."""
    return f"image-{number:04d}.png"


class DirectorySampling:
    """One call of sample.py for a directory as diffusers writes it.

    Args:
        args: every option of sample.py by its name; None is what was not given.
        say: what is told goes there.

    Raises:
        UserError: for options that do not go together, or not with what the directory holds.
    """

    def __init__(self, args: Mapping[str, Any], say: Callable[[str], None] = print):
        self.args, self.say = args, say
        self.place = folder_of(args["checkpoint"])
        self.kind = str(read_json(self.place / INDEX).get("_class_name"))
        self.prompted = self.kind in WITH_PROMPTS
        if not self.prompted and self.kind.removesuffix("Pipeline") not in WITHOUT:
            known = ", ".join([*WITH_PROMPTS, *(pipe.__name__ for pipe in WITHOUT.values())])
            raise UserError(f"{self.place} holds a {quoted(self.kind)}, expected one of: {known}")
        self._check()
        # Before the networks are read, which can take a while:
        self.loras = [(lora_files.file_of(file), scale) for file, scale in map(lora_of, args["lora"] or ())]
        self.started_from = self._started_from()

    def _check(self) -> None:
        """Raises UserError for options that do not go together."""
        args = self.args
        if self.prompted and not args["prompt"]:
            raise UserError(f"{self.place} draws from a text; give --prompt")
        if not self.prompted:
            for name in OF_PROMPTS:
                if args[name] is not None:
                    raise UserError(f"--{name} is for networks with prompts; {self.place} holds a {self.kind}")
            if args["scheduler"] not in (None, *WITHOUT):
                raise UserError(f"--scheduler is {args['scheduler']}, expected for a {self.kind} DDPM or DDIM")
        for name in ("guidance_scale", "eta", "strength"):
            if args[name] is not None:
                check_number(f"--{name}", args[name], *RANGES[name])
        for name in ("strength", "mask"):
            if args[name] is not None and args["init_image"] is None:
                raise UserError(f"--{name} was given without --init_image, which it is about")
        negative = args["negative_prompt"]
        if negative is not None and len(negative) not in (1, len(args["prompt"])):
            raise UserError(
                f"there are {len(negative)} negative prompts for {len(args['prompt'])} prompts, expected 1 or as many"
            )

    # --- the pipeline -------------------------------------------------------------------------------------------------

    def pipeline(self) -> Pipeline:
        """The directory's pipeline with the scheduler and the LoRAs that were asked for."""
        asked = self.args["scheduler"]
        options = {"variant": self.args["variant"], "dtype": self.args["dtype"]}
        if not self.prompted:
            return WITHOUT[asked or self.kind.removesuffix("Pipeline")].from_pretrained(self.place, **options)
        pipe = StableDiffusionPipeline.from_pretrained(self.place, **options)
        if asked is not None:
            pipe.scheduler = KINDS[f"{asked}Scheduler"].from_config(pipe.scheduler.config)
        for number, (file, _) in enumerate(self.loras):
            pipe.load_lora_weights(file, adapter_name=f"lora_{number}")
        if self.loras:
            names = [f"lora_{number}" for number in range(len(self.loras))]
            pipe.set_adapters(names, [scale for _, scale in self.loras])
        return pipe

    def _options(self) -> dict[str, Any]:
        """What the pipeline is called with for every picture."""
        names = {"num_inference_steps": "sampling_steps", "eta": "eta"}
        if self.prompted:
            names |= {name: name for name in ("guidance_scale", "clip_skip", "strength")}
            if self.args["init_image"] is None:
                names |= {"height": "height", "width": "width"}
        return {name: self.args[option] for name, option in names.items() if self.args[option] is not None}

    def _started_from(self) -> dict[str, np.ndarray]:
        """The pipeline's arguments that are read from image files."""
        named = (("init_image", "image", 3), ("mask", "mask_image", 1))
        return {name: self._image(flag, channels) for flag, name, channels in named if self.args[flag] is not None}

    def _image(self, flag: str, channels: int) -> np.ndarray:
        """(1, H, W, channels) in [0, 1] of the file that ``flag`` names, in --height and --width where given."""
        path = Path(self.args[flag]).expanduser()
        if not path.is_file():
            raise UserError(f"--{flag}: no file {path}")
        try:
            height, width = reading.size_of(path)
            sides = (self.args["height"] or height, self.args["width"] or width)
            pixels = reading.load_image(path, sides, channels)
        except Exception as error:  # Pillow's, of any type
            raise UserError(f"--{flag}: {path} is no image that can be read: {error}") from None
        return pixels.transpose(1, 2, 0)[None].astype(np.float32) / 255

    # --- drawing ------------------------------------------------------------------------------------------------------

    @property
    def num(self) -> int:
        """How many pictures: of each prompt, or in all where there are none."""
        return self.args["num"] or (OF_A_PROMPT if self.prompted else OF_NONE)

    def prompts(self) -> list[tuple[str, str | None]]:
        """(prompt, negative prompt) of every picture: each prompt as often as --num says."""
        negative = self.args["negative_prompt"] or [None]
        negatives = negative * len(self.args["prompt"]) if len(negative) == 1 else negative
        pairs = list(zip(self.args["prompt"], negatives, strict=True))
        return [pair for pair in pairs for _ in range(self.num)]

    def batches(self, pipe: Pipeline) -> Iterator[np.ndarray]:
        """The pictures (B, H, W, C) in [0, 1], some at a time. The last of them are filled up, and cut."""
        options = self._options() | self.started_from | {"seed": self.args["seed"], "output_type": "np"}
        pairs = self.prompts() if self.prompted else [(None, None)] * self.num
        size = min(self.args["batch_size"] or (AT_A_TIME if self.prompted else OF_NONE), len(pairs))
        for first in range(0, len(pairs), size):
            some = pairs[first : first + size]
            filled = some + [some[-1]] * (size - len(some))
            if self.prompted:
                texts = {"prompt": [prompt for prompt, _ in filled]}
                if self.args["negative_prompt"] is not None:
                    texts["negative_prompt"] = [negative for _, negative in filled]
            else:
                texts = {"batch_size": size}
            yield pipe(**texts, **options, first_image=first).images[: len(some)]

    def draw(self) -> None:
        """Draws, and writes a file for each picture, samples.npz, grid.png and samples.json, which says how."""
        pipe = self.pipeline()
        if isinstance(pipe, DDPMPipeline) and self.args["eta"] is not None:
            raise UserError("--eta is for DDIM; give --scheduler DDIM")
        folder, parts = None, []
        for part in self.batches(pipe):  # what cannot be drawn is known before a folder is made
            folder = folder or output_directory(self.args["output_dir"] or str(self.place / "samples"))
            planes = part.transpose(0, 3, 1, 2)
            for number, picture in enumerate(as_asked(planes, "pil"), start=sum(map(len, parts))):
                with atomic(folder / file_of(number)) as file:
                    picture.save(file, format="PNG")
            parts.append(planes)
        planes = np.concatenate(parts)
        npz = Path(self.args["npz"]) if self.args["npz"] else folder / "samples.npz"
        images.save_npz(planes, npz)
        columns = self.args["grid"]
        if columns is None and self.prompted and len(self.args["prompt"]) > 1:
            columns = self.num  # a row for each prompt
        images.save_grid(planes[: images.GRID_MAX], folder / "grid.png", columns=columns)
        write_atomically(folder / "samples.json", f"{json.dumps(self.described(pipe), indent=2)}\n".encode())
        self.say(f"{len(planes)} images of {self.place}: {folder / file_of(0)} ..., {npz}, {folder / 'grid.png'}")

    def described(self, pipe: Pipeline) -> dict[str, Any]:
        """What samples.json holds: the options that were given, and the texts of each picture."""
        given = {name: self.args[name] for name in DESCRIBED if self.args[name] is not None}
        given["scheduler"] = re.sub("Scheduler$", "", type(pipe.scheduler).__name__)
        if self.prompted:
            given["images"] = [
                {"file": file_of(number), "prompt": prompt, "negative_prompt": negative}
                for number, (prompt, negative) in enumerate(self.prompts())
            ]
        return given
