"""How a task makes an object that cannot travel, such as a loaded model or an open file."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfp_smvi.core.records import Record

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe(Record):
    """A function that makes an object again, in this process or in another one.

    Attributes:
        function: "package.module:name" of a function(**arguments).
        arguments: JSON values.
    """

    function: str
    arguments: Mapping[str, object]

    def make(self) -> Any:
        """Calls the function."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(**self.arguments)
