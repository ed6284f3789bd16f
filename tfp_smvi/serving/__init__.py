"""Exported models behind one interface, in this process or on a server."""

from tfp_smvi.serving.client import connect
from tfp_smvi.serving.encoders import LocalEncoder

__all__ = ["LocalEncoder", "connect"]
