"""LoRA files in a pipeline, under diffusers' names: loaded, weighed, mixed, put into the weights and taken away.

    pipe.load_lora_weights("pytorch_lora_weights.safetensors", adapter_name="style")
    pipe.set_adapters(["style"], [0.8])

Switching and scaling what is loaded compiles nothing anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mindspore import nn

from ..errors import UserError, quoted
from ..nn.adapters import Adapters, adapters_of, checked_scale, load_file, save_file
from ..storage import lora_files
from ..storage.directories import without_fetching

NETWORKS = ("unet", "text_encoder")  # that may have some


class TakesLoras:
    """What a pipeline with a ``unet`` and a ``text_encoder`` has to do with LoRA files.

    The adapters are the networks' own (`ms_ddpm.nn.adapters.adapters_of`): what ``pipe.unet.load_attn_procs`` loads is
    weighed and taken away here like the rest.
    """

    def _networks(self) -> dict[str, nn.Cell]:
        return {name: getattr(self, name) for name in NETWORKS}

    @property
    def adapters(self) -> dict[str, Adapters]:
        """The adapters of each of the two networks that has some."""
        every = {name: adapters_of(network) for name, network in self._networks().items()}
        return {name: adapters for name, adapters in every.items() if adapters.names}

    def load_lora_weights(
        self, path: str | Path, adapter_name: str | None = None, *, weight_name: str | None = None, **fetching: Any
    ) -> None:
        """Loads a LoRA file beside what is loaded, and it acts with a scale of 1.

        Args:
            path: a .safetensors file of any of the formats (see `ms_ddpm.storage.lora_files`), or its folder.
            adapter_name: what it is called (default "default_0", "default_1", ...). A name that is there already gets
                the new numbers, without a compilation where layers and ranks allow it.
            weight_name: the file's name in the folder ``path``.
            fetching: what diffusers is told about fetching files (``local_files_only=True``); it has no effect.

        Raises:
            UserError: no such file, or one that is not for these networks; a hub's name, since nothing is downloaded.
        """
        if unknown := sorted(without_fetching(fetching)):
            raise UserError(f"load_lora_weights has no argument {unknown[0]!r}; it takes: adapter_name, weight_name")
        load_file(self._networks(), path, adapter_name, weight_name)

    def load_attn_procs(self, path: str | Path, *, weight_name: str | None = None) -> None:
        """`load_lora_weights`, by the name that older scripts call on ``pipe.unet``."""
        self.load_lora_weights(path, weight_name=weight_name)

    def save_lora_weights(
        self, folder: str | Path, adapter_name: str | None = None, *, weight_name: str = lora_files.NAME
    ) -> None:
        """Writes a LoRA of both networks as ``folder``/``weight_name``, as diffusers' training script ends.

        Where diffusers is handed the numbers, here it is said which of the loaded ones (None: the only one). Raises
        UserError: none is loaded, or several and no name is given; a file that cannot be written.
        """
        save_file(self._networks(), Path(folder, weight_name), adapter_name)

    def get_list_adapters(self) -> dict[str, list[str]]:
        """The names of the loaded LoRAs by the network that they are in, "unet" or "text_encoder"."""
        return {network: list(adapters.names) for network, adapters in self.adapters.items()}

    def get_active_adapters(self) -> list[str]:
        """The names of those with a scale that is not 0."""
        scales = [adapters.scales for adapters in self.adapters.values()]
        return [name for name in self.get_list_adapters_names() if any(of.get(name) for of in scales)]

    def get_list_adapters_names(self) -> list[str]:
        """The names of the loaded LoRAs, in the order in which they came."""
        return list(dict.fromkeys(name for adapters in self.adapters.values() for name in adapters.names))

    def set_adapters(
        self,
        adapter_names: str | Sequence[str],
        adapter_weights: float | Mapping[str, float] | Sequence[float | Mapping[str, float] | None] | None = None,
    ) -> None:
        """These act, each with its weight (1 where none is given), and the others do not.

        Args:
            adapter_names: one name or more.
            adapter_weights: one for all of them, or one for each: a number, None, or by the network,
                ``{"unet": 0.5, "text_encoder": 1.0}``.

        Raises:
            UserError: a name that is not loaded, another number of weights than of names, a weight that is none.
        """
        names = self._loaded(adapter_names)
        given = adapter_weights
        weights = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] * len(names)
        if len(weights) != len(names):
            raise UserError(f"adapter_weights has {len(weights)} numbers for {len(names)} adapters")
        scales = {
            network: {name: _weight_in(network, name, weight) for name, weight in zip(names, weights, strict=True)}
            for network in NETWORKS
        }
        for network, adapters in self.adapters.items():
            own = [name for name in names if name in adapters.names]
            adapters.set_adapters(own, [scales[network][name] for name in own])

    def _loaded(self, given: str | Sequence[str]) -> list[str]:
        """One name or several, as a list. Raises UserError for one that is not loaded."""
        names = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        known = self.get_list_adapters_names()
        for name in names:
            if name not in known:
                raise UserError(f"no LoRA is called {quoted(name)}; loaded: {', '.join(known) or 'none'}")
        return names

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Takes these LoRAs away, and leaves the others. Raises UserError for a name that is not loaded."""
        for name in self._loaded(adapter_names):
            for adapters in self.adapters.values():
                if name in adapters.names:
                    adapters.unload(name)

    def enable_lora(self) -> None:
        """The LoRAs act again, with the scales that they have. Raises UserError where they are fused."""
        for adapters in self.adapters.values():
            adapters.enable()

    def disable_lora(self) -> None:
        """The networks without their LoRAs, bit for bit, until `enable_lora`. Raises UserError where they are fused."""
        for adapters in self.adapters.values():
            adapters.enable(False)

    @contextmanager
    def loras_at(self, share: float) -> Iterator[None]:
        """Inside the ``with`` block the LoRAs act by ``share`` of their scales, which stay as they are set.

        Raises UserError where ``share`` is no finite number, and where they are fused.
        """
        checked_scale("all", share)
        with ExitStack() as inside:
            for adapters in self.adapters.values():
                inside.enter_context(adapters.at_share(share))
            yield

    def fuse_lora(
        self,
        lora_scale: float = 1.0,
        *,
        components: Sequence[str] = NETWORKS,
        safe_fusing: bool = False,
        adapter_names: Sequence[str] | None = None,
    ) -> None:
        """Adds what is loaded, as it is weighed and times ``lora_scale``, to the networks' weights: faster to draw.

        Args:
            lora_scale: any finite number.
            components: the networks, of "unet" and "text_encoder".
            safe_fusing: without effect, since numbers are looked at when they are loaded.
            adapter_names: None; `set_adapters` says which of them act, and are fused.

        Raises:
            UserError: a network that is none of these, a scale that is none, and where they are fused or off.
        """
        if adapter_names is not None:
            raise UserError("adapter_names is not None; call set_adapters with them, which says what is fused")
        for adapters in self._of_components(components):
            adapters.fuse(lora_scale)

    def unfuse_lora(self, components: Sequence[str] = NETWORKS) -> None:
        """The networks' weights as they were, bit for bit; the LoRAs act beside them again.

        Raises UserError for a network that is none of "unet" and "text_encoder".
        """
        for adapters in self._of_components(components):
            adapters.unfuse()

    def _of_components(self, components: Sequence[str]) -> list[Adapters]:
        for name in components:
            if name not in NETWORKS:
                raise UserError(f"components has {quoted(name)}, expected some of: {', '.join(NETWORKS)}")
        return [adapters for name, adapters in self.adapters.items() if name in components]

    def unload_lora_weights(self) -> None:
        """Takes all LoRAs away: the networks are as they were, bit for bit."""
        for adapters in self.adapters.values():
            adapters.unload()


def _weight_in(network: str, name: str, weight: Any) -> float:
    """What ``weight``, of the adapter ``name``, says of ``network``; None is 1. Raises UserError for no number."""
    if isinstance(weight, Mapping):
        if unknown := [key for key in weight if key not in NETWORKS]:
            raise UserError(
                f"the weights of adapter {quoted(name)} have {quoted(unknown[0])}, expected: {', '.join(NETWORKS)}"
            )
        weight = weight.get(network)
    scale = 1.0 if weight is None else weight
    checked_scale(name, scale)
    return scale
