"""Trackers by their text: "mlflow", "mlflow:URI" or "wandb"."""

import importlib.util
import os
import re
from typing import NamedTuple

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.extras import of_extra

__all__ = [
    "MLFLOW",
    "TRACKER_TEXTS",
    "WANDB",
    "Address",
    "read_address",
    "require_package",
    "without_password",
]

MLFLOW, WANDB = "mlflow", "wandb"
TRACKER_TEXTS = "mlflow, mlflow:URI such as mlflow:http://127.0.0.1:5000, or wandb"
# MLflow takes an address, a database, a folder, or the name of a profile of Databricks.
_URI = re.compile(r"[a-zA-Z][\w+.-]*:/\S+|file:\S+|[./]\S*|databricks")
# Of "http://name:password@host".
_LOGIN = re.compile(r"(?<=:)//[^/@\s]*@")


class Address(NamedTuple):
    """Where a tracker is.

    Attributes:
        service: MLFLOW or WANDB.
        uri: of MLflow's server or store; None for the one of its own settings.
    """

    service: str
    uri: str | None = None


def read_address(text: str) -> Address:
    """Reads the text of a tracker.

    Raises:
        SMVIError: it is not one, or it names no server and MLFLOW_TRACKING_URI does not either.
    """
    service, colon, uri = text.partition(":")
    is_known = (service == MLFLOW and (_URI.fullmatch(uri) or not colon)) or text == WANDB
    if not is_known:
        raise SMVIError(
            "is not a tracker", field="track", value=text, remedy=f"give {TRACKER_TEXTS}"
        )
    if service == MLFLOW and not colon:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri:
            raise SMVIError(
                "names no server, and MLFLOW_TRACKING_URI is not set",
                field="track",
                value=text,
                remedy="give mlflow:URI such as mlflow:http://127.0.0.1:5000",
            )
    return Address(service, uri or None)


def require_package(address: Address) -> None:
    """Raises an SMVIError that says what to install, if the package of a tracker is missing."""
    with of_extra(address.service):  # the extra and the package have its name
        if importlib.util.find_spec(address.service) is None:
            raise ImportError(name=address.service)


def without_password(text: str) -> str:
    """A text, such as a tracker's, without the name and the password of the address in it."""
    return _LOGIN.sub("//", text)
