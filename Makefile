# make demo | test | test-cluster | lint | format | bench | shipped. Each target first makes the environment in .venv where it is
# missing or older than pyproject.toml and constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
SPLITS ?= test-small test-counterfactual-small
SUITES ?= $(SPLITS:%=runs/%)

.PHONY: help install system demo bench shipped test test-cluster lint format clean

help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## make .venv with everything in it

$(INSTALLED): pyproject.toml constraints.txt | system
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[sim,train,dev]'
	touch $@

system:
	@PYTHON=$(PYTHON) scripts/system_libraries.sh

demo: $(INSTALLED) ## collect a few simulated episodes, score them, say where the report is
	$(BIN)/worldvalue collect robosuite demo/episodes --split demo
	$(BIN)/worldvalue score demo/episodes --out demo/report
	@echo "The report: $(CURDIR)/demo/report/report.html"

runs/%: | $(INSTALLED)
	$(BIN)/worldvalue collect $(if $(filter metaworld%,$*),metaworld,robosuite) $@ --split $*

bench: $(INSTALLED) | $(SUITES) ## the shipped model's table on a small part of the benchmark
	$(BIN)/worldvalue bench run $(SUITES:%=--suite %) --out runs/bench

shipped: $(INSTALLED) ## make the shipped model again from nothing: hours
	scripts/make_shipped.sh runs/shipped

test: lint ## lint, then all tests but those of the cluster
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not cluster'

test-cluster: $(INSTALLED) ## the tests that start a Ray on this machine
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment, the demo and the caches
	rm -rf .venv demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
