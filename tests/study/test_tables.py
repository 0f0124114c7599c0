"""The table of faults is of the tests that there are."""

import json

import pytest

from gzlib import paths
from gzlib.errors import UserError
from gzlib.study import tables


@pytest.fixture(scope="module")
def collected():
    return tables.collected_faults()


def test_the_stored_table_of_faults_is_of_these_tests(collected, monkeypatch):
    monkeypatch.setattr(tables, "collected_faults", lambda: collected)
    table = tables.fault_table()
    assert table.cases.sum() >= 150 and (table.passed + table.skipped == table.cases).all()
    assert (table.passed > 0).all()


def test_marks_that_differ_from_the_table_fail_the_build(collected, monkeypatch):
    more = [*collected, {"kind": "zzz", "outcome": "read", "cases": 1, "passed": 0, "skipped": 0}]
    fewer = [collected[0] | {"cases": collected[0]["cases"] - 1}, *collected[1:]]
    for other in (more, fewer, collected[1:]):
        monkeypatch.setattr(tables, "collected_faults", lambda other=other: other)
        with pytest.raises(UserError, match="is not of the tests that there are now"):
            tables.fault_table()


def test_each_kind_says_what_becomes_of_it(collected):
    outcomes = {row["outcome"] for row in collected}
    assert outcomes == {"read", "galaxies rejected", "refused in one sentence"}
    assert json.loads((paths.ROOT / tables.FAULTS).read_text())
