"""What a test asserts of an error: the field at fault and its value, not the wording."""

import contextlib
from collections.abc import Iterator

import pytest

from tfp_smvi.core.errors import SMVIError

__all__ = ["refused"]

_ANY = object()


@contextlib.contextmanager
def refused(field: str | None, value: object = _ANY) -> Iterator[pytest.ExceptionInfo[SMVIError]]:
    """Asserts that the block raises an SMVIError with this field, and this value if given."""
    with pytest.raises(SMVIError) as caught:
        yield caught
    assert caught.value.field == field
    if value is not _ANY:
        assert caught.value.value == value
