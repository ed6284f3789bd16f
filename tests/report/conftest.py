"""What the tests of reports share."""

import pytest

from tfp_smvi.report import figures


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the page without figures, for what does not depend on them."""
    monkeypatch.setattr(figures, "draw_all", lambda sweep, layout: {})
