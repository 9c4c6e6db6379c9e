"""LoRA: adapters beside the weights of a frozen network, and in them."""
