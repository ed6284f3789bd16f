"""Score-matching variational inference on TensorFlow Probability.

The public names are in __init__.pyi. Each is imported from its module when it is first used, so
that `import tfp_smvi` costs no TensorFlow.
"""

from typing import Any

import lazy_loader

from .core.startup import quiet_import

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Imports a public name, without TensorFlow's start-up chatter."""
    with quiet_import():
        return _load(name)
