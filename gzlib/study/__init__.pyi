"""What only this paper needs: the study's presets, its figures and tables, costs, and registered forecasts."""

from . import cost as cost  # what studies cost, from the stored benchmarks
from . import figures as figures  # charts
from . import forecasts as forecasts  # registered forecasts, the label planner
from . import results as results  # what the runs of a study say
from . import rules as rules  # the decision rules of the claims
from . import seen as seen  # a sentence for each figure, and the chart of the front page
from . import sheets as sheets  # figures made of galaxy images, and how real they are
from . import tables as tables  # tables as Markdown, and what the benchmarks measured
from .figures import label_words as label_words  # strangers' words for a figure
from .forecasts import judge_registered as judge_registered  # a stored forecast beside its outcome
from .forecasts import own_curve_panel as own_curve_panel  # a reader's own pasted curve, fitted on the page
from .forecasts import pilot_losses as pilot_losses  # the losses that a stored forecast was made from
from .forecasts import planner_panel as planner_panel  # the label planner as HTML
from .forecasts import register_forecast as register_forecast  # store a forecast before its runs
from .forecasts import register_plan as register_plan  # store forecasts of the missing runs of a plan
from .forecasts import run_outcome as run_outcome  # make the runs that a stored forecast is about
from .forecasts import stored_forecasts as stored_forecasts  # stored forecasts of a study beside their outcomes
from .presets import FINETUNING_STUDIES as FINETUNING_STUDIES  # finetuning comparisons by preset
from .presets import PRETRAINING as PRETRAINING  # pretraining studies by preset
from .presets import finetuning_study as finetuning_study  # a preset's comparison, changed where something is given
from .presets import preset_jobs as preset_jobs  # all runs of a preset
from .presets import pretraining_study as pretraining_study  # a preset's study, changed where something is given
from .presets import study_recipe as study_recipe  # the recipe of the study's runs
from .results import StudyRuns as StudyRuns  # the pretraining runs of a study as labelled arrays
from .rules import Claims as Claims  # the rules of the claims, applied to runs
from .sheets import example_catalogue as example_catalogue  # the committed catalogue of simulated galaxies
from .tables import in_words as in_words  # what a count says
from .tables import markdown_table as markdown_table  # a table whose words are shown as they are
from .tables import note_table as note_table  # a sentence in place of a table
from .tables import share as share  # how many are true: "8 of 20"
from .tables import words as words  # strangers' words for prose
