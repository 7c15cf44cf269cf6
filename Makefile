# Every way to run the project. `make help` lists them.

STACK ?= native
PROFILE ?= quick
AREA ?=
TARGET ?=
BIN := .venv/bin
# What is checked: everything of ours that is there (front end and documents have their own tools).
SOURCES := $(wildcard conftest.py harness suites loadtests security defects reports system)

TRIAL := --profile $(PROFILE) \
	$(if $(TARGET),--target $(TARGET),--stack $(STACK)) \
	$(if $(AREA),--area $(AREA))

.DEFAULT_GOAL := help
.PHONY: help verify test test-all check setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile
	@echo "  verify takes STACK=native|containers PROFILE=quick|full|soak AREA=… TARGET=file.toml"

verify: setup ## set up, start the reference platform, judge every criterion, write the report
	@code=0; $(BIN)/pytest suites/ $(TRIAL) || code=$$?; \
	echo "the trial's exit code: $$code"; exit $$code

# Tests that need no server of their own and no quiet machine.
UNIT := harness reports defects security loadtests/tests/test_engine_estimation.py \
	loadtests/tests/test_engine_plan.py loadtests/tests/test_engine_schedule.py system/admin \
	system/profile system/auth/tests/test_auth_domain.py system/auth/tests/test_auth_http.py \
	system/auth/tests/test_auth_service.py system/edge/tests/test_edge_render.py \
	system/gateway/tests/test_gateway_forwarding.py \
	system/gateway/tests/test_gateway_frames.py system/gateway/tests/test_gateway_http.py \
	system/gateway/tests/test_gateway_paths.py system/gateway/tests/test_gateway_rooms.py \
	system/migration/tests/test_migration_json_stream.py \
	system/migration/tests/test_migration_progress.py \
	system/migration/tests/test_migration_rows.py \
	system/payments \
	system/platform/events/tests/test_copies.py system/platform/events/tests/test_envelope.py \
	system/platform/events/tests/test_topology.py system/platform/http \
	system/platform/observability system/platform/security \
	system/platform/tests/test_config.py system/stack/tests/test_stack_acts.py \
	system/stack/tests/test_stack_command_line.py system/stack/tests/test_stack_commands.py \
	system/stack/tests/test_stack_ports.py \
	system/stack/tests/test_stack_process.py system/stack/tests/test_stack_readiness.py \
	system/stack/tests/test_stack_settings.py system/stack/tests/test_stack_state.py \
	suites/tests/test_recorded_evidence.py
# One real run, from command to report: platform up, criteria of six areas, report, platform down.
SMOKE := https-redirect,event-topology,database-isolation,payment-lifecycle,websocket-auth,token-verification

test: setup check ## set up, check, the tests without servers with coverage, one short real trial
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not platform" $(UNIT)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='harness/*' --skip-covered --fail-under=95
	$(BIN)/pytest suites/ --criterion $(SMOKE)

test-all: setup check ## everything, on real servers and in real time: half an hour on a quiet machine
	@$(BIN)/coverage erase
	@# A failure counts when it is seen twice, as in the trial: machines are shared and stall.
	$(BIN)/coverage run -m pytest || { \
		code=$$?; [ $$code -eq 1 ] || exit $$code; \
		echo "failures are looked at a second time:"; \
		$(BIN)/coverage run -m pytest --last-failed --last-failed-no-failures=none; }
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='system/*' --skip-covered --fail-under=70
	$(BIN)/coverage report --include='harness/*' --skip-covered --fail-under=95

check: setup ## style, types, arrows between the parts, the edge's configuration
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python -m system.edge check

setup: ## distribution packages, uv, .venv (only what is missing)
	@bin/setup

clean: ## end all stacks of this project, delete what was generated
	@[ ! -x $(BIN)/python ] || $(BIN)/python -m system down --all
	rm -rf .venv .venv-bootstrap .seatrial .coverage .coverage.* build \
		.mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
