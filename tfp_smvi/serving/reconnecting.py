"""The connection of another process to the same served encoder."""

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.records import JSONObject
from tfp_smvi.serving.client import connect
from tfp_smvi.serving.served import ServedEncoder

__all__ = ["reconnect"]


def reconnect(endpoint: str, version: int, config: JSONObject) -> ServedEncoder:
    """Connects to a served encoder: the function of its recipe.

    Args:
        endpoint: as in `connect`.
        version: the version.
        config: the JSON of a `FeaturesConfig`.

    Raises:
        SMVIError: as `connect`.
    """
    return connect(endpoint, FeaturesConfig.from_json(config), version)
