"""How text reads on a terminal, and how numbers are read."""

import math

import pytest

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.text import is_whole, parse_real, printable


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


def test_infinity_has_a_name() -> None:
    """A number of 5000 digits for lam would otherwise train on the divergence alone."""
    assert [parse_real(text) for text in ("inf", "-Infinity", " +inf ")] == [
        math.inf,
        -math.inf,
        math.inf,
    ]
    assert parse_real("1e308") == 1e308
    for text in ("9" * 5000, "-1e999", "many"):
        with pytest.raises(ValueError, match=r"\S"):
            parse_real(text)


def test_whole_numbers_are_read_only_as_far_as_they_are_used() -> None:
    assert [text for text in ("0", "12", "-1", "1.0", "9" * 5000, "") if is_whole(text)] == [
        "0",
        "12",
    ]
