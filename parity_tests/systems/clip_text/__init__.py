"""The text encoder of Stable Diffusion, CLIP's, and its tokenizer."""
