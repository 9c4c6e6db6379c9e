"""LoRA files in a pipeline, under diffusers' names: loaded, weighed, mixed, put into the weights and taken away.

    pipe.load_lora_weights("pytorch_lora_weights.safetensors", adapter_name="style")
    pipe.set_adapters(["style"], [0.8])

Switching and scaling what is loaded compiles nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mindspore import nn

from ..errors import UserError, quoted
from ..nn.adapters import Adapters, adapters_of, load_file


class TakesLoras:
    """What a pipeline with a ``unet`` and a ``text_encoder`` has to do with LoRA files.

    The adapters are the networks' own (`ms_ddpm.nn.adapters.adapters_of`): what ``pipe.unet.load_attn_procs`` loads is
    weighed and taken away here like the rest.
    """

    def _networks(self) -> dict[str, nn.Cell]:
        return {name: getattr(self, name) for name in ("unet", "text_encoder")}

    @property
    def adapters(self) -> dict[str, Adapters]:
        """The adapters of each of the two networks that has some."""
        every = {name: adapters_of(network) for name, network in self._networks().items()}
        return {name: adapters for name, adapters in every.items() if adapters.names}

    def load_lora_weights(
        self, path: str | Path, adapter_name: str | None = None, *, weight_name: str | None = None
    ) -> None:
        """Loads a LoRA file beside what is loaded, and it acts with a scale of 1.

        Args:
            path: a .safetensors file of any of the formats (see `ms_ddpm.storage.lora_files`), or its folder.
            adapter_name: what it is called (default "default_0", "default_1", ...). A name that is there already gets
                the new numbers, without a compilation where layers and ranks allow it.
            weight_name: the file's name in the folder ``path``.

        Raises:
            UserError: no such file, or one that is not for these networks; a hub's name, since nothing is downloaded.
        """
        load_file(self._networks(), path, adapter_name, weight_name)

    def load_attn_procs(self, path: str | Path, *, weight_name: str | None = None) -> None:
        """`load_lora_weights`, by the name that older scripts call on ``pipe.unet``."""
        self.load_lora_weights(path, weight_name=weight_name)

    def get_list_adapters_names(self) -> list[str]:
        """The names of the loaded LoRAs, in the order in which they came."""
        return list(dict.fromkeys(name for adapters in self.adapters.values() for name in adapters.names))

    def set_adapters(
        self, adapter_names: str | Sequence[str], adapter_weights: float | Sequence[float] | None = None
    ) -> None:
        """These act, each with its weight (1 where none is given), and the others do not.

        Raises UserError for a name that is not loaded, and for another number of weights than of names.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        known = self.get_list_adapters_names()
        for name in names:
            if name not in known:
                raise UserError(f"no LoRA is called {quoted(name)}; loaded: {', '.join(known) or 'none'}")
        given = 1.0 if adapter_weights is None else adapter_weights
        weights = [given] * len(names) if isinstance(given, (int, float)) else list(given)
        if len(weights) != len(names):
            raise UserError(f"adapter_weights has {len(weights)} numbers for {len(names)} adapters")
        scales: Mapping[str, float] = dict(zip(names, weights, strict=True))
        for adapters in self.adapters.values():
            own = [name for name in names if name in adapters.names]
            adapters.set_adapters(own, [scales[name] for name in own])

    def fuse_lora(self, lora_scale: float = 1.0) -> None:
        """Adds what is loaded, as it is weighed and times ``lora_scale``, to the networks' weights: faster to draw."""
        for adapters in self.adapters.values():
            adapters.fuse(lora_scale)

    def unfuse_lora(self) -> None:
        """The networks' weights as they were, bit for bit; the LoRAs act beside them again."""
        for adapters in self.adapters.values():
            adapters.unfuse()

    def unload_lora_weights(self) -> None:
        """Takes all LoRAs away: the networks are as they were, bit for bit."""
        for adapters in self.adapters.values():
            adapters.unload()
