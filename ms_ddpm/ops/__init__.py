"""The few operations MindSpore lacks or gets wrong, each with its reason."""
