# Everything a user types. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Checked at once: without it pip says so after a minute, or a run much later.
TOO_OLD = import sys; sys.version_info >= (3, 11) or sys.exit("expected Python 3.11 or later, got %s; make PYTHON=python3.12, say" % sys.version.split()[0])

# uv, where it is installed, takes a fifth of pip's time, or less.
UV := $(shell command -v uv 2>/dev/null)
INSTALL = $(if $(UV),VIRTUAL_ENV=$(VENV) uv pip install,$(BIN)/pip install --disable-pip-version-check --progress-bar off) -c constraints.txt

# Bytecode is compiled here, whatever PYTHONDONTWRITEBYTECODE says: without it every
# Python start compiles Prefect again, which costs several seconds a flow run.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(TOO_OLD)'
	@echo "installing Prefect, dbt and what they need, some 140 packages, into $(VENV) with $(if $(UV),uv,pip: a minute, or several on a slow line)"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	@echo "compiling them, half a minute"
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV) || true
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what developers need into $(VENV)"
	$(INSTALL) -e '.[dev,dlt,scale,status]'
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV) || true
	touch $@

$(VENV)/.installed-scale: $(VENV)/.installed
	@echo "installing what the scale profile needs into $(VENV)"
	$(INSTALL) -e '.[scale]'
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV) || true
	touch $@

# PROFILE=scale: several servers and workers, on Postgres, Redis and an object store; see docs/scale.md.
PROFILE := one-machine
INSTALLED := $(VENV)/.installed$(if $(filter scale,$(PROFILE)),-scale)

# What a user's own shell has set for Prefect or dbt must not reach the demo or the tests.
CLEAN := env -u PYTHONDONTWRITEBYTECODE -u PREFECT_API_URL -u PREFECT_API_KEY -u PREFECT_API_AUTH_STRING -u PREFECT_PROFILE

.PHONY: demo
demo: $(INSTALLED) ## run the three chainings and check every number [API=https://dummyjson.com, PROFILE=scale]
	@$(CLEAN) $(BIN)/baton demo --profile $(PROFILE) $(if $(API),--api $(API))

.PHONY: up
up: $(INSTALLED) ## start server, worker and schedules, to stay [API=..., PORT=4200, PROFILE=scale]
	@$(CLEAN) $(BIN)/baton up --profile $(PROFILE) $(if $(API),--api $(API)) $(if $(PORT),--port $(PORT))

.PHONY: down
down: $(VENV)/.installed ## end what `make up` started; the data stays
	@$(BIN)/baton down

.PHONY: doctor
doctor: $(INSTALLED) ## check what runs and say how to fix it; exit code 1 if there is an error [PROFILE=scale, JSON=1]
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/baton doctor --profile $(PROFILE) $(if $(JSON),--json)

.PHONY: lint
lint: $(VENV)/.installed-dev ## format check, lint, types and import rules, of Python and SQL; the sources' check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	cd dbt && ../$(BIN)/sqlfluff lint models tests analyses lint
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/baton source check --no-secrets

# In the order of the folders: the many short unit tests at the end fill the gaps that the long ones leave.
PYTEST := $(CLEAN) $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
WHOLE_STACK := tests/chaos tests/e2e tests/integration/engine tests/integration/test_doctor.py
AUTOMATIONS := tests/unit/automations tests/integration/automations
APART := $(WHOLE_STACK) $(AUTOMATIONS) tests/dbt tests/scale tests/habits

.PHONY: test
test: $(VENV)/.installed-dev ## the tests of flows and their server: under ten minutes
	$(PYTEST) $(addprefix --ignore ,$(APART))

.PHONY: test-automations
test-automations: $(VENV)/.installed-dev ## the tests of the automations' tool
	$(PYTEST) $(AUTOMATIONS)

.PHONY: test-dbt
test-dbt: $(VENV)/.installed-dev ## the tests of the dbt project, which need no server
	$(PYTEST) tests/dbt

.PHONY: test-stack
test-stack: $(VENV)/.installed-dev ## the tests of server, worker and engine together: end to end, doctor, chaos
	$(PYTEST) $(WHOLE_STACK)

.PHONY: test-scale
test-scale: $(VENV)/.installed-dev ## the tests of the scale profile, which want Postgres and Redis
	$(PYTEST) --timeout 900 tests/scale

.PHONY: test-habits
test-habits: $(VENV)/.installed-dev ## clones on machines with other habits: paths, users, limits, ports, settings
	$(CLEAN) $(BIN)/pytest tests/habits

.PHONY: test-all
test-all: lint test test-automations test-dbt test-stack test-scale test-habits ## lint and every test, as CI runs them

.PHONY: bench
bench: $(VENV)/.installed-dev ## measure the hand-off against Airflow and others, see benchmarks/README.md [ROUNDS=20, ONLY=..., ADD=1]
	@$(CLEAN) $(BIN)/python -m benchmarks.handoff $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY)) $(if $(SYSTEMS),--systems $(SYSTEMS)) $(if $(ADD),--add)

.PHONY: chaos
chaos: $(VENV)/.installed-dev ## kill things and count what is lost: one more piece of the record [MINUTES=30, SEED=, ARM=, REPORT=1, LONG=1]
	$(if $(LONG),$(CLEAN) $(BIN)/pytest -m long tests/chaos)
	$(CLEAN) $(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
		$(foreach arm,$(ARM),--arm $(arm)) $(if $(REPORT),--report)

# A warehouse of its own, built without a batch: the catalogue then has the columns' types, whatever data there are.
DOCS := BATON_TARGET=dev BATON_WAREHOUSE=$(CURDIR)/dbt/target/docs.duckdb BATON_LANDING_ROOT=$(CURDIR)/dbt/target/no-landing \
	BATON_EXPORTS=$(CURDIR)/dbt/target

.PHONY: docs
docs: $(VENV)/.installed ## dbt's documentation as one page, and the lineage picture in dbt/README.md
	@mkdir -p dbt/target
	cd dbt && $(DOCS) ../$(BIN)/dbt --quiet build --exclude-resource-type unit_test
	cd dbt && $(DOCS) ../$(BIN)/dbt docs generate --static
	$(BIN)/python dbt/lineage.py
	@echo "open dbt/target/static_index.html"

.PHONY: clean
clean: $(INSTALLED) ## end and remove what `make up` has made, and everything that was built [PROFILE=scale]
	@$(BIN)/baton clean --profile $(PROFILE)
	rm -rf .bench dbt/target dbt/logs .mypy_cache .ruff_cache .pytest_cache .hypothesis
