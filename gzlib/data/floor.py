"""The floor of a simulated survey: what a perfect predictor still pays on its test galaxies."""

import functools
from pathlib import Path

import numpy as np

from gzlib.data.schema import load_schema
from gzlib.data.survey import open_survey, open_truth
from gzlib.data.volunteers import irreducible_loss


@functools.lru_cache(maxsize=4)  # every run of a sweep asks for the same
def survey_floor(folder: Path) -> dict:
    """Expected loss of a perfect predictor, from the known answer probabilities of a simulated survey's test galaxies.

    Returns
    -------
    dict
        ``loss`` [nats per galaxy, summed over questions] and ``questions``, name to nats per galaxy that is asked;
        comparable with the metrics of a pretraining run.

    Raises
    ------
    UserError
        If the galaxies are real, so that nobody knows the truth.
    """
    survey = open_survey(folder)
    schema, test = load_schema(survey.attrs["schema"]), np.flatnonzero(survey.split.values == "test")
    truth = open_truth(folder)[[f"{column}_probability" for column in schema.label_cols]].values[test]
    totals = schema.question_totals(survey.votes.values[test])
    mean = irreducible_loss(truth, totals, schema)
    asked = dict(zip((q.name for q in schema.questions), (totals > 0).mean(0), strict=True))
    loss = mean.pop("total")
    return {"loss": loss, "questions": {name: mean[name] / share for name, share in asked.items() if share > 0}}
