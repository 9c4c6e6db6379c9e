"""Configurations that are read by name or by attribute, as diffusers' are, and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn


class FrozenConfig(dict):
    """A configuration that can be read as a dict or by attribute, and not changed.

    ``unchosen`` are the keys whose values are a class's defaults and nobody's wish. Files do not know them; another
    class that is made from this configuration puts its own defaults in their place, as in diffusers.
    """

    def __init__(self, values: Mapping[str, Any], unchosen: Iterable[str] = ()):
        super().__init__(values)
        self.__dict__["unchosen"] = frozenset(unchosen)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the config has no {name!r}; it has: {', '.join(self)}") from None

    def __reduce__(self) -> tuple:
        return type(self), (dict(self), self.unchosen)  # copies go around the methods below

    def _refuse(self, *args, **kwargs) -> NoReturn:
        raise TypeError("a config cannot be changed; make another with from_config({**config, name: value})")

    __setattr__ = __setitem__ = __delitem__ = __delattr__ = _refuse
    update = setdefault = pop = popitem = clear = __ior__ = _refuse
