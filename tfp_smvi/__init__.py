"""Score-matching variational inference on TensorFlow Probability.

The public names are in __init__.pyi. Each is imported from its module when it is first used, so
that `import tfp_smvi` costs no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
