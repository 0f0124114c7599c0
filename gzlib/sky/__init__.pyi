"""The simulated sky: galaxies, the telescopes that see them, the volunteers, and five downstream tasks."""

from . import volunteers as volunteers  # how simulated volunteers answer
from .galaxies import Simulated as Simulated  # images, votes, labels and truth of simulated galaxies
from .galaxies import look as look  # what volunteers can see of galaxies, without drawing them
from .galaxies import simulate as simulate  # simulated galaxies of a campaign
from .galaxies import simulate_task as simulate_task  # simulated galaxies of a downstream task
from .population import STAGES as STAGES  # stages of merging, in the order of their number
from .population import TYPES as TYPES  # kinds of galaxies in the population
from .source import simulated_source as simulated_source  # the sky as a source of galaxies
from .source import sky_content as sky_content  # hash of the code and calibration that shape galaxies
from .source import sky_identity as sky_identity  # what keys know of the sky
from .tasks import CLASSES as CLASSES  # class names of the downstream tasks
from .tasks import TASK_SIZES as TASK_SIZES  # galaxies that the paper had for each task
from .tasks import TASKS as TASKS  # names of the downstream tasks
from .telescopes import CAMPAIGNS as CAMPAIGNS  # campaigns with simulated volunteers
from .telescopes import TELESCOPES as TELESCOPES  # telescope and cutout service of each campaign and task
