"""The book through pandoc, where Quarto cannot be installed: the same notebooks, the same configuration."""

from .pages import preview as preview  # a folder of pages that opens without a server
