"""`tfp-smvi datasets` as its users meet it."""

import pytest

from tests.support import golden
from tests.support.golden import GoldenCase


@pytest.mark.parametrize("case", golden.cases("datasets"))
def test_an_error_is_worded_as_in_the_golden_file(
    case: GoldenCase, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    golden.check(case, request, capsys)
