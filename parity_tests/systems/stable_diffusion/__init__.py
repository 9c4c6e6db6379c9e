"""The checks of Stable Diffusion's networks: their blocks alone, and each network."""
