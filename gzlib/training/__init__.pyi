"""Runs: pretraining, finetuning and probes, the store that keeps them, and sweeps."""

from .checkpoint import Stopped as Stopped  # raised after SIGTERM, when the state is safe
from .cluster import sweep_on as sweep_on  # a sweep on Dask workers
from .distributed import choose_device as choose_device  # a torch device by name
from .evaluation import evaluate as evaluate  # scores of a saved model on galaxies with labels
from .evaluation import worth_in_volunteers as worth_in_volunteers  # how many volunteers a model is worth
from .loop import NonFiniteLoss as NonFiniteLoss  # the loss became infinite or not a number
from .loss import VoteLoss as VoteLoss  # Dirichlet-multinomial loss of votes
from .predict import write_table as write_table  # predictions for every galaxy of a source, in a file
from .publish import export as export  # a saved model for timm or as ONNX
from .publish import push as push  # a saved model on the Hugging Face hub
from .publish import save_run as save_run  # a finished run as a model's folder
from .runs import key_of as key_of  # key of the run that a configuration makes
from .runs import record_words as record_words  # what came of a run, in one line
from .runs import release as release  # encoders of runs as files to share, with cards
from .runs import rerun as rerun  # make a recorded run again
from .runs import run as run  # one run, read or made
from .saved import SavedModel as SavedModel  # images in, predictions out
from .saved import load_model as load_model  # a saved model, from its folder
from .store import chosen_records as chosen_records  # finished runs with some settings
from .store import export_runs as export_runs  # runs as CSV or netCDF
from .store import find_key as find_key  # the one key that begins with a text
from .store import load_runs as load_runs  # metrics of runs as labelled arrays
from .store import per_galaxy as per_galaxy  # a run's loss or outcome for each test galaxy
from .store import read_run as read_run  # the record of a finished run
from .store import remove_runs as remove_runs  # delete runs of the user's store
from .store import run_key as run_key  # key from a configuration, a survey's fingerprint and weights
from .store import runs_listing as runs_listing  # a table of runs for reading
from .store import runs_table as runs_table  # one flat row a run
from .store import stored_records as stored_records  # every finished run of a store
from .store import unfinished_runs as unfinished_runs  # keys of runs that failed or were cut off
from .sweeps import Job as Job  # a configuration and its survey
from .sweeps import missing as missing  # jobs without a finished run
from .sweeps import plan_notes as plan_notes  # what a plan's runs keep in their provenance
from .sweeps import plan_summary as plan_summary  # those rows, put together where they are many
from .sweeps import plan_table as plan_table  # one row a job of a plan, with its state
from .sweeps import read_plan as read_plan  # the runs that a TOML file names
from .sweeps import sweep as sweep  # many runs, those that are missing made
