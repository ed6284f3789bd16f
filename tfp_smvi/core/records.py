"""Frozen dataclasses that are written as JSON and read back: settings and results."""

import contextlib
import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Literal, Self

from tfp_smvi.core.errors import SMVIError, brief
from tfp_smvi.core.text import parse_real

__all__ = ["JSONObject", "Record", "decode", "encode", "flatten", "type_hints"]

JSONObject = dict[str, Any]


class Record:
    """A frozen dataclass that goes to and from a JSON object with the names of its fields.

    JSON has no number for NaN and infinity: NaN is written as null, infinities as "inf" and "-inf".
    """

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values."""
        return {f.name: encode(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    def __getitem__(self, name: str) -> Any:
        """Returns a field, so that a record reads like its JSON: record["test"]["elbo"].

        Raises:
            KeyError: there is no such field.
        """
        if any(f.name == name for f in fields(self)):  # type: ignore[arg-type]
            return getattr(self, name)
        raise KeyError(name)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Builds a record from a JSON object, in which other fields are ignored.

        Raises:
            SMVIError: a field is missing, or its value has another type.
        """
        if not isinstance(values, Mapping):
            raise SMVIError(f"{brief(values)} is not a JSON object")
        hints, arguments = type_hints(cls), {}
        for f in fields(cls):  # type: ignore[arg-type]
            if f.name in values:
                arguments[f.name] = decode(f.name, values[f.name], hints[f.name], nan=True)
            elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise SMVIError("is missing", field=f.name)
        return cls(**arguments)


def type_hints(kind: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields by name."""
    return _type_hints(kind)


# To read them takes as long as to check the values: a report of a sweep did so 40,000 times.
_type_hints = functools.cache(typing.get_type_hints)


def flatten(values: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yields the leaves of nested JSON objects by names such as "train.model.latent_dim"."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flatten(value, f"{name}.{key}" if name else key)
    else:
        yield name, values


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
        nan: whether null means an unknown number.

    Raises:
        SMVIError: the value is not of that type.
    """
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # only "T | None" occurs
        if value is None:
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if hint is float and value is None and nan:
        return math.nan
    ok, decoded = _decode_items(name, value, hint, nan)
    if not ok:
        ok, decoded = _convert(value, hint, nan)
    if not ok:
        literal = typing.get_origin(hint) is Literal
        kind = _KINDS.get(typing.get_origin(hint) or hint, "an object")
        allowed = f"one of {', '.join(typing.get_args(hint))}" if literal else kind
        raise SMVIError("is not allowed", field=name, value=value, remedy=f"give {allowed}")
    return decoded


def _decode_items(name: str, value: Any, hint: Any, nan: bool) -> tuple[bool, Any]:
    """Whether a value is a list or an object as its type hint says, and the value as that type."""
    origin, kinds = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list | tuple):
        return True, tuple(decode(name, item, kinds[0], nan=nan) for item in value)
    if isinstance(value, Mapping):
        if origin in (dict, Mapping):
            items = value.items()
            return True, {str(key): decode(str(key), v, kinds[1], nan=nan) for key, v in items}
        if dataclasses.is_dataclass(hint):
            return True, typing.cast(Any, hint).from_json(value)
    return hint in (Any, object), value


def _convert(value: Any, hint: Any, written: bool) -> tuple[bool, Any]:
    """Whether a value can be had as a plain type, and the value as that type.

    Whole numbers of a written result have 64 bits, as in NumPy; settings have their own ranges.
    """
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint), value
    if hint is float and not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return True, parse_real(value) if isinstance(value, str) else float(value)
    if hint is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return not written or -(2**63) <= int(value) < 2**63, int(value)
    if hint in (str, bool):
        return isinstance(value, hint), value
    return dataclasses.is_dataclass(hint) and isinstance(value, typing.cast(Any, hint)), value
