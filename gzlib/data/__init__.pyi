"""Galaxies: decision trees, sources, curation, curated surveys, and batches of them."""

from .curation import curate as curate  # a source of galaxies becomes a curated survey
from .curation import existing_survey as existing_survey  # the folder of a survey that has been curated, or None
from .curation import make_survey as make_survey  # the folder of the survey that a SurveySpec describes
from .curation import survey_fingerprint as survey_fingerprint  # hash of what a survey holds
from .curation import training_galaxies as training_galaxies  # how many galaxies a survey has to train on
from .floor import attainable_loss as attainable_loss  # loss floor of a head with bounded concentrations
from .floor import irreducible_loss as irreducible_loss  # loss floor of a perfect predictor
from .floor import survey_floor as survey_floor  # that floor on a simulated survey's test galaxies
from .floor import vote_floor as vote_floor  # a floor estimated from vote counts alone
from .loader import Loader as Loader  # batches of augmented views, images on the device
from .loader import MappedLoader as MappedLoader  # the same batches, images on the disk
from .loader import open_loader as open_loader  # whichever of the two fits this machine
from .loader import random_view as random_view  # one random view of each image
from .schema import Question as Question  # one question of a decision tree
from .schema import Schema as Schema  # a decision tree, or the union of several
from .schema import available_schemas as available_schemas  # names of the trees that come with the package
from .schema import load_schema as load_schema  # a decision tree by name or file
from .schema import schema_from_records as schema_from_records  # a decision tree from plain records
from .sources import Batch as Batch  # a few hundred galaxies on their way into a survey
from .sources import Opener as Opener  # how a registered kind of source is opened
from .sources import Source as Source  # where the galaxies of a survey come from
from .sources import is_generated as is_generated  # whether a source makes its galaxies
from .sources import open_source as open_source  # where galaxies come from, by one text
from .sources import register_source as register_source  # make a kind of source known
from .sources.registry import hub_reachable as hub_reachable  # whether the Hugging Face hub answers
from .survey import describe_galaxies as describe_galaxies  # what a survey's galaxies are, in words
from .survey import labelled as labelled  # which galaxies have a label in a column
from .survey import open_survey as open_survey  # a curated survey as an xarray.Dataset
from .survey import open_truth as open_truth  # what simulated galaxies really are
from .survey import read_report as read_report  # a curated survey's survey.json
from .survey import training_subset as training_subset  # nested subsets of the training split
from .survey import verify_survey as verify_survey  # every byte of a curated survey against its checksums
