"""The paper itself: executing stale chapters and turning them into pages."""

from .builder import build as build  # bring the chapters up to date, or run an experiment
from .builder import render as render  # the book through Quarto or the preview
from .builder import serve as serve  # a rendered book from a server on this machine
from .chapters import list_parameters as list_parameters  # the parameters of all chapters
from .html import preview as preview  # the book through pandoc
