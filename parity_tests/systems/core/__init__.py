"""Diffusion itself: schedules and the process, layers and the Unet, training, sampling."""
