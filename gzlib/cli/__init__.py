"""The command line: commands that make surveys and runs (``train``), and commands for what is made (``tools``)."""

from gzlib.__main__ import main

__all__ = ["main"]
