# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv with plain pip when it is missing.
PYTHON ?= python3
VENV := .venv
# Tests run in so many processes, each with one thread and about 2 GB of memory. Now and then one of them waits, for a
# device or a process of its own; three keep two cores busy.
WORKERS ?= 3
BIN := $(VENV)/bin

.PHONY: demo test check clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/edgedistill demo

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) dist
