"""Bugs of LoRA, on either side."""

from __future__ import annotations

from portparity.mutants import Mutant
from portparity.mutants.editing import edit

T = "torch_ref.systems.lora:LoRA."
M = "ms_ddpm.nn.adapters:Adapters."
WATCH = ("maths/lora_merged-*", "layers/lora_*-pynative", "state/lora_files*")  # beside their place

# fmt: off
ROWS = (  # name, framework, place, bug, source
    ("alpha over rank forgotten", "torch", "maths/lora_merged-*",
     edit(T + "factor", ("self.scale * self.alpha / self.rank", "self.scale")), "Hu et al., section 4.1: alpha / r"),
    ("scale applied twice", "torch", "layers/lora_attention-*",
     edit(T + "forward", ("self.factor() * ", "self.scale * self.factor() * ")), "Hu et al., eq. 3"),
    ("B not zero", "torch", "layers/lora_new-*",
     edit(T + "__init__", ("torch.zeros(out", "torch.ones(out")), "Hu et al., section 4.1: zero for B"),
    ("A of deviation 1 / sqrt(r)", "torch", "layers/lora_new-*",
     edit(T + "__init__", ("np.float32(1 / rank)", "np.float32(rank**-0.5)")), "peft: \"gaussian\" has std 1 / r"),
    ("the outer LoRA around the base alone", "torch", "layers/lora_two_adapters-*",
     edit(T + "forward", ("self.layer(x)", "self.base()(x)")), "the sum over adapters"),
    ("an adapter merged without its alpha over rank (MindSpore)", "mindspore", "maths/lora_merged-*",
     edit(M + "fuse", ("self._scales[name] * self._alpha_over_rank[name][path]", "self._scales[name]")),
     "Hu et al., section 4.1: alpha / r"),
    ("LoRA on the wrong projection (MindSpore)", "mindspore", "maths/lora_merged-*",
     edit(M + "_put_into_layers", ("layers[path].adapters = nn", 'layers[path.replace("to_k", "to_v")].adapters = nn')),
     "to_k and to_v have weights of one shape"),
    ("alpha over rank forgotten (MindSpore)", "mindspore", "maths/lora_merged-*",
     edit(M + "_put", ("ratios[path] = alpha / len(down)", "ratios[path] = 1.0")), "Hu et al., section 4.1: alpha / r"),
    ("scale applied twice (MindSpore)", "mindspore", "layers/lora_attention-*",
     edit(M + "_apply_scale", ("self._scales[name] if", "self._scales[name] ** 2 if")), "Hu et al., eq. 3"),
    ("B not zero (MindSpore)", "mindspore", "layers/lora_new-*",
     edit(M + "add", ("np.zeros(up", "np.ones(up")), "Hu et al., section 4.1: zero for B"),
    ("the last adapter alone (MindSpore)", "mindspore", "layers/lora_two_adapters-*",
     edit("ms_ddpm.nn.layers:Affine.adapted", ("for adapter in self.adapters:", "for adapter in self.adapters[-1:]:")),
     "the sum over adapters"),
    ("alpha left out of a file (MindSpore)", "mindspore", "state/lora_files*",
     edit("ms_ddpm.storage.lora_files:_header_of", ('"lora_alpha": alpha', '"lora_alpha": rank')),
     "peft: where no alpha is said it is the rank"),
    ("unfused by a subtraction (MindSpore)", "mindspore", "state/lora_files*",
     edit(M + "unfuse", ("set_value(layers[path].weight, weight)",
          "set_value(layers[path].weight, (weight + np.float32(1)) - np.float32(1))")), "a sum and a difference round"),
)
# fmt: on
MUTANTS = tuple(
    Mutant(name, "LoRA", framework, place, apply, source, WATCH) for name, framework, place, apply, source in ROWS
)
