"""An autoencoder with its perceptual losses, and diffusion in its latents."""
