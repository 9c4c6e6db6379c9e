"""The machine: starting MindSpore on it, its memory and precision, CUDA's libraries, several workers."""
