"""Scaling laws for galaxy images, as a paper you can run."""

__version__ = "0.1.0"
