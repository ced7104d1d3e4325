# Everything a person types. `make` alone says what there is; a fresh machine needs GNU make and Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tried in this order; PYTHON=… goes first.
PYTHONS := $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3 python

.DEFAULT_GOAL := help
.PHONY: help demo up test check mutants lock clean venv

help:
	@echo "make demo     start everything and ingest sample files; Ctrl-C stops it (ONCE=1: end when the data are through)"
	@echo "make up       start everything on your own data folder; Ctrl-C stops it"
	@echo "make test     all checks and all tests"
	@echo "make check    style, types, import contracts, the lock"
	@echo "make mutants  change the code in 300 places and say which changes no test notices (an hour; MUTANTS=\"--only genai\")"
	@echo "make lock     pin the dependencies of pyproject.toml anew (needs uv)"
	@echo "make clean    remove the Python environment and the caches; data/ stays"

demo: venv
	@exec $(BIN)/medallion demo $(if $(ONCE),--once)

up: venv
	@exec $(BIN)/medallion up

# Whole files to one worker each, for what their tests share. Each acceptance test runs a whole stack of processes: one at a time.
test: check
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore tests/acceptance
	@exec $(BIN)/python -m pytest tests/acceptance

check: venv
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest -q tests/architecture/test_lock.py

# Changes the code in 300 places, one at a time, and says which changes no test notices. An hour on two cores; not part of CI.
mutants: venv
	@[ -x .venv-mutants/bin/cosmic-ray ] || { $(BIN)/python -m venv .venv-mutants && .venv-mutants/bin/pip install -qq -r tests/mutation/requirements.txt; }
	@exec .venv-mutants/bin/python tests/mutation/mutants.py $(MUTANTS)

lock:
	@command -v uv >/dev/null || { echo "make lock needs uv on the PATH: https://docs.astral.sh/uv (or: pipx install uv)."; exit 1; }
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-strip-extras --quiet -o requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

# The stamp names the folder it was made in: an environment that was moved, or whose Python is gone, is made again.
venv:
	@if [ "$$(cat $(STAMP) 2>/dev/null)" != "$(CURDIR)" ] || ! $(BIN)/python -c '' 2>/dev/null; then rm -f $(STAMP); fi
	@$(MAKE) --no-print-directory -s $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@set -e; \
	if [ ! -f $(STAMP) ]; then \
		found=; \
		for python in $(PYTHONS); do \
			if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "Medallion needs Python 3.11 to 3.14 and finds none. Install one, or name it: make demo PYTHON=/path/to/python3.13" >&2; exit 1; \
		fi; \
		if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$$found has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
		fi; \
		echo "Making the Python environment in $(VENV) with $$($$found --version)"; \
		"$$found" -m venv --clear $(VENV); \
	fi; \
	echo "Installing the pinned dependencies (a minute or two, only now)"; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	echo "$(CURDIR)" > $(STAMP)
