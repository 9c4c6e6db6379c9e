"""StableDiffusionPipeline: pictures from a prompt; an image changed by one, or filled in where a mask says.

Rombach et al., https://arxiv.org/abs/2112.10752. Guidance: Ho & Salimans, https://arxiv.org/abs/2207.12598, in the
parametrization of diffusers, where a guidance scale of 1 is none:

    eps = eps(negative prompt) + scale (eps(prompt) - eps(negative prompt))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ..arrays import float_tensor
from ..data.tokenizer import CLIPTokenizer
from ..errors import UserError, quoted
from ..models.autoencoder_kl import AutoencoderKL, LatentDistribution
from ..models.clip_text import CLIPTextModel
from ..models.unet_2d_condition import UNet2DConditionModel
from ..schedulers import Scheduler
from .base import (
    PICTURES,
    Noise,
    Pipeline,
    as_asked,
    centred,
    check_number,
    check_output,
    chosen,
    from_0_to_1,
    images_of,
    shown,
)
from .loras import TakesLoras
from .unconditional import KINDS

TOKENIZERS = {"CLIPTokenizer": CLIPTokenizer, "CLIPTokenizerFast": CLIPTokenizer}
SD = "Stable Diffusion 1 and 2 are supported"
NOT_HERE = {  # arguments of diffusers' calls that are not there, and what to do
    "ip_adapter_image": "IP-Adapters are not supported: leave it out, or begin with image=",
    "ip_adapter_image_embeds": "IP-Adapters are not supported: leave it out, or begin with image=",
    "callback": "it is of older versions: give callback_on_step_end=, called with (pipe, number, time, state)",
    "callback_steps": "it is of older versions: callback_on_step_end is called at every step, and may pass some over",
    "padding_mask_crop": "crop image and mask_image yourself, and paste what is drawn",
    "masked_image_latents": "they are encoded here, from image and mask_image",
}
LARGEST = 1e30  # of numbers that are believed
HANDED = ("latents",)  # to callback_on_step_end, by name
RANGES = {  # of numbers that a call is given
    "guidance_scale": (lambda value: abs(value) < LARGEST, "a finite number; 1 is no guidance"),
    "guidance_rescale": (from_0_to_1, "a number from 0 to 1"),
    "eta": (from_0_to_1, "a number from 0 to 1"),
    "strength": (lambda value: 0 < value <= 1, "a number above 0, and at most 1"),
}


class StableDiffusionPipelineOutput(NamedTuple):
    """What was drawn: images (B, H, W, 3) in [0, 1], or a list of PIL's; nobody looked for what is not safe."""

    images: Any
    nsfw_content_detected: None = None


class Chain(NamedTuple):
    """What a denoising begins with and is held to.

    Attributes:
        latents: (B, C, h, w) at the noise of the first of ``times``.
        times: of the calls of the network.
        start, start_noise: (B, C, h, w) the given image's latents, and the noise that they are mixed with; or None.
        mask: (B, 1, h, w) 1 where is to be drawn, or None.
        beside: (B, 1 + C, h, w) what a network for inpainting sees beside the latents, or None.
    """

    latents: Tensor
    times: list[Any]
    start: Tensor | None = None
    start_noise: Tensor | None = None
    mask: Tensor | None = None
    beside: Tensor | None = None


class Steps(NamedTuple):
    """How many steps, or in their place what the scheduler's ``set_timesteps`` is given."""

    number: int
    own: Mapping[str, Any]


# What is compiled, each for the part that it is given.


def _vectors(text_encoder: CLIPTextModel, skipped: int) -> Callable:
    def vectors(tokens):
        return text_encoder.vectors(tokens, skipped)

    return vectors


def _moments(vae: AutoencoderKL) -> Callable:
    def moments(images):
        return vae.moments(images)

    return moments


def _decoded(vae: AutoencoderKL) -> Callable:
    def decoded(latents):
        return vae.decode(latents)

    return decoded


def _unguided(unet: UNet2DConditionModel) -> Callable:
    def output(x, t, context):
        return unet(x, t, context)

    return output


