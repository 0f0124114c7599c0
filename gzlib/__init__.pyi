"""The public page: what a user's notebook imports; each name is loaded when it is first used."""

from . import data as data  # decision trees, sources, curation
from . import fitting as fitting  # laws, fits, forecasts
from . import models as models  # encoders, heads, weights
from . import sky as sky  # the simulated sky
from . import training as training  # runs, store, sweeps
from .config import FINETUNING as FINETUNING  # recipe of full finetuning
from .config import Augment as Augment  # what a training view may do to an image
from .config import Conduct as Conduct  # how runs are carried out: device, checkpoints, reports
from .config import FinetuneConfig as FinetuneConfig  # one downstream run
from .config import Objective as Objective  # what pretraining minimises
from .config import PretrainConfig as PretrainConfig  # one pretraining run
from .config import Recipe as Recipe  # how the optimizer is driven
from .config import SurveySpec as SurveySpec  # all that a curated survey depends on
from .config import study_recipe as study_recipe  # recipe of pretraining, by encoder and training galaxies
from .data import curate as curate  # a source of galaxies becomes a curated survey
from .data import load_schema as load_schema  # a decision tree by name or file
from .data import make_survey as make_survey  # the folder of the survey that a SurveySpec describes
from .data import open_source as open_source  # where galaxies come from, by one text
from .data import open_survey as open_survey  # a curated survey as an xarray.Dataset
from .data import register_source as register_source  # make a kind of source known
from .errors import UserError as UserError  # what bad input raises
from .fitting import compare as compare  # which law describes the curves
from .fitting import compare_options as compare_options  # cost of reaching a target with each option
from .fitting import fit as fit  # a law to learning curves of any kind
from .fitting import fit_curves as fit_curves  # a law to every curve of a labelled array
from .fitting import fit_surface as fit_surface  # a law of model and training size
from .fitting import forecast as forecast  # loss at larger sizes, with a calibrated band
from .fitting import labels_needed as labels_needed  # training size that reaches a target loss
from .fitting import learning_curve as learning_curve  # run a pilot of a model on growing parts of the data
from .fitting import load_fit as load_fit  # a fit that was saved
from .fitting import plan as plan  # labels that reach a target, and whether they ever will
from .fitting import predict as predict  # loss of a fitted law at new sizes
from .fitting import read_curves as read_curves  # learning curves from a file or table
from .fitting import sentences as sentences  # what a fit, forecast, plan or comparison says
from .fitting import surface as surface  # a law of model and training size to runs of any kind
from .fitting import to_array as to_array  # those curves as a labelled array
from .models import build_encoder as build_encoder  # an encoder with random weights
from .models import load_encoder as load_encoder  # an encoder with the weights asked for
from .sky import simulate as simulate  # simulated galaxies of a campaign
from .trace import publish as publish  # in a chapter: make a number available to the prose
from .training import key_of as key_of  # key of the run that a configuration makes
from .training import load_model as load_model  # a saved model: images in, predictions out
from .training import load_runs as load_runs  # metrics of runs as labelled arrays
from .training import per_galaxy as per_galaxy  # a run's loss or outcome for each test galaxy
from .training import read_run as read_run  # the record of a finished run
from .training import rerun as rerun  # make a recorded run again
from .training import run as run  # one run, read or made
from .training import save_run as save_run  # a finished run as a model's folder
from .training import sweep as sweep  # many runs, those that are missing made

__version__: str
