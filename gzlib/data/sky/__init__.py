"""The simulated sky: galaxies, the telescopes that see them, and the five downstream tasks."""

from gzlib.data.sky.galaxies import CAMPAIGNS, VERSION, Simulated, simulate, simulate_task
from gzlib.data.sky.population import TYPES
from gzlib.data.sky.sheets import contact_sheet, ladder
from gzlib.data.sky.structure import STAGES
from gzlib.data.sky.tasks import CLASSES, TASK_SIZES, TASKS
from gzlib.data.sky.telescopes import TELESCOPES

__all__ = [
    "CAMPAIGNS", "CLASSES", "STAGES", "TASKS", "TASK_SIZES", "TELESCOPES", "TYPES", "VERSION", "Simulated",
    "contact_sheet", "ladder", "simulate", "simulate_task",
]  # fmt: skip
