"""Where galaxies come from: a registry of kinds of sources, and readers of tables."""

from .base import Batch as Batch  # a few hundred galaxies on their way into a survey
from .base import Source as Source  # where the galaxies of a survey come from
from .registry import Opener as Opener  # how a registered kind of source is opened
from .registry import find_path as find_path  # the file or folder that a source names
from .registry import input_signature as input_signature  # whether a source's files are still the same
from .registry import is_generated as is_generated  # whether a source makes its galaxies
from .registry import open_source as open_source  # where galaxies come from, by one text
from .registry import register_source as register_source  # make a kind of source known
from .registry import split_text as split_text  # the single sources of a comma-joined text
