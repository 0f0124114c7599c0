"""Encoders, heads and starting weights.

The public names, one line each, stand in ``__init__.pyi``; each is loaded when it is first used.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
