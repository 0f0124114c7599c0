"""What shapes a simulated galaxy enters the identity of everything made from it."""

import json
import os
import runpy
import shutil
import subprocess
import sys

import pytest

from gzlib import paths, sky
from gzlib.sky.source import KNOWN

pytestmark = pytest.mark.slow

SHOWN = """
import nbformat.v4 as v4
from gzlib import sky
from gzlib.book.execute import fingerprint
from gzlib.config import PretrainConfig, SurveySpec
from gzlib.data import survey_fingerprint
from gzlib.training import run_key
survey = survey_fingerprint(SurveySpec("sim:gz2:100", size=16))
chapter = v4.new_notebook(cells=[v4.new_code_cell("from gzlib import open_survey, sky\\nsky.simulate")])
other = v4.new_notebook(cells=[v4.new_code_cell("from gzlib import fit_curves")])
named = [{"source": "sim:gz2:100", "size": 16}]  # as the trace of a chapter has it that only read runs of this survey
print(survey, run_key(PretrainConfig("resnet_w4", 10), survey, None))
print(*(fingerprint(book, "page", project=PROJECT) for book in (chapter, other)))
print(fingerprint(other, "page", project=PROJECT, surveys=named))
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What a copy of the package with some files changed says.

    Survey, run, a chapter on the sky, a chapter on neither, and one that read runs of a simulated survey.
    """

    def of(**changes) -> list[str]:
        home = tmp_path_factory.mktemp("copy")
        shutil.copytree(paths.PACKAGE, home / "gzlib", ignore=shutil.ignore_patterns("__pycache__"))
        for name, change in changes.items():
            file = next(home.rglob(f"{name.replace('__', '.')}"))
            file.write_text(change(file.read_text()))
        code = SHOWN.replace("PROJECT", repr(str(home)))
        environment = os.environ | {"PYTHONPATH": str(home), "GZLIB_HOME": str(home)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    return of


def more_gain(text: str) -> str:
    """The volunteers' calibration with every gain three times as large."""
    table = json.loads(text)
    for question in table["questions"].values():
        question["gain"] *= 3
    return json.dumps(table)


def another_answer(text: str) -> str:
    """A decision tree with the answers of its first question in another order."""
    records = json.loads(text)
    records[0]["answers"] = records[0]["answers"][::-1]
    return json.dumps(records)


def test_calibration_code_and_trees_enter_surveys_keys_and_chapters(shown):
    survey, run, chapter, other, reader = shown()
    for change in (
        {"volunteers__json": more_gain},
        {"sersic_gaussians__json": lambda text: text.replace("0.5", "0.6", 1)},
        {"telescopes__py": lambda text: text + "\nBRIGHTER = 2\n"},
        {"source__py": lambda text: text.replace("np.arange(start, ", "np.arange(start + 5, ")},
        {"gz2__json": another_answer},
    ):
        changed = shown(**change)
        assert changed[0] != survey and changed[1] != run and changed[2] != chapter and changed[4] != reader, change
        assert changed[3] == other  # a chapter without galaxies is none the wiser
    # What does not shape this survey leaves it alone: other campaigns' trees, comments, layout of a table.
    same = shown(
        jwst__json=another_answer,
        volunteers__py=lambda text: text + "\n# a comment\n",
        volunteers__json=lambda text: json.dumps(json.loads(text), indent=3),
    )
    assert same[:2] == [survey, run] and same[4] == reader
    assert shown(gz2__json=lambda text: text.replace(":", ": "))[2:] == [chapter, other, reader]


def test_the_sky_on_record_is_the_one_that_this_code_draws():
    """If this fails, see benchmarks/sky_identity.py: the same galaxies keep their identity, others get a new one."""
    known = json.loads(KNOWN.read_text())
    assert sky.sky_content() in known["same"] and sky.sky_identity() == known["identity"]
    tool = runpy.run_path(str(paths.ROOT / "benchmarks" / "sky_identity.py"))
    sample = tool["sample"]()
    assert tool["differences"](known["sample"], sample) == []
    sample["gz2"]["bands"][0][0] += 1
    sample["dr5"]["told"][0][0] += 1
    del sample["rings"]
    found = tool["differences"](known["sample"], sample)
    assert len(found) == 3 and "rings: only on one side" in found and "dr5: votes or labels" in found
