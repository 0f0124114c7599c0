# `make paper` builds the book, `make test` runs the tests. Each sets up .venv first.
# PYTHON may name another interpreter, 3.11 or newer: make paper PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin

.PHONY: paper test quick test-long check setup reference card third-party clean

paper: .venv/.ready
	$(BIN)/python -m gzlib render

test: .venv/.ready # two processes, each with the tests of a file at a time; long files are among the first
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile --no-loadscope-reorder

quick: .venv/.ready # each package, in a tenth of the time
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

# What is heavy: installed wheels in new environments, and other checks of many minutes.
test-long: .venv/.ready
	$(BIN)/python -m pytest -m long --outcomes=data/long-tests.json

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_phrases.py

setup: .venv/.ready

# The pages of the API reference, after a change of a public docstring.
reference: .venv/.ready
	$(BIN)/python .ci/reference.py

# The image that other sites show beside a link to the book, after a change of its title, version or headline.
card: .venv/.ready
	$(BIN)/python .ci/card.py

# Licences and a bill of materials of what the lock installs, after a change of requirements.lock:
#   uv pip compile pyproject.toml --extra all --universal --python-version 3.11 --no-annotate --no-header \
#     --generate-hashes --output-file requirements.lock
third-party: .venv/.ready
	$(BIN)/python .ci/third_party.py
	@mkdir -p dist
	$(BIN)/cyclonedx-py environment --output-file dist/sbom.cdx.json $(BIN)/python

# The mark is made last, so that an interrupted set-up is taken up again.
.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The environment and rendered pages; results (runs, experiments, curated surveys) are left alone.
clean:
	rm -rf .venv _book _preview build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
