# make demo: sweep on the embedded default, then its figures.  make test: what CI runs.
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: install demo test lint figures clean

install: $(INSTALLED)

# torch first: its CPU build comes from where pip finds it, and nothing after it asks for another.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --constraint constraints.txt torch
	$(PYTHON) -m pip install --quiet --constraint constraints.txt setuptools ninja
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[analysis,dev]'
	touch $@

demo: install
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m spd_ray.sweep --space search_spaces/demo.yaml --replace
	$(PYTHON) -m analysis --sweep runs/demo

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: lint
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m pytest
