"""How text reads on a terminal."""

import pytest

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\x7f\x9b1m", r"a\rb\x7f\x9b1m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b\udcff", r"a\u2028b\udcff"),
        ("Größe 数\u3000é\n\tlog", "Größe 数\u3000é\n\tlog"),
    ],
    ids=["escapes", "controls", "direction", "line end and surrogate", "letters"],
)
def test_what_controls_a_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    """And what people write is not."""
    assert printable(text) == shown
    assert printable(shown) == shown
    assert shown in str(SMVIError(f"{text} is wrong"))


def test_the_reason_of_a_server_is_printable() -> None:
    assert plain_reason(OSError(5, "gone \x1b[2J")) == r"gone \x1b[2J"
