"""diffusers' pipelines in MindSpore: from a directory as that library writes it, and a prompt, to pictures.

`StableDiffusionPipeline` draws from a prompt, changes an image by one, or fills in a part of it; `DDPMPipeline` and
`DDIMPipeline` draw from networks without a prompt. A pipeline only brings its parts together: a text encoder, networks,
a scheduler. Images go in and come out as numpy arrays (B, H, W, 3) in [0, 1], or as PIL's.
"""

from .base import ImagePipelineOutput, Pipeline
from .stable_diffusion import StableDiffusionPipeline, StableDiffusionPipelineOutput
from .unconditional import DDIMPipeline, DDPMPipeline

__all__ = [
    "DDIMPipeline",
    "DDPMPipeline",
    "ImagePipelineOutput",
    "Pipeline",
    "StableDiffusionPipeline",
    "StableDiffusionPipelineOutput",
]
