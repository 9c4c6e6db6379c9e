"""What ms_ddpm's StableDiffusionPipeline draws."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np

import ms_ddpm
from ms_ddpm.data.tokenizer import CLIPTokenizer
from ms_ddpm.pipelines import stable_diffusion
from ms_ddpm.pipelines.base import Noise
from parity_tests.backends.shared_mindspore import RNG, product_mode
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import arrays, as_graph, load, tensor

from .networks import NETWORKS


def handed_on(x: ms.Tensor, t: ms.Tensor, context: ms.Tensor) -> ms.Tensor:
    """A network whose output is what it attends to."""
    return context


def sd_guided(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The guided output of a network's two."""

    def build():
        return as_graph(stable_diffusion._guided(handed_on, spec["share"] > 0), mode)

    output = memo(build, "mindspore guided", spec["share"] > 0, mode)
    both = tensor(np.concatenate([inputs["plain"], inputs["prompted"]]))
    numbers = [tensor(np.float32(spec[name])) for name in ("scale", "share") if spec[name]]
    times = tensor(np.zeros(len(both), np.float32))
    return arrays({"eps": output(tensor(inputs["plain"]), times, both, *numbers)})


def _sides(value: np.ndarray) -> tuple[int, int]:
    return value.shape[2], value.shape[3]


def pipeline_of(spec: Mapping, inputs: Arrays, sides: tuple[int, int], mode: str):
    """The pipeline of ``spec["parts"]`` for latents of ``sides``, its networks' weights the given ones."""
    parts = spec["parts"]

    def build():
        learnt = CLIPTokenizer.trained(parts["captions"], 514 + parts["merges"])
        length = parts["text"]["max_position_embeddings"]
        tokenizer = CLIPTokenizer(learnt.vocab, learnt.merges, {"pad_token": parts["pad"]}, model_max_length=length)
        options = {"rng": RNG, "use_kernels": False}
        return ms_ddpm.StableDiffusionPipeline(
            vae=NETWORKS["autoencoder_kl"](**parts["autoencoder"], scaling_factor=parts["factor"], **options),
            text_encoder=ms_ddpm.CLIPTextModel(
                vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **parts["text"], rng=RNG
            ),
            tokenizer=tokenizer,
            unet=NETWORKS["conditional_unet"](**parts["unet"], sample_size=sides, **options),
            scheduler=ms_ddpm.DDIMScheduler(clip_sample=False),
        )

    pipe = memo(build, "mindspore pipeline", parts, sides, mode)
    pipe.set_progress_bar_config(disable=True)
    for part, net in (("unet", pipe.unet), ("autoencoder", pipe.vae), ("text", pipe.text_encoder)):
        load(net, inputs, {name: f"{part}.{name}" for name, _ in net.parameters_and_names()})
    return pipe


def _images(found) -> np.ndarray:
    """(B, H, W, C) -> (B, C, H, W)."""
    return np.ascontiguousarray(np.transpose(found.images, (0, 3, 1, 2)))


def sd_latents(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Images as latents, and latents, which a callback gives behind the last step, as images."""
    z = tensor(inputs["z"])

    def last(pipe, number, time, state):
        return {"latents": z}

    with product_mode(mode):
        pipe = pipeline_of(spec, inputs, _sides(z), mode)
        latents = pipe.encode_image(inputs["image"], Noise([inputs["noise"]], None, None))
        vectors = np.zeros((len(inputs["z"]), 2, pipe.text_encoder.config.hidden_size), np.float32)
        found = pipe(
            prompt_embeds=vectors, num_inference_steps=1, guidance_scale=1.0, output_type="np", seed=0,
            callback_on_step_end=last,
        )  # fmt: skip
    return {**arrays({"latents": latents}), "images": _images(found)}


def _tape(spec: Mapping, inputs: Arrays) -> list[np.ndarray]:
    """What is drawn, in the order in which the pipeline draws it."""
    sees = spec["parts"]["unet"]["seen"] > inputs["noise.first"].shape[1]
    drawn = {
        "image": "image" in inputs and not (sees and spec["strength"] == 1),
        "first": "first" not in spec["given"],
        "known": sees,
    }
    return [inputs[f"noise.{name}"] for name, is_drawn in drawn.items() if is_drawn] + list(inputs["noise.steps"])


def sd_drawing(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """A chain: the latents behind every step, and the images."""
    chain, (at, factor) = [], spec.get("change", (None, 1))

    def each(pipe, number, time, state):
        changed = factor * state["latents"] if number == at else state["latents"]
        chain.append(changed.asnumpy())
        return {"latents": changed} if number == at else None

    asked = {
        "num_inference_steps": spec["steps"], "guidance_scale": spec["scale"], "eta": spec.get("eta", 0.0),
        "guidance_rescale": spec.get("share", 0.0), "num_images_per_prompt": spec["copies"], "output_type": "np",
        "noise": _tape(spec, inputs), "callback_on_step_end": each,
    }  # fmt: skip
    if "prompt" in inputs:
        asked |= {"prompt_embeds": inputs["prompt"], "negative_prompt_embeds": inputs["negative"]}
    else:
        asked |= {"prompt": spec["prompts"], "negative_prompt": spec["negative"]}
    if "first" in spec["given"]:
        asked["latents"] = inputs["noise.first"]
    asked |= {name: spec[name] for name in ("strength",) if name in spec}
    asked |= {name: inputs[given] for name, given in (("image", "image"), ("mask_image", "mask")) if given in inputs}
    with product_mode(mode):
        pipe = pipeline_of(spec, inputs, _sides(inputs["noise.first"]), mode)
        pipe.scheduler = getattr(ms_ddpm, spec["scheduler"])(**spec["config"])
        found = pipe(**asked)
    return {"chain": np.stack(chain), "images": _images(found)[None]}
