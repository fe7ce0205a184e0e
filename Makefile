# Two commands: `make demo` shows it, `make test` proves it. Everything installs into .venv, made with python3 alone.
PYTHON ?= python3
VENV   ?= .venv
SAMPLE ?= hello
TARGET ?= local
BASE   ?=
ONCE   ?=
# A worker for each core. PYTEST_ARGS='-n 0' runs all in one process, in the order of the files.
PARALLEL ?= -n logical --maxprocesses 4 --dist worksteal

.PHONY: help demo test check bench lock clean install install-dev

help:
	@echo "make demo                 a deployment.yaml becomes a running service on this machine; Ctrl-C stops it"
	@echo "make demo SAMPLE=digits   the same with a small PyTorch model, trained first"
	@echo "make demo TARGET=gcp-cloudrun   the same on Google Cloud Run, as an offline twin of Google that runs here"
	@echo "make demo ONCE=1          stops by itself; exit 0 only if the service answered rightly"
	@echo "make test                 every test that can run here, with the reasons for those that cannot"
	@echo "make check                format, lint, types, imports, nothing of this machine in the repository"
	@echo "make bench                requests per second beside a bare route and with open pages; Cloud Run beside Google's client; images beside docker, BuildKit and buildah (an hour)"
	@echo "make lock                 pin anew what the two container images install, after a change of pyproject.toml"
	@echo "make clean                removes the environment and what demos and tests left"

demo: install
	@SAMPLE=$(SAMPLE) TARGET=$(TARGET) BASE=$(BASE) ONCE=$(ONCE) exec $(VENV)/bin/python samples/demo.py

test: install-dev
	@$(VENV)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

check: install-dev
	@VENV=$(VENV) scripts/check

bench: install-dev
	@$(VENV)/bin/python -m bench

lock: install-dev
	@$(VENV)/bin/python scripts/lock_images.py

clean:
	rm -rf $(VENV) .state build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

install:
	@$(PYTHON) scripts/bootstrap.py $(if $(filter gcp-cloudrun,$(TARGET)),--google) $(VENV)

install-dev:
	@$(PYTHON) scripts/bootstrap.py --dev $(VENV)
