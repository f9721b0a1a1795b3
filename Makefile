# Every verb sets up .venv by itself; python3 (3.11 or newer) is all that the machine needs.
#
#   make run     explain what the bundled policy does with a recorded incident
#   make test    checks and tests (under 10 minutes on 2 cores)
#   make check   ruff, mypy --strict, import-linter
#   make soak    the long tests
#   make bench   the speed and memory figures
#   make lock    pin the test environment anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RECORDING := src/kubewitness/data/cluster.audit.log.gz
INCIDENT := 9e10eb1b

.DEFAULT_GOAL := help
.PHONY: help run test check soak bench lock clean

help:
	@sed -n 's/^#   //p' Makefile

$(READY): pyproject.toml requirements/test.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kubewitness needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "python3 lacks venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY)
	@echo "What a policy makes of a recorded cluster: events by level and by the rule that decides."
	@echo
	$(BIN)/kubewitness policy evaluate recommended $(RECORDING) | sort | uniq -c | sort -rn
	@echo
	@echo "Half-way a stolen token starts a privileged pod. Is that recorded, and why?"
	@echo
	$(BIN)/kubewitness policy explain recommended --event $(RECORDING) --audit-id $(INCIDENT)
	@echo
	@echo "Next: kubewitness policy explain --help, policy check --help, convert --help"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/pytest -m "not soak"

soak: $(READY)
	$(BIN)/pytest -m soak

bench: $(READY)
	$(BIN)/python bench/run.py

lock: $(READY)
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check \
		-r requirements/test.in .
	{ echo '# Pinned by `make lock` from pyproject.toml and requirements/test.in.'; \
		$(VENV)-lock/bin/python -m pip freeze --exclude kubewitness; } > requirements/test.txt
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
