# Everything a person or a CI runs. Needs make, Python >= 3.10 with venv, and a package index.
#
#   make demo      pictures from the bundled model: own small environment, no torch
#   make test      own environment with everything, then all tests
#   make check     lint, types and tests
#
#   make train-bundled   the bundled model anew: rooms, training, bundle, accuracies; hours
#   make train-fixed     beside it, of the same pictures, a network that is not slimmable; hours
#   make docs-tables     everything in the docs that quotes them; most of an hour, on a quiet machine

PYTHON ?= python3
VENV ?= .venv
DEMO_VENV ?= .venv-demo
DEMO_OUT ?= slimpath-demo
# torch goes in first and by an exact version: a bare `torch` may bring several GB of CUDA libraries.
# For another build, say from which index: make test TORCH="torch==2.13.0 --index-url YOUR_INDEX"
TORCH ?= torch==2.13.0
PYTEST_ARGS ?= -n 2
# Where the bundled model is trained (1 GB of rendered rooms), by how many processes, and where it is put.
RUNS ?= runs/bundled
PROCESSES ?= 2
BUNDLED := assets/m3vit_nano
# Where its weights lie, of the way from the training in rooms to that in the wide world (docs/models.md).
SHARE := 0.7

BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check install --quiet

.PHONY: help demo install test check lint format types bench docs train-bundled train-fixed docs-tables build clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -9
	@echo
	@echo "targets: demo install test check lint format types bench docs train-bundled train-fixed docs-tables build clean"

demo: $(DEMO_VENV)/installed
	$(DEMO_VENV)/bin/slimpath demo --out $(DEMO_OUT)

install: $(VENV)/installed

test: install
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: lint types test

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: install
	$(BIN)/python benchmarks/page.py --measure

docs: install
	$(BIN)/python -m slimpath.cli.reference > docs/cli.md
	$(BIN)/python -m slimpath.export.convert.page
	$(BIN)/python -m slimpath.service.settings_page
	$(BIN)/python benchmarks/readme_table.py
	$(BIN)/python benchmarks/model_card.py

# Whatever was interrupted goes on: rooms that lie there are kept, and the training resumes. A finished training is not
# repeated: `rm -r $(RUNS)/training*` before another one.
train-bundled: install
	$(BIN)/python -m slimpath.training.synthrooms.cache --out $(RUNS)/rooms --count 6144 --workers $(PROCESSES)
	$(BIN)/torchrun --nproc-per-node $(PROCESSES) -m slimpath train bundled --out $(RUNS)/training data.shards=$(RUNS)/rooms
	$(BIN)/python -m slimpath.training.synthrooms.cache --out $(RUNS)/wide --world wide --count 4608 --workers $(PROCESSES)
	$(BIN)/torchrun --nproc-per-node $(PROCESSES) -m slimpath train bundled-wide --out $(RUNS)/training-wide \
		start=$(RUNS)/training/model.safetensors data.shards=$(RUNS)/wide
	$(BIN)/python -m slimpath.training.between $(RUNS)/training/model.safetensors $(RUNS)/training-wide/model.safetensors \
		--share $(SHARE) --out $(RUNS)/model.safetensors
	rm -rf $(RUNS)/m3vit_nano $(RUNS)/measured
	$(BIN)/slimpath export $(RUNS)/model.safetensors --name m3vit_nano --out $(RUNS)/m3vit_nano --size 224x224
	$(BIN)/slimpath eval $(RUNS)/m3vit_nano --grid --scenes 100 --write $(RUNS)/measured/m3vit_nano
	rm -rf $(BUNDLED)
	cp -r $(RUNS)/measured/m3vit_nano $(BUNDLED)
	cp $(RUNS)/training-wide/loss.png docs/images/loss.png

ONE_WIDTH := sandwich=false random_widths=0 random_top_k=0

train-fixed: install
	$(BIN)/torchrun --nproc-per-node $(PROCESSES) -m slimpath train bundled $(ONE_WIDTH) --out $(RUNS)/fixed \
		data.shards=$(RUNS)/rooms
	$(BIN)/torchrun --nproc-per-node $(PROCESSES) -m slimpath train bundled-wide $(ONE_WIDTH) --out $(RUNS)/fixed-wide \
		start=$(RUNS)/fixed/model.safetensors data.shards=$(RUNS)/wide
	$(BIN)/python -m slimpath.training.between $(RUNS)/fixed/model.safetensors $(RUNS)/fixed-wide/model.safetensors \
		--share $(SHARE) --out $(RUNS)/fixed.safetensors

docs-tables: install
	$(BIN)/slimpath eval --scenes 500 --docs docs --cache $(RUNS)/judged
	$(BIN)/slimpath eval --scenes 200 --world wide --docs docs --cache $(RUNS)/judged
	$(BIN)/slimpath eval --scenes 100 --pictures $(RUNS)/pictures --cache $(RUNS)/judged
	$(BIN)/python benchmarks/model_card.py --samples $(RUNS)/pictures
	$(BIN)/python benchmarks/non_slimmable.py $(RUNS)/fixed.safetensors --cache $(RUNS)/judged --write \
		--pair "The first part alone" $(RUNS)/training/model.safetensors $(RUNS)/fixed/model.safetensors
	$(BIN)/python benchmarks/photographs.py --write
	$(BIN)/slimpath plan --tasks depth=2,semseg,normals,scene --budget 0.5 --no-profile --plot docs/images/planner.png
	$(BIN)/slimpath demo --out $(RUNS)/demo
	cp $(RUNS)/demo/motorcycle.png docs/images/demo.png
	$(BIN)/python benchmarks/page_pictures.py
	$(MAKE) bench docs

build: install
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf build dist slimpath.egg-info .pytest_cache .ruff_cache .hypothesis

# A stamp each: made anew when the dependencies change.
$(DEMO_VENV)/installed: pyproject.toml
	@$(call require_python)
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python $(PIP) -e ".[demo]"
	@touch $@

$(VENV)/installed: pyproject.toml
	@$(call require_python)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) --upgrade "pip>=24"
	$(BIN)/python $(PIP) $(TORCH)
	$(BIN)/python $(PIP) -e ".[dev]"
	@mkdir -p .shim && ln -sfn .. .shim/slimpath
	@touch $@

define require_python
$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "slimpath needs Python 3.10 or newer, $(PYTHON) is %d.%d; name another one: make PYTHON=python3.11" % sys.version_info[:2])'
endef
