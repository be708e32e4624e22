.PHONY: help setup demo ui studio test test-fast check format bench lock update-yt-dlp clean
BIN := .venv/bin
INSTALLED := .venv/.installed

help: ## These commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1	\2/' | expand -t 22

setup: $(INSTALLED) ## Make .venv from the lock file; names whatever is missing

$(INSTALLED): requirements.lock pyproject.toml scripts/setup
	@scripts/setup

demo: $(INSTALLED) ## The whole graph on songs that the project makes itself
	@$(BIN)/melodygan demo --dir data/demo

ui: $(INSTALLED) ## The Dagster UI on what the demo made
	@$(BIN)/melodygan ui --demo data/demo

studio: $(INSTALLED) ## The studio on what the demo made: listen, generate
	@$(BIN)/melodygan studio --demo data/demo

test: $(INSTALLED) ## All tests, on loopback only
	@$(BIN)/pytest

test-fast: $(INSTALLED) ## Tests of two minutes: no daemon, no kills, no Ray, no remote stores, no full graph
	@$(BIN)/pytest -m "not slow"

check: $(INSTALLED) ## Lint, types, layers, dependencies, definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/dg check defs

format: $(INSTALLED) ## Format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Side by side with peers, an hour and a half; needs 20 GB of disk and a quiet machine
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/separation.py
	$(BIN)/python benchmarks/pipeline.py script
	$(BIN)/python benchmarks/pipeline.py orchestration
	$(BIN)/python benchmarks/vocoder.py
	$(BIN)/python benchmarks/front_end.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/training_step.py --compile
	$(BIN)/python benchmarks/training_input.py
	$(BIN)/python benchmarks/scale.py increment
	$(BIN)/python benchmarks/scale.py tracks

lock: $(INSTALLED) ## Newest allowed versions into the lock file
	$(BIN)/uv pip compile --universal --no-header --no-annotate --upgrade --quiet pyproject.toml --group dev --all-extras -o requirements.lock

update-yt-dlp: $(INSTALLED) ## yt-dlp goes stale in weeks
	$(BIN)/uv pip compile --universal --no-header --no-annotate --upgrade-package yt-dlp --quiet pyproject.toml --group dev --all-extras -o requirements.lock
	@scripts/setup

clean: ## Remove .venv; data stays
	rm -rf .venv
