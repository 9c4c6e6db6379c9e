"""The legs of all systems, a module per framework, which `portparity.backends` imports when first used.

Names of weights and gradients are PyTorch's on every side. numpy is the float64 oracle of the mathematics, torch in
double that of the networks. What the legs of a framework share stands in `shared_torch` and `shared_mindspore`.
"""
