"""Tables of notebooks."""

from xml.etree import ElementTree

from tfp_smvi.core.html import html_table


def test_a_table_is_well_formed_and_escapes_what_it_is_given() -> None:
    """Every row has as many columns as the header."""
    table = html_table(["a & b", "c", "d"], [["<x>", "1", "2"], ["y", "3"]], ["1 < 2"])
    page = ElementTree.fromstring(f"<div>{table}</div>")
    rows = [[(cell.text, int(cell.get("colspan", "1"))) for cell in row] for row in page.iter("tr")]
    assert rows == [
        [("a & b", 1), ("c", 1), ("d", 1)],
        [("<x>", 1), ("1", 1), ("2", 1)],
        [("y", 1), ("3", 2)],
    ]
    assert [p.text for p in page.iter("p")] == ["1 < 2"]
