"""Frozen dataclasses that are written as JSON and read back: settings and results."""

import contextlib
import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, Self

from tfp_smvi.core.errors import SMVIError

__all__ = ["JSONObject", "Record", "decode", "encode", "type_hints"]

JSONObject = dict[str, Any]


class Record:
    """A frozen dataclass that goes to and from a JSON object with the names of its fields.

    JSON has no number for NaN and infinity: NaN is written as null, infinities as "inf" and "-inf".
    """

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values."""
        return {f.name: encode(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Builds a record from a JSON object, in which other fields are ignored.

        Raises:
            SMVIError: a field is missing, or its value has another type.
        """
        if not isinstance(values, Mapping):
            raise SMVIError(f"{values!r} is not a JSON object")
        hints, found = type_hints(cls), {}
        for f in fields(cls):  # type: ignore[arg-type]
            if f.name in values:
                found[f.name] = decode(f.name, values[f.name], hints[f.name], nan=True)
            elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise SMVIError("is missing", field=f.name)
        return cls(**found)


def type_hints(kind: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields by name."""
    return typing.get_type_hints(kind)


def encode(value: Any) -> Any:
    """Returns a value of a field as JSON values."""
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    return [encode(item) for item in value] if isinstance(value, tuple | list) else value


_KINDS: Mapping[Any, str] = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    tuple: "a list of numbers",
}


def decode(name: str, value: Any, hint: Any, *, nan: bool = False) -> Any:
    """Turns one value, from JSON or from a caller, into what its type hint says.

    Args:
        name: the field, for the error.
        value: the value.
        hint: the type hint.
        nan: whether null stands for a number that is not known.

    Raises:
        SMVIError: the value is not of that type.
    """
    if hint is Any:
        return value
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # only "T | None" occurs
        if value is None:
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list | tuple):
        item = typing.get_args(hint)[0]
        return tuple(decode(name, each, item, nan=nan) for each in value)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        item = typing.get_args(hint)[1]
        return {str(key): decode(str(key), each, item, nan=nan) for key, each in value.items()}
    if hint is float and value is None and nan:
        return math.nan
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return typing.cast(Any, hint).from_json(value)
    ok, value = _convert(value, hint)
    if not ok:
        kind = _KINDS.get(origin or hint, "an object")
        allowed = f"one of {', '.join(typing.get_args(hint))}" if origin is Literal else kind
        raise SMVIError("is not allowed", field=name, value=value, remedy=f"give {allowed}")
    return value


def _convert(value: Any, hint: Any) -> tuple[bool, Any]:
    """Whether a value can be had as a plain type, and the value as that type."""
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint), value
    if hint is float and not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return True, float(value)
    if hint is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return True, int(value)
    if hint in (str, bool):
        return isinstance(value, hint), value
    return dataclasses.is_dataclass(hint) and isinstance(value, typing.cast(Any, hint)), value
