"""What the values of a configuration may be: one function per kind, from YAML or a flag to the value, or ValueError."""

from __future__ import annotations

from typing import Any

from . import colours

MAX_NUMBER = 3.4e38  # of float32, in which everything is computed


def _number(value: Any, kind: type) -> Any:
    """``value`` as int or float; strings too (YAML reads 1e-4 as one)."""
    if isinstance(value, bool):
        raise ValueError
    if not isinstance(value, (int, float, str)):
        raise ValueError
    if kind is float:
        number = float(value)
        if not abs(number) <= MAX_NUMBER:
            raise ValueError
        return number
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    number = int(value)  # a text not through float, which rounds above 2^53
    if abs(number) >= 2**63:
        raise ValueError
    return number


def _boolean(value: Any) -> bool:
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if isinstance(value, bool):
        return value
    raise ValueError


def _string(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def _name(value: Any) -> str:
    if not _string(value).strip():
        raise ValueError
    return value


def _colour(value: Any) -> str:
    colours.parse(_string(value))
    return value.strip()


def _list_of(read):
    def read_list(value: Any) -> list:
        if isinstance(value, str):
            value = [part for part in value.replace(",", " ").split() if part]
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError
        return [read(item) for item in value]

    return read_list


def _int(value: Any) -> int:
    return _number(value, int)


def _float(value: Any) -> float:
    return _number(value, float)


def _size(value: Any) -> int | list[int]:
    sides = _list_of(_int)(value if isinstance(value, (list, tuple, str)) else [value])
    if len(sides) > 2:
        raise ValueError
    return sides[0] if len(sides) == 1 else sides


def _int_or_ints(value: Any) -> int | list[int]:
    values = _list_of(_int)(value if isinstance(value, (list, tuple, str)) else [value])
    return values[0] if len(values) == 1 else values


def _mapping(value: Any) -> dict[str, float]:
    if isinstance(value, list):
        pairs = [_string(part).split("=", 1) for part in value]
        value = dict(pairs)
        if len(value) < len(pairs):
            raise ValueError
    if not isinstance(value, dict):
        raise ValueError
    return {_string(key): _float(number) for key, number in value.items()}


READERS = {
    "int": (_int, "an integer below 2^63"),
    "float": (_float, "a number that float32 can hold"),
    "str": (_string, "a text"),
    "name": (_name, "a text that is not empty"),
    "colour": (_colour, colours.EXPECTED),
    "bool": (_boolean, "true or false"),
    "names": (_list_of(_name), "one name or more"),
    "ints": (_list_of(_int), "a list of integers"),
    "floats": (_list_of(_float), "a list of numbers"),
    "bools": (_list_of(_boolean), "a list of true/false"),
    "size": (_size, "an integer, or height and width"),
    "int_or_ints": (_int_or_ints, "an integer or a list of them"),
    "mapping": (_mapping, "name=value pairs with numbers"),
}
