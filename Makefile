# Two commands on a fresh machine: `make demo` shows it at work, `make test` checks it as each commit is.
PYTHON ?= python3
BIN := .venv/bin
# Two processes, each with whole files, whose tests share what they start; by name, since the last ones are short.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo check test test-slow test-long gpu lint clean

demo: .venv/installed
	$(BIN)/sgllie enhance samples out
	@echo "Compare samples/ with out/images/."

# The fast loop: what can be told in a minute. There is a process for each core, so each has one
# thread; and tests that have been compiled stay so.
check: export OMP_NUM_THREADS = 1
check: export PYTHONDONTWRITEBYTECODE =
check: .venv/tests lint
	$(BIN)/pytest $(PARALLEL) -m "not slow and not fuzz and not long and not jobs"

test: .venv/tests lint
	$(BIN)/pytest $(PARALLEL)

# Real kills of whole jobs, a minute each, and thousands of mutated files.
test-slow: .venv/tests
	$(BIN)/pytest $(PARALLEL) -m "(slow or fuzz) and not alone and not long"
	$(BIN)/pytest -m alone

# A few machines by the page, nodes that are lost, further kinds of jobs and storages that are killed: half an hour.
test-long: .venv/tests
	$(BIN)/pytest -m long

# On a machine with a GPU: what only it can tell, and what it is worth.
gpu: .venv/tests
	$(BIN)/pip install --quiet --editable ".[dev,gpu]"
	$(BIN)/pytest -m cuda; tests=$$?; $(BIN)/python benchmarks/gpu.py && exit $$tests

lint: .venv/tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/tests: .venv/installed
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv out
