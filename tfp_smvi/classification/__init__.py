"""How well a classifier with few labels does on a model's features."""

import lazy_loader

# The stub __init__.pyi has the public names: importing this package costs no TensorFlow.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
