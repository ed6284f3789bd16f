"""The parts of the configuration's dataclasses: fields with help, and validation."""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Self

from tfp_smvi.core.errors import SMVIError, brief
from tfp_smvi.core.records import JSONObject, Record, decode, encode, type_hints

__all__ = ["Settings", "encode", "option", "require", "require_seed", "require_whole"]


def option(default: Any, text: str, *, later: bool = False) -> Any:
    """A field with its default and its help text.

    Args:
        default: the value if none is given.
        text: the help.
        later: whether version 0.1 does not have the field. It is written only if it is not the
            default, so that a run that does without it has the files and keys that it always had.
    """
    return field(default=default, metadata={"help": text, "later": later})


class Settings(Record):
    """A record that a user writes: its values are validated, and unknown fields are refused."""

    def __post_init__(self) -> None:
        """Gives every field its declared type: 1 and 1.0, or a list and a tuple, are equal."""
        hints = type_hints(type(self))
        for f in fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, f.name, decode(f.name, getattr(self, f.name), hints[f.name]))
        self._check()

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values, without later ones at their defaults."""
        names = [
            f.name
            for f in fields(self)  # type: ignore[arg-type]
            if not f.metadata.get("later") or getattr(self, f.name) != f.default
        ]
        return {name: encode(getattr(self, name)) for name in names}

    def all_values(self) -> JSONObject:
        """Returns all fields as JSON values, also those that `to_json` leaves out."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {
            name: value.all_values() if isinstance(value, Settings) else encode(value)
            for name, value in values.items()
        }

    def _check(self) -> None:
        """Raises SMVIError for a value out of its range."""

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Builds and validates a configuration from the fields of a JSON object.

        Raises:
            SMVIError: an unknown field, a value of the wrong type or out of its range.
        """
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        choices = ", ".join(names)
        if not isinstance(values, Mapping):
            raise SMVIError(
                f"{brief(values)} is not allowed", remedy=f"give an object with: {choices}"
            )
        for name in values:
            if name not in names:
                sections = _sections_with(cls, name)
                hint = "".join(f"; {name!r} goes in {section!r}" for section in sections)
                problem = f"unknown configuration field {brief(name)}"
                raise SMVIError(problem, remedy=f"give one of: {choices}{hint}")
        return cls(**values)


def _sections_with(kind: type[Settings], name: str) -> list[str]:
    """The fields of settings that are settings themselves and have a field of this name."""
    hints = type_hints(kind)
    return [
        section for section in hints if name in getattr(hints[section], "__dataclass_fields__", ())
    ]


def require(name: str, value: object, ok: bool, allowed: str) -> None:
    """Raises an SMVIError that says what is allowed unless a field's value is ok."""
    if not ok:
        raise SMVIError("is not allowed", field=name, value=value, remedy=f"give {allowed}")


def require_whole(name: str, value: int, least: int) -> None:
    """Raises an SMVIError unless a field's value is a whole number of at least `least`."""
    # TensorFlow counts some of them in 32 bits.
    require(name, value, least <= value < 2**31, f"a whole number from {least} to {2**31 - 1}")


def require_seed(value: int) -> None:
    """Raises an SMVIError unless the value of the field `seed` has at most 63 bits."""
    require("seed", value, -(2**63) <= value < 2**63, "a whole number of at most 63 bits")
