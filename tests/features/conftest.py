"""An export, and what encodes by it."""

from pathlib import Path

import pytest

from tests.support.servers import make_export
from tfp_smvi.serving.encoders import LocalEncoder


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_export(tmp_path_factory.mktemp("export") / "digits" / "1").parent


@pytest.fixture(scope="module")
def encoder(export: Path) -> LocalEncoder:
    return LocalEncoder(export)
