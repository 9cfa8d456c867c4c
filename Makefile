# Every habit of the project, one target each. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FOR ?=
ONLY ?=
# bash counts its own SECONDS: take it only where it was given.
SECONDS_EACH := $(if $(filter command% environment%,$(origin SECONDS)),$(SECONDS),10)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# The lock file holds versions and hashes of everything; the package itself is linked file by file (strict), because four
# of its packages live in top-level folders. A new file needs `make dev` again; check, test and demo run it first.
$(VENV)/.locked: requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

.PHONY: dev
dev: $(VENV)/.locked ## the virtual environment with everything, ready to work in
	@rm -rf build/__editable__*
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  --config-settings editable_mode=strict -e .

.PHONY: check
check: dev ## format, lint, types, import directions (under 2 minutes)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p skeet
	MYPYPATH=tests/agents:tests/support:tests/guards:tests/fuzz:tests/integration:tests/streams/batches $(BIN)/mypy --explicit-package-bases tests
	$(BIN)/lint-imports

# Three processes: Hypothesis moves the recursion limit, which Python 3.11 keeps for all threads of a process together, and
# the tests beside a broker have many threads.
.PHONY: test
test: dev ## the tests, on a real Kafka, PostgreSQL and ClickHouse engine (about 20 minutes)
	$(BIN)/pytest -m "not integration and not e2e" -n 2 --dist loadfile --hypothesis-profile=same
	$(BIN)/pytest -m "integration and not e2e" -n 2 --dist loadfile --hypothesis-profile=same --tb=native
	$(BIN)/pytest -m "e2e and not acceptance" --hypothesis-profile=same --tb=native

.PHONY: acceptance
acceptance: dev ## the whole platform under every fault: crash points, kills, failover, full disks, restores (hours)
	SKEET_E2E_ORDERS=20 $(BIN)/pytest -m e2e

.PHONY: guards
guards: dev ## take each guard away in a copy and require its test to fail; ONLY=name for some of them
	$(BIN)/python tests/guards/run.py $(ONLY)

.PHONY: unit
unit: dev ## only the tests that start nothing, with fresh random examples (3 minutes)
	$(BIN)/pytest -m "not integration and not e2e"

.PHONY: fuzz
fuzz: dev ## every decoder under mutated input, SECONDS=10 each; only typed errors may escape
	$(BIN)/python -W ignore tests/fuzz/fuzzing.py $(SECONDS_EACH)

.PHONY: demo
demo: dev ## the main job: SKEET trades on the simulated exchange; FOR=60 runs headless that long and verifies
	$(BIN)/skeet demo $(if $(FOR),--for $(FOR))

.PHONY: wheel
wheel: dev ## build the wheel and try it in a clean environment outside the checkout
	scripts/smoke-wheel $(BIN)/python

.PHONY: lock
lock: dev ## write requirements.lock and the image's locks anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-header --no-annotate \
	  --python-version 3.11 --quiet -o requirements.lock
	# The image's: the same versions without the embedded parts and the developers' tools; and what builds the wheel.
	$(BIN)/uv pip compile pyproject.toml --generate-hashes --no-header --no-annotate -c requirements.lock \
	  --python-version 3.11 --quiet -o deploy/requirements.lock
	printf 'setuptools>=77\nwheel\n' | $(BIN)/uv pip compile - --generate-hashes --no-header --no-annotate \
	  -c requirements.lock --python-version 3.11 --quiet -o deploy/build.lock
	# The peers' of `skeet bench peers`, which live in an environment of their own: their pins are not ours.
	printf 'quixstreams==3.28.1\nbytewax[kafka]==0.21.1\nfastavro\n' | $(BIN)/uv pip compile - --generate-hashes \
	  --no-header --no-annotate --python-version 3.11 --quiet -o src/skeet/cli/peers.lock

.PHONY: schemas
schemas: dev ## write the Avro schemas and the golden files of new event types from the event classes
	$(BIN)/python -m skeet.schemas
	@$(MAKE) --no-print-directory dev
	$(BIN)/python -m skeet.schemas --golden

.PHONY: clean
clean: ## remove what was built (not your data)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
