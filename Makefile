# make demo: sweep on the embedded default, then its figures.  make test: what CI runs.
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: install demo test faults lint paper bench docs

install: $(INSTALLED)

# torch first: its CPU build comes from where pip finds it, and nothing after it asks for another.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --constraint constraints.txt torch
	$(PYTHON) -m pip install --quiet --constraint constraints.txt setuptools ninja
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[sweep,analysis,dev]'
	touch $@

demo: install
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m spd_ray.sweep --space search_spaces/demo.yaml --replace
	$(PYTHON) -m analysis --sweep runs/demo

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# The tables of docs/ that the code and the YAML decide.
docs: install
	$(PYTHON) docs/generate.py

# Two processes: a file's tests stay together, so do all faults, which compare with one undisturbed sweep.
test: lint
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

# Every fault in full number: 20 kills, 10 dead drivers, a minute without MLflow. Ends with a table of what it cost.
faults: install
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m pytest tests/faults --full

# Every figure, table and claim of the paper on the miniature: resumable, under 90 minutes on 2 cores.
# `python -m benchmarks.paper --full` adds deeper miniatures, the tables' other tasks and the comparison of all methods.
paper: install
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m benchmarks.paper

# The tables of docs/speed.md. On a machine that does nothing else.
bench: install
	$(PYTHON) -m benchmarks.step --blocks 4
	$(PYTHON) -m benchmarks.step --blocks 4 --lengths rte --precision bf16
	$(PYTHON) -m benchmarks.step --shape bert-base --lengths rte --batch-size 8 --examples 128 --block 1 --blocks 3
	$(PYTHON) -m benchmarks.step --shape miniature --batch-size 16 --lengths cola --block 20 --blocks 3
	$(PYTHON) -m benchmarks.levers --lengths cola --blocks 2
	$(PYTHON) -m benchmarks.between --trials 12
	$(PYTHON) -m benchmarks.sweeps --trials 2
	$(PYTHON) -m benchmarks.memory --precisions fp32
	$(PYTHON) -m benchmarks.driver --trials 1000
