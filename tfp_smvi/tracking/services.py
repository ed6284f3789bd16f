"""The tracking services by their names."""

from tfp_smvi.tracking.addresses import MLFLOW, WANDB, read_address
from tfp_smvi.tracking.base import Service

__all__ = ["make_service"]


def make_service(text: str) -> Service:
    """Makes the service of a text such as "mlflow:http://127.0.0.1:5000"; sends nothing yet.

    Raises:
        SMVIError: it is no tracker, or its package is not installed.
    """
    address = read_address(text)
    if address.service == MLFLOW:
        from tfp_smvi.tracking.mlflow import MLflow

        assert address.uri is not None
        return MLflow(address.uri)
    assert address.service == WANDB
    from tfp_smvi.tracking.wandb import WandB

    return WandB()