def _guided(unet: UNet2DConditionModel, rescaled: bool) -> Callable:
    """(x, t, context, scale[, share]) -> the guided output. ``t``, ``context`` are of both halves, negative first.

    ``x`` is doubled in here: outside of a graph an operator takes ten times as long. There is a ``share`` only where
    it is used: with an argument that it does not use a graph takes 10 ms in the place of 6 (2.10, CPU).
    """

    def both(x, t, context, scale):
        plain, prompted = ops.Split(0, 2)(unet(ops.Concat(0)((x, x)), t, context))
        return plain + scale * (prompted - plain), prompted

    def guided(x, t, context, scale):
        return both(x, t, context, scale)[0]

    def guided_and_rescaled(x, t, context, scale, share):  # Lin et al., https://arxiv.org/abs/2305.08891, eq. 15, 16
        output, prompted = both(x, t, context, scale)
        axes = tuple(range(1, x.ndim))
        wanted = ops.std(prompted, axes, 1, keepdims=True)
        return output * (share * wanted / ops.std(output, axes, 1, keepdims=True) + 1 - share)

    return guided_and_rescaled if rescaled else guided


def _texts(given: Any, name: str) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given) if isinstance(given, (list, tuple)) else None
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{name} is {quoted(given)}, expected a text or a list of texts")
    return texts


