"""What the dataclasses of the configuration are made of: fields with help, validation, to and from JSON."""

import contextlib
import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Literal, Self

from tfp_smvi.core.errors import SMVIError

__all__ = ["Settings", "encode", "option", "require", "require_seed", "require_whole"]


def option(default: Any, text: str) -> Any:
    """A field with its default and its help text."""
    return field(default=default, metadata={"help": text})


class Settings:
    """To and from a JSON object; infinities travel as the string "inf", which every JSON reader takes."""

    def __post_init__(self) -> None:
        """Gives every field its declared type, so that 1 and 1.0 or a list and a tuple compare as equal."""
        hints = typing.get_type_hints(type(self))
        for f in fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, f.name, _decode(f.name, getattr(self, f.name), hints[f.name]))
        self._check()

    def _check(self) -> None:
        """Raises SMVIError for a value out of its range."""

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {f.name: encode(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Builds and validates a configuration from the fields of a JSON object.

        Raises:
            SMVIError: an unknown field, a value of the wrong type or out of its range.
        """
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        if not isinstance(values, Mapping):
            raise SMVIError(f"{values!r} is not allowed; give an object with: {', '.join(names)}.")
        for name in values:
            if name not in names:
                hint = "".join(
                    f" {name!r} belongs into {section!r}." for section in _sections_with(cls, name)
                )
                raise SMVIError(
                    f"unknown configuration field {name!r}; known are: {', '.join(names)}.{hint}"
                )
        return cls(**values)


def _sections_with(kind: type[Settings], name: str) -> list[str]:
    """The fields of settings that are settings themselves and have a field of this name."""
    hints = typing.get_type_hints(kind)
    return [
        section for section in hints if name in getattr(hints[section], "__dataclass_fields__", ())
    ]


def encode(value: Any) -> Any:
    """Returns a value of a field as JSON values."""
    if isinstance(value, Settings):
        return value.to_json()
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return [encode(item) for item in value] if isinstance(value, tuple) else value


_KINDS: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    tuple: "a list of numbers",
}


def _decode(name: str, value: Any, hint: Any) -> Any:
    """Turns one value, from JSON or from a caller, into what its type hint says."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # only "T | None" occurs
        if value is None:
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    origin, ok = typing.get_origin(hint), False
    if dataclasses.is_dataclass(hint):
        value = typing.cast(Any, hint).from_json(value) if isinstance(value, Mapping) else value
        ok = isinstance(value, typing.cast(Any, hint))
    elif origin is Literal:
        ok = value in typing.get_args(hint)
    elif origin is tuple and isinstance(value, list | tuple):
        value, ok = tuple(_decode(name, item, typing.get_args(hint)[0]) for item in value), True
    elif hint is float and not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            value, ok = float(value), True
    elif hint is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        value, ok = int(value), True
    elif hint is str:
        ok = isinstance(value, str)
    elif hint is bool:
        ok = isinstance(value, bool)
    if ok:
        return value
    kind = _KINDS.get(origin or hint, "an object of settings")
    allowed = f"one of {', '.join(typing.get_args(hint))}" if origin is Literal else kind
    raise SMVIError(f"{name} = {value!r} is not allowed; give {allowed}.")


def require(name: str, value: Any, ok: bool, allowed: str) -> None:
    """Raises an SMVIError that says what is allowed unless a field's value is ok."""
    if not ok:
        # A list looks as it does on the command line.
        shown = ",".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
        raise SMVIError(f"{name} = {shown} is not allowed; give {allowed}.")


def require_whole(name: str, value: int, least: int) -> None:
    """Raises an SMVIError unless a field's value is a whole number of at least `least`."""
    # TensorFlow counts some of them in 32 bits.
    require(name, value, least <= value < 2**31, f"a whole number from {least} to {2**31 - 1}")


def require_seed(value: int) -> None:
    """Raises an SMVIError unless the value of the field `seed` has at most 63 bits."""
    require("seed", value, -(2**63) <= value < 2**63, "a whole number of at most 63 bits")
