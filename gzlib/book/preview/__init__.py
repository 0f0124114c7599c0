"""The book through pandoc, where Quarto cannot be installed: the same notebooks, the same configuration."""

from gzlib.book.preview.book import preview

__all__ = ["preview"]