class StableDiffusionPipeline(TakesLoras, Pipeline):
    """diffusers' StableDiffusionPipeline, and by ``image`` and ``mask_image`` what its two sisters do.

    pipe = StableDiffusionPipeline.from_pretrained("directory")
    pipe("a red three", seed=0).images[0].save("three.png")

    Args:
        vae, text_encoder, tokenizer, unet, scheduler: the parts.
    """

    PARTS: ClassVar = {
        "vae": ("diffusers", chosen({"AutoencoderKL": AutoencoderKL}, "vae")),
        "text_encoder": ("transformers", chosen({"CLIPTextModel": CLIPTextModel}, "text_encoder")),
        "tokenizer": ("transformers", chosen(TOKENIZERS, "tokenizer")),
        "unet": ("diffusers", chosen({"UNet2DConditionModel": UNet2DConditionModel}, "unet")),
        "scheduler": ("diffusers", chosen(KINDS, "scheduler")),
    }
    CLASSES = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline")
    UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder", "requires_safety_checker"})

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: Scheduler,
    ):
        width, expected = text_encoder.config.hidden_size, unet.config.cross_attention_dim
        if width != expected:
            raise UserError(f"the text_encoder gives vectors of {width}, and the unet expects {expected}; {SD}")
        super().__init__(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self._fills_in()  # raises for other networks
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)

    # --- the prompt ---------------------------------------------------------------------------------------------------

    def encode_prompt(
        self, prompt: str | Sequence[str], name: str = "prompt", *, clip_skip: int | None = None
    ) -> Tensor:
        """(B, length, width): what the network attends to.

        Args:
            prompt: a text or a list of texts.
            name: what a message calls it.
            clip_skip: how many of the text encoder's last layers are left out, before its last norm.

        Raises:
            UserError: for what is no text, and for more layers than there are.
        """
        skipped, layers = 0 if clip_skip is None else clip_skip, self.text_encoder.config.num_hidden_layers
        if not isinstance(skipped, int) or not 0 <= skipped <= layers:
            raise UserError(f"clip_skip is {quoted(clip_skip)}, expected 0 to {layers}, the text encoder's layers")
        ids = self.tokenizer.encode(_texts(prompt, name))
        encode = self.graph(("text", skipped), _vectors, self.text_encoder, skipped)
        return encode(Tensor(np.asarray(ids, np.int32)))

    def _context(
        self, prompt: Any, negative: Any, embeds: Any, negative_embeds: Any, copies: int, guided: bool,
        clip_skip: int | None,
    ) -> Tensor:  # fmt: skip
        """(B or 2 B, length, width): the prompt's vectors, of each ``copies``; before them the negative prompt's."""
        if (prompt is None) == (embeds is None):
            raise UserError("neither or both of prompt and prompt_embeds were given, expected one of them")
        positive = (
            self.encode_prompt(prompt, clip_skip=clip_skip) if embeds is None else _finite(embeds, "prompt_embeds")
        )
        count = positive.shape[0]
        if not guided:
            return ops.repeat_interleave(positive, copies, 0)
        if negative_embeds is not None:
            if negative is not None:
                raise UserError("both negative_prompt and negative_prompt_embeds were given, expected one of them")
            other = _finite(negative_embeds, "negative_prompt_embeds")
        else:
            texts = _texts("" if negative is None else negative, "negative_prompt")
            if len(texts) not in (1, count):
                raise UserError(f"there are {len(texts)} negative prompts for {count} prompts, expected 1 or as many")
            other = self.encode_prompt(texts * count if len(texts) == 1 else texts, "negative_prompt")
        if other.shape != positive.shape:
            raise UserError(f"negative_prompt_embeds has shape {other.shape}, expected {positive.shape}")
        return ops.repeat_interleave(ops.cat((other, positive), 0), copies, 0)

    # --- the beginning ------------------------------------------------------------------------------------------------

    def _sides(self, height: int | None, width: int | None) -> tuple[int, int]:
        """The latents' sides of a picture ``height`` by ``width``; None: those that the network was trained on."""
        of_training, factor = self.unet.config.sample_size, self.vae_scale_factor
        sizes = (of_training, of_training) if isinstance(of_training, int) else of_training
        found = []
        for name, value, usual in (("height", height, sizes and sizes[0]), ("width", width, sizes and sizes[1])):
            if value is None and usual is None:
                raise UserError(f"the unet's config has no sample_size; give {name}")
            pixels = usual * factor if value is None else value
            if not isinstance(pixels, int) or pixels < 1 or pixels % factor:
                raise UserError(f"{name} is {quoted(pixels)}, expected a multiple of {factor}")
            found.append(pixels // factor)
        return found[0], found[1]

    def _image(self, image: Any, name: str, batch: int, channels: int = 3) -> np.ndarray:
        """(B, H, W, channels) in [0, 1], of a size that the autoencoder halves without rest."""
        images = images_of(image, name, channels)
        for side, length in zip(("height", "width"), images.shape[1:3], strict=True):
            if length % self.vae_scale_factor:
                raise UserError(f"the {side} of {name} is {length}, expected a multiple of {self.vae_scale_factor}")
        if batch % len(images):
            raise UserError(f"{name} holds {len(images)} images for {batch} pictures, expected a divisor of them")
        return np.repeat(images, batch // len(images), 0)

    def encode_image(self, images: np.ndarray, noise: Noise) -> Tensor:
        """(B, H, W, 3) in [0, 1] -> latents (B, C, h, w), drawn from their distribution, scaled."""
        moments = self.graph("encode", _moments, self.vae)
        moments_of = moments(ops.cast(centred(images), type_of_network(self.vae)))
        found = LatentDistribution(ops.cast(moments_of, ms.float32))
        drawn = found.sample(noise.draw(tuple(found.mean.shape), "the image's latents"))
        return drawn * self.vae.config.scaling_factor

    def _times(self, asked: Steps, strength: float | None) -> list[Any]:
        """The times of the chain, behind the noise that ``strength`` leaves out."""
        self.scheduler.set_timesteps(**asked.own or {"num_inference_steps": asked.number})
        times = self.scheduler.timesteps.asnumpy().tolist()
        if strength is None:
            return times
        steps = len(times) if asked.own else asked.number
        kept = min(int(steps * strength), steps)
        first = (steps - kept) * self.scheduler.order
        if kept < 1 or first >= len(times):
            raise UserError(f"strength {strength} of {steps} steps is less than one step; give more of either")
        self.scheduler.set_begin_index(first)
        return times[first:]

    def _fills_in(self) -> bool:
        """Whether the unet is one that sees a mask and what it leaves. Raises UserError for one of neither kind."""
        channels, seen = self.vae.config.latent_channels, self.unet.config.in_channels
        if seen not in (channels, 2 * channels + 1):
            raise UserError(
                f"the unet takes {seen} channels and the latents have {channels}, expected {channels}, or for "
                f"inpainting {2 * channels + 1}: it is of another kind of pipeline, which is not supported"
            )
        return seen != channels

    def _own_times(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What ``given`` holds of ``timesteps`` and ``sigmas``. Raises UserError where the scheduler takes none."""
        own = {name: value for name, value in given.items() if value is not None}
        if len(own) > 1:
            raise UserError(f"{' and '.join(own)} were given together, expected at most one of them")
        for name, value in own.items():
            if name not in inspect.signature(self.scheduler.set_timesteps).parameters:
                kind = type(self.scheduler).__name__
                raise UserError(
                    f"{name} is {quoted(value)}, and {kind} has times of its own; give num_inference_steps, or another "
                    "scheduler, such as EulerDiscreteScheduler"
                )
        return own

    def _begin(
        self, noise: Noise, batch: int, sides: tuple[int, int], given: Any, image: Any, mask: Any,
        strength: float, steps: Steps,
    ) -> Chain:  # fmt: skip
        """The chain of a prompt alone, of an image, or of an image with a mask."""
        channels, for_filling = self.vae.config.latent_channels, self._fills_in()
        if image is None and mask is not None:
            raise UserError("mask_image was given without image, which is what it is a mask of")
        if for_filling and mask is None:
            raise UserError(
                f"the unet takes {self.unet.config.in_channels} channels, the latents have {channels}: it is for "
                "inpainting; give image and mask_image"
            )
        if image is None:
            fresh = self._given_or_drawn(noise, given, (batch, channels, *sides))
            times = self._times(steps, None)
            return Chain(fresh * self.scheduler.init_noise_sigma, times)
        pixels = self._image(image, "image", batch)
        hidden = None if mask is None else self._mask(mask, pixels)
        times = self._times(steps, strength)
        of_noise_alone = mask is not None and strength == 1
        start = None if of_noise_alone and for_filling else self.encode_image(pixels, noise)
        factor = self.vae_scale_factor
        fresh = self._given_or_drawn(noise, given, (batch, channels, *(side // factor for side in pixels.shape[1:3])))
        latents = fresh * self.scheduler.init_noise_sigma if of_noise_alone else self._noised(start, fresh, times[0])
        if hidden is None:
            return Chain(latents, times)
        small = Tensor(np.ascontiguousarray(np.transpose(hidden[:, ::factor, ::factor], (0, 3, 1, 2))))
        beside = None
        if for_filling:
            gray = pixels * (1 - hidden) + 0.5 * hidden
            beside = ops.cat((small, self.encode_image(gray, noise)), 1)
        return Chain(latents, times, start, fresh, small, beside)

    def _mask(self, mask: Any, pixels: np.ndarray) -> np.ndarray:
        """(B, H, W, 1): 1 where ``pixels`` (B, H, W, 3) are hidden, 0 elsewhere."""
        hidden = (self._image(mask, "mask_image", len(pixels), 1) >= 0.5).astype(np.float32)
        if hidden.shape[1:3] != pixels.shape[1:3]:
            raise UserError(f"mask_image is {hidden.shape[1:3]}, expected the image's {pixels.shape[1:3]}")
        return hidden

    def _noised(self, start: Tensor, fresh: Tensor, time: Any) -> Tensor:
        return self.scheduler.add_noise(start, fresh, np.array([time] * start.shape[0]))

    @staticmethod
    def _given_or_drawn(noise: Noise, given: Any, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers to begin with: ``given`` as ``latents``, or drawn."""
        if given is None:
            return Tensor(noise.draw(shape, "x_T"))
        found = _finite(given, "latents")
        if tuple(found.shape) != shape:
            raise UserError(f"latents have shape {tuple(found.shape)}, expected {shape}")
        return found

    # --- drawing --------------------------------------------------------------------------------------------------

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float = 7.5,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: np.random.Generator | None = None,
        latents: Any = None,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        ip_adapter_image: None = None,
        ip_adapter_image_embeds: None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        guidance_rescale: float = 0.0,
        clip_skip: int | None = None,
        callback_on_step_end: Callable[..., dict | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = HANDED,
        *,
        image: Any = None,
        strength: float | None = None,
        mask_image: Any = None,
        seed: int | None = None,
        first_image: int = 0,
        noise: Iterable[Any] | None = None,
        **others: Any,
    ) -> StableDiffusionPipelineOutput | tuple:
        """Draws pictures of the prompts. By position the arguments are diffusers'.

        Args:
            prompt: a text or a list of texts; or ``prompt_embeds``, what `encode_prompt` makes of them.
            height, width: of the pictures, multiples of 8 (default: what the network was trained on); with ``image``
                they are the image's.
            num_inference_steps: how many steps.
            timesteps, sigmas: the chain's own times or noise levels, in the place of a number of steps, where the
                scheduler's ``set_timesteps`` takes them.
            guidance_scale: how strongly the prompt counts; at most 1: no guidance, and half the time.
            negative_prompt: what not to draw: a text, or one for each prompt.
            num_images_per_prompt: pictures of each prompt.
            eta: of DDIM's scheduler alone: 0 deterministic ... 1 as noisy as DDPM.
            generator, seed, noise: where noise comes from: a numpy Generator; a seed (picture i of a seed is the same
                however many there are); or the arrays themselves, in order: the image's latents, x_T, (of a network
                for inpainting: the masked image's latents), and one for each step that draws some.
            first_image: of a seed: the number of the first picture, where more calls draw the others.
            latents: (B, 4, h, w) standard normal numbers to begin with, in the place of drawn ones.
            ip_adapter_image, ip_adapter_image_embeds, others: None; what diffusers has and is not there.
            output_type: "pil", "np" or "latent".
            return_dict: False: a tuple.
            cross_attention_kwargs: {"scale": s}: for this call the LoRAs act by s of their scales.
            guidance_rescale: 0 ... 1, how far the guided output's spread is brought back to the prompted one's.
            clip_skip: how many of the text encoder's last layers the prompt does not go through; the negative prompt
                does, as in diffusers.
            callback_on_step_end: called as ``f(pipe, number, time, {"latents": latents})``; what it gives back under
                "latents" goes on. An exception of its own stops the drawing.
            callback_on_step_end_tensor_inputs: ["latents"].
            image: to begin with instead of noise (its sides are multiples of 8).
            strength: how much of ``image`` is noised, above 0 and at most 1 (default .8; with a mask 1).
            mask_image: white where the image is to be drawn anew.

        Raises:
            UserError: for values that do not fit.
        """
        others |= {"ip_adapter_image": ip_adapter_image, "ip_adapter_image_embeds": ip_adapter_image_embeds}
        _check_absent(others)
        check_output(output_type)
        if image is None and strength is not None:
            raise UserError("strength was given without image, whose noise it is")
        strength = (0.8 if mask_image is None else 1.0) if strength is None else strength
        given = (guidance_scale, guidance_rescale, eta, strength)
        for (name, (fits, words)), value in zip(RANGES.items(), given, strict=True):
            check_number(name, value, fits, words)
        _check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs)
        share = _share_of(cross_attention_kwargs)
        source = Noise(noise, generator, seed, first_image)
        guided = guidance_scale > 1
        if not isinstance(num_images_per_prompt, int) or num_images_per_prompt < 1:
            raise UserError(f"num_images_per_prompt is {quoted(num_images_per_prompt)}, expected at least 1")
        steps = Steps(num_inference_steps, self._own_times({"timesteps": timesteps, "sigmas": sigmas}))
        with nullcontext() if share == 1 else self.loras_at(share):
            context = self._context(
                prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, num_images_per_prompt, guided, clip_skip
            )
            batch = context.shape[0] // (2 if guided else 1)
            sides = self._sides(height, width) if image is None else (0, 0)
            chain = self._begin(source, batch, sides, latents, image, mask_image, strength, steps)
            sample = self._denoised(chain, context, guidance_scale, guidance_rescale, eta, source, callback_on_step_end)
        if output_type in PICTURES:
            decode = self.graph("decode", _decoded, self.vae)
            unscaled = ops.cast(sample / self.vae.config.scaling_factor, type_of_network(self.vae))
            images = as_asked(shown(decode(unscaled)), output_type)
        else:
            images = sample.asnumpy()
        return StableDiffusionPipelineOutput(images) if return_dict else (images, None)

    def _denoised(
        self, chain: Chain, context: Tensor, scale: float, share: float, eta: float, noise: Noise,
        callback: Callable[..., dict | None] | None,
    ) -> Tensor:  # fmt: skip
        """The latents behind the last step."""
        guided = scale > 1
        if guided:
            network = self.graph(("guided", share > 0), _guided, self.unet, share > 0)
        else:
            network = self.graph("plain", _unguided, self.unet)
        takes = inspect.signature(self.scheduler.step).parameters
        options = {name: value for name, value in (("eta", eta), ("noise", noise.draw)) if name in takes}
        kind = type_of_network(self.unet)
        context = ops.cast(context, kind)
        sample = chain.latents
        numbers = [Tensor(np.float32(number)) for number in (scale, share)[: 1 + (share > 0)]] if guided else []
        for i, time in self.progress(chain.times):
            x = self.scheduler.scale_model_input(sample, time)
            if chain.beside is not None:
                x = ops.cat((x, chain.beside), 1)
            t = Tensor(np.full(context.shape[0], time, np.float32))
            output = network(_of_type(x, kind), t, context, *numbers)
            sample = self.scheduler.step(_of_type(output, sample.dtype), time, sample, **options)[0]
            if chain.mask is not None and chain.beside is None:
                later = chain.times[i + 1 :]
                kept = self._noised(chain.start, chain.start_noise, later[0]) if later else chain.start
                sample = (1 - chain.mask) * kept + chain.mask * sample
            if callback is not None:
                sample = (callback(self, i, time, {"latents": sample}) or {}).get("latents", sample)
        return sample


def _finite(given: Any, name: str) -> Tensor:
    """An array or Tensor given as ``name``. Raises UserError for another, and for numbers that are not finite."""
    found = float_tensor(given, name)
    if not np.isfinite(ops.cast(found, ms.float32).asnumpy()).all():
        raise UserError(f"{name} has numbers that are not finite, expected finite ones alone")
    return found


def _check_absent(given: Mapping[str, Any]) -> None:
    """Raises UserError for an argument that is not there."""
    for name, value in given.items():
        if name not in NOT_HERE:
            raise UserError(f"StableDiffusionPipeline is called with {name}, and has no such argument")
        if value is not None:
            raise UserError(f"{name} is {quoted(value)}, expected nothing; {NOT_HERE[name]}")


def _check_callback(callback: Any, handed: Any) -> None:
    """Raises UserError for what cannot be called, or asks for what it is not handed."""
    if callback is not None and not callable(callback):
        raise UserError(f"callback_on_step_end is {quoted(callback)}, expected a function")
    if not isinstance(handed, (list, tuple)) or not all(name in HANDED for name in handed):
        raise UserError(f"callback_on_step_end_tensor_inputs is {quoted(handed)}, expected {list(HANDED)}")


def _share_of(given: Mapping[str, Any] | None) -> float:
    """The ``scale`` of ``cross_attention_kwargs``, 1 without. Raises UserError for anything else in them."""
    if not isinstance(given, (Mapping, type(None))) or not set(given or ()) <= {"scale"}:
        raise UserError(f'cross_attention_kwargs is {quoted(given)}, expected {{"scale": NUMBER}}, that of the LoRAs')
    share = (given or {}).get("scale", 1.0)
    check_number("the scale of cross_attention_kwargs", share, lambda value: abs(value) < LARGEST, "a finite number")
    return share


def type_of_network(network: Any) -> Any:
    """The type of a network's parameters, which it is called with."""
    return next(iter(network.get_parameters())).dtype


def _of_type(x: Tensor, kind: Any) -> Tensor:
    """``x`` in the type ``kind``; a cast to its own type costs as much as any other operator."""
    return x if x.dtype == kind else ops.cast(x, kind)
