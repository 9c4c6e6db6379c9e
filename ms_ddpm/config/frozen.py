"""Configurations that are read by name or by attribute, as diffusers' are, and never changed."""

from __future__ import annotations

from typing import Any, NoReturn


class FrozenConfig(dict):
    """A configuration that can be read as a dict or by attribute, and not changed."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the config has no {name!r}; it has: {', '.join(self)}") from None

    def __reduce__(self) -> tuple:
        return type(self), (dict(self),)  # copies go around the methods below

    def _refuse(self, *args, **kwargs) -> NoReturn:
        raise TypeError("a config cannot be changed; make another with from_config({**config, name: value})")

    __setattr__ = __setitem__ = __delitem__ = __delattr__ = _refuse
    update = setdefault = pop = popitem = clear = __ior__ = _refuse
