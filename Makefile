# Every way to run the project. `make help` lists them.

STACK ?=
PROFILE ?= quick
AREA ?=
TARGET ?=
REPLICAS ?=
BIN := .venv/bin
# What is checked: everything of ours that is there (front end and documents have their own tools).
SOURCES := $(wildcard conftest.py harness suites loadtests security defects reports system)

TRIAL := --profile $(PROFILE) \
	$(if $(TARGET),--target $(TARGET),$(if $(STACK),--stack $(STACK))) \
	$(if $(REPLICAS),--replicas $(REPLICAS)) \
	$(if $(AREA),--area $(AREA))

.DEFAULT_GOAL := help
.PHONY: help verify test test-fast test-containers check setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@echo "  verify takes STACK=native|containers PROFILE=quick|full|soak AREA=… TARGET=file.toml REPLICAS=2"

verify: setup ## set up, start the reference platform, judge every criterion, write the report
	@code=0; $(BIN)/pytest suites/ $(TRIAL) || code=$$?; \
	echo "the trial's exit code: $$code"; exit $$code

# One real run, from command to report: platform up, criteria of six areas, report, platform down.
SMOKE := https-redirect,event-topology,database-isolation,payment-lifecycle,websocket-auth,token-verification
# Three defects and the criteria that must notice them.
DEFECTS := headers-lost-on-pages dead-letter-exchange-unbound cache-key-without-limit

# A failure counts when it is seen twice, as in the trial: machines are shared and stall.
define pytest_twice
	$(BIN)/coverage run -m pytest $(1) || { \
		code=$$?; [ $$code -eq 1 ] || exit $$code; \
		echo "failures are looked at a second time:"; \
		$(BIN)/coverage run -m pytest $(1) --last-failed --last-failed-no-failures=none; }
endef

test: setup check ## all of the project's own tests, fast first, then a short trial and three defects
	@$(BIN)/coverage erase
	@# Those that need no running platform, then those that share one.
	$(call pytest_twice,-m "not platform and not engine")
	$(call pytest_twice,-m platform)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='system/*' --skip-covered --fail-under=70
	$(BIN)/coverage report --include='harness/*' --skip-covered --fail-under=95
	$(BIN)/pytest suites/ --stack native --criterion $(SMOKE)
	$(BIN)/python -m defects $(addprefix --defect ,$(DEFECTS))

test-fast: setup ## the tests that need no running platform, without coverage
	$(BIN)/pytest -m "not platform and not engine"

# What did not pass is looked at a second time, on a platform of its own.
CONTAINERS_TRIAL := $(BIN)/pytest suites/ --stack containers

test-containers: setup ## the tests that need containers and a whole trial in them, on a private engine
	@bin/install containers
	@DOCKER_HOST=$$($(BIN)/python -m system engine up) || exit; export DOCKER_HOST; \
	trap '$(BIN)/python -m system engine down' EXIT; trap 'exit 130' INT TERM; \
	$(BIN)/python -m system images build && \
	$(BIN)/pytest -m engine && \
	{ $(CONTAINERS_TRIAL) || $(CONTAINERS_TRIAL) --last-failed --last-failed-no-failures=none; }

check: setup ## style, types, arrows between the parts, the edge's configuration, compose.yaml, the manifests
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python -m system.edge check
	$(BIN)/python -m system compose check
	$(BIN)/python -m system.deploy check

setup: ## distribution packages, uv, .venv (only what is missing)
	@bin/setup

clean: ## end all stacks of this project, delete what was generated
	@[ ! -x $(BIN)/python ] || $(BIN)/python -m system down --all
	rm -rf .venv .venv-bootstrap .seatrial .coverage .coverage.* build \
		.mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
