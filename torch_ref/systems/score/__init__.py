"""Diffusion in continuous time: sde.py, model.py, samplers.py, likelihood.py; its networks: transformer.py, unet.py."""
