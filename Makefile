# vfab's commands for people and for CI. `make` alone lists them.
# Paths are relative throughout, so that the checkout may live anywhere, under any name.

BIN := .venv/bin
SETUP := scripts/setup
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo bench test check format cover lab lock clean

help: ## list these commands
	@echo "vfab: make <command>   (make demo needs nothing but Python 3.11 or newer)"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  %-12s %s\n' "$$name" "$$text"; done
	@echo
	@echo "  PYTHON=/path/to/python3.12   the interpreter .venv is made with (default: the newest there is)"
	@echo "  ARGS='…'                     more arguments for demo, bench, test and cover"

install: ## .venv with .venv/bin/vfab and what running it needs
	@$(SETUP) runtime

install-dev: ## the same, with all drivers' libraries and what testing and measuring need
	@$(SETUP) runtime dev devices bench

demo: install ## find the simulated plotter, plot a drawing on it, show what the pen drew
	@$(BIN)/vfab demo $(ARGS)

bench: ## measure vfab beside its peers; ARGS=--json for programs
	@$(SETUP) runtime bench
	@$(BIN)/vfab bench $(ARGS)

test: check ## everything CI runs: check, the whole suite, the coverage gates
	@$(BIN)/python scripts/run_tests.py --gates $(ARGS)

check: install-dev ## formatting, lint, types, which room may import which: all four, then the verdict
	@failed=; \
	$(BIN)/ruff format --check . || failed="$$failed format(make format)"; \
	$(BIN)/ruff check . || failed="$$failed lint"; \
	$(BIN)/mypy && $(BIN)/mypy scripts || failed="$$failed types"; \
	$(BIN)/lint-imports --no-logo || failed="$$failed imports"; \
	if [ -n "$$failed" ]; then echo "vfab: make check failed:$$failed"; exit 1; fi

format: install-dev ## rewrite the code as ruff would have it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

cover: install-dev ## the suite with its coverage gates and a report in htmlcov/
	@$(BIN)/python scripts/run_tests.py --gates --html $(ARGS)

lab: install-dev ## boot Debian's kernel in QEMU and run tests/lab on its device nodes; ARGS go to pytest
	@$(BIN)/python scripts/lab_run.py $(ARGS)

lock: ## compile requirements/*.txt anew; ARGS=--upgrade takes the newest versions
	@$(SETUP) runtime
	@scripts/lock $(ARGS)

clean: ## remove everything that these commands made
	@rm -rf .venv htmlcov .cover .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis \
		demo-out lab-out dist build
	@find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
	@find tests -name node_modules -type d -prune -exec rm -rf {} +
