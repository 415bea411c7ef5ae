# Everything a user types. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Bytecode is compiled here, whatever PYTHONDONTWRITEBYTECODE says: without it every
# Python start compiles Prefect again, which costs several seconds a flow run.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV) || true
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,scale]'
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV) || true
	touch $@

$(VENV)/.installed-scale: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[scale]'
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV) || true
	touch $@

# PROFILE=scale: several servers and workers, on Postgres, Redis and an object store; see stack/scale/README.md.
PROFILE := one-machine
INSTALLED := $(VENV)/.installed$(if $(filter scale,$(PROFILE)),-scale)

# What a user's own shell has set for Prefect or dbt must not reach the demo or the tests.
CLEAN := env -u PYTHONDONTWRITEBYTECODE -u PREFECT_API_URL -u PREFECT_API_KEY -u PREFECT_API_AUTH_STRING -u PREFECT_PROFILE

.PHONY: demo
demo: $(INSTALLED) ## run the three chainings and check every number [API=https://dummyjson.com, PROFILE=scale]
	@$(CLEAN) $(BIN)/python -m stack demo --profile $(PROFILE) $(if $(API),--api $(API))

.PHONY: up
up: $(INSTALLED) ## start server, worker and schedules, to stay [API=..., PORT=4200, PROFILE=scale]
	@$(CLEAN) $(BIN)/python -m stack up --profile $(PROFILE) $(if $(API),--api $(API)) $(if $(PORT),--port $(PORT))

.PHONY: down
down: $(VENV)/.installed ## end what `make up` started; the data stays
	@$(BIN)/python -m stack down

.PHONY: doctor
doctor: $(INSTALLED) ## say what is wrong with what runs, and how to mend it; exit code 1 if so [PROFILE=scale, JSON=1]
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m stack doctor --profile $(PROFILE) $(if $(JSON),--json)

.PHONY: lint
lint: $(VENV)/.installed-dev ## format check, lint and types, of Python and SQL
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	cd dbt && ../$(BIN)/sqlfluff lint models tests analyses
	$(BIN)/mypy

.PHONY: test
test: lint ## lint, then every test: unit, integration, e2e
	$(CLEAN) $(BIN)/pytest -n 2 --dist loadfile

.PHONY: bench
bench: $(VENV)/.installed ## measure the hand-off against Airflow and others, see benchmarks/README.md [ROUNDS=20, ONLY=...]
	@$(CLEAN) $(BIN)/python -m benchmarks.handoff $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY)) $(if $(SYSTEMS),--systems $(SYSTEMS))

.PHONY: chaos
chaos: $(VENV)/.installed-dev ## kill things for hours and count what is lost [LANDINGS=1000, SEED=, MINUTES=]
	$(CLEAN) $(BIN)/pytest -m long tests/chaos
	$(CLEAN) $(BIN)/python -m tests.chaos --landings $(or $(LANDINGS),1000) $(if $(SEED),--seed $(SEED)) \
		$(if $(MINUTES),--minutes $(MINUTES))

.PHONY: docs
docs: $(VENV)/.installed ## dbt's documentation as one page, and the lineage picture in dbt/README.md
	cd dbt && ../$(BIN)/dbt docs generate --static --target memory
	$(BIN)/python dbt/lineage.py
	@echo "open dbt/target/static_index.html"

.PHONY: clean
clean: $(INSTALLED) ## end and remove what `make up` has made, and everything that was built [PROFILE=scale]
	@$(BIN)/python -m stack clean --profile $(PROFILE)
	rm -rf .bench dbt/target dbt/logs .mypy_cache .ruff_cache .pytest_cache .hypothesis
