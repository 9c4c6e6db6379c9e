"""The process by diffusers' names: DDPMScheduler and DDIMScheduler."""
