# Everything a newcomer needs: `make demo` and `make test` set themselves up.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast lint clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
# torch first and alone: its CPU build satisfies whatever the others ask for.
	$(BIN)/python -m pip install --quiet $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/edgewise demo

# Each worker begins with a half and steals at the end: what tests share is made once a worker.
test: $(STAMP) lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-fast: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m 'not slow'

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache
