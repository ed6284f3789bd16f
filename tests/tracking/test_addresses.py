"""The texts of trackers."""

import pytest

from tfp_smvi.tracking.addresses import Address, read_address, without_password


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("wandb", Address("wandb")),
        ("mlflow:http://127.0.0.1:5000", Address("mlflow", "http://127.0.0.1:5000")),
        ("mlflow:sqlite:////tmp/mlflow.db", Address("mlflow", "sqlite:////tmp/mlflow.db")),
        ("mlflow:./mlruns", Address("mlflow", "./mlruns")),
        ("mlflow:databricks", Address("mlflow", "databricks")),
    ],
)
def test_a_text_names_a_service_and_a_place(text: str, address: Address) -> None:
    assert read_address(text) == address


def test_mlflow_alone_is_the_server_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert read_address("mlflow") == Address("mlflow", "http://127.0.0.1:5000")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mlflow:http://me:secret@host:1/path", "mlflow:http://host:1/path"),
        ("https://token@host", "https://host"),
        ("http://host/a@b", "http://host/a@b"),
        (
            "mlflow:sqlite:////folder/me@home/mlflow.db",
            "mlflow:sqlite:////folder/me@home/mlflow.db",
        ),
    ],
)
def test_a_password_is_left_out(text: str, shown: str) -> None:
    assert without_password(text) == shown
