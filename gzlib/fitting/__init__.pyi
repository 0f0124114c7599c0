"""Scaling-law analysis: laws, fits, intervals, forecasts and plans; xarray in, xarray out, lmfit underneath."""

from .answers import Fit as Fit  # a law with its data, weights, intervals and figure
from .answers import compare as compare  # which law describes curves of any kind
from .answers import fit as fit  # a law to curves of any kind: a file, a table, arrays
from .answers import forecast as forecast  # loss at larger sizes, with a calibrated band
from .answers import load_fit as load_fit  # a fit that was saved
from .answers import plan as plan  # labels that reach a target, and whether they ever will
from .claims import Curves as Curves  # curves of one encoder, and laws fitted to their runs
from .claims import encoder_effect as encoder_effect  # does size help, with encoders as units
from .claims import false_discovery as false_discovery  # p-values adjusted for a rate of false discoveries
from .claims import holm as holm  # p-values adjusted for the number of tests
from .claims import random_effects as random_effects  # one mean for estimates that differ
from .claims import size_verdict as size_verdict  # what the effect of size says of each question
from .claims import slope_test as slope_test  # does the loss fall with a size
from .comparison import CHOICES as CHOICES  # what the sensitivity atlas varies
from .comparison import choice_ranges as choice_ranges  # how an answer moves with each choice of the atlas
from .comparison import compare_laws as compare_laws  # information criteria of several laws
from .comparison import information as information  # AICc and BIC of a fit
from .comparison import nested_test as nested_test  # p-value of the smaller of two nested laws
from .comparison import posterior as posterior  # posterior draws of one curve's law
from .comparison import sensitivity as sensitivity  # one curve fitted in every defensible way
from .comparison import shared_exponent as shared_exponent  # one exponent for all curves, or one each
from .curves import describe_design as describe_design  # what a design can identify, before any fit
from .curves import judge_design as judge_design  # the verdict on one design
from .curves import learning_curve as learning_curve  # run a pilot of a model on growing parts of the data
from .curves import recency_weights as recency_weights  # weights that fade away from the largest size
from .curves import run_weights as run_weights  # weights from seed noise
from .curves import summarise_replicates as summarise_replicates  # mean and pooled spread over seeds
from .curves import to_array as to_array  # curves from a file as a labelled array
from .fits import fit_curves as fit_curves  # a law to every curve of a labelled array
from .fits import fit_law as fit_law  # one law to one curve, through lmfit
from .forecasting import extrapolate as extrapolate  # forecast related curves together
from .intervals import predict as predict  # loss of a fitted law at new sizes, with a band
from .laws import LAWS as LAWS  # the laws that have a name
from .laws import Law as Law  # a scaling law
from .laws import Parameter as Parameter  # bounds, unit and meaning of one parameter
from .laws import get_law as get_law  # the law of a name
from .planner import compare_options as compare_options  # cost of reaching a target with each option
from .planner import judge_forecast as judge_forecast  # a stored forecast beside what was measured
from .planner import labels_needed as labels_needed  # training size that reaches a target loss
from .planner import load_forecast as load_forecast  # a stored forecast
from .planner import next_run as next_run  # which run narrows a forecast most
from .planner import planning_grid as planning_grid  # sizes at which a plan looks at its forecast
from .planner import store_forecast as store_forecast  # store a forecast before the outcome exists
from .reading import read_curves as read_curves  # learning curves from a file or table
from .report import sentences as sentences  # what a fit, forecast, plan or comparison says
from .surfaces import compute_frontier as compute_frontier  # best split of a compute budget
from .surfaces import fit_surface as fit_surface  # a law of model and training size
from .surfaces import predict_surface as predict_surface  # loss of a fitted surface
from .surfaces import surface as surface  # a law of several sizes to runs of any kind
