"""Scores of an autoencoder's latents. Read autoencoder.py, lpips.py (its perceptual losses), model.py."""
