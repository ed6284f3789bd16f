"""A real MLflow server for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.support.mlflow_server import Gate, Stored, mlflow_server
from tfp_smvi.tracking import sender


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the server."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as port:
        yield port


@pytest.fixture
def gate(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A closed gate before the server."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = Gate(server)
    yield found
    found.close()


@pytest.fixture(scope="session")
def stored(server: int) -> Stored:
    """What the server has."""
    return Stored(server)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets trackers wait for nothing."""
    monkeypatch.setattr(sender, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(sender, "RETRY_SECONDS", 0.2)
