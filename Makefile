# From a bare Python and a clone: every target makes its own environment in .venv first, once.
# PYTHON=python3.12 chooses another interpreter for it, WORKERS=8 another number of test processes.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
READY := .venv/.installed

# One thread in each process: tests are small, and threads that wait for a core which is busy elsewhere cost more than
# they bring (measured on two busy cores: 31 s with one, 142 s with torch's own number). WORKERS=0: no processes.
# The files in their own order: those of few tests are the long ones, and would else come last, one process alone.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install demo test test-slow check docs site pictures notebook clean distclean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

install: $(READY) ## make .venv, with greffon and everything its development needs

demo: $(READY) ## train, evaluate and show a small model
	@$(BIN)/python -m greffon.demo

test: $(READY) ## the tests that take minutes in all
	@$(PYTEST) -m "not slow"

test-slow: $(READY) ## the tests that take minutes each
	@$(BIN)/python -m pytest -q -m slow

# PYRIGHT_PYTHON_*: its Python wrapper would else ask the npm registry for news, and take whatever node is installed.
check: $(READY) ## lint and type-check
	@status=0; $(BIN)/ruff check . || status=1; \
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 PYRIGHT_PYTHON_GLOBAL_NODE=0 $(BIN)/pyright || status=1; exit $$status

docs: $(READY) ## write docs/commands.md from the commands' own help
	@$(BIN)/python docs/make_commands.py

site: $(READY) ## build the documentation in English and French, strictly: build/site/index.html
	@$(BIN)/python docs/make_site.py

pictures: $(READY) ## draw the pictures of the lesson again; minutes
	@$(BIN)/python docs/make_pictures.py

notebook: $(READY) ## run the notebook of the lesson on DATA/vehicles, into build/; minutes
	@$(BIN)/python docs/make_notebook.py --data $(DATA)/vehicles

clean: ## remove what the other targets made, except .venv
	@rm -rf build dist demo .pytest_cache .ruff_cache .hypothesis
	@find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## remove .venv, too
	@rm -rf .venv

# An environment left half made by an interrupted run has no stamp, and maybe no pip: it is completed.
# One call of pip for all of it, so that torch and torchvision are chosen together. pip would compile their 20,000 modules on one processor;
# templates among them that are no Python are passed over.
$(READY): pyproject.toml constraints.txt
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -c 'import sys' 2>/dev/null || { \
			echo "greffon: there is no '$(PYTHON)'. Install Python 3.11 or newer, or: make PYTHON=/path/to/python3" >&2; exit 1; }; \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
			echo "greffon: needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V). Try: make PYTHON=python3.11" >&2; exit 1; }; \
		$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
			echo "greffon: '$(PYTHON)' lacks venv or pip. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
		$(PYTHON) -m venv .venv; \
	fi
	@echo "greffon: installing into .venv (once; some minutes and 6 GB, most of it torch)"
	@$(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[dev]'
	@$(BIN)/python -W ignore -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
	@touch $@

# --- benchmarks: they need photos (DATA) and a quiet machine; each writes benchmarks/results/*.json ----------------

DATA ?= ../shared/data
KERAS := benchmarks/.venv-keras
FASTAI := benchmarks/.venv-fastai
SKADA := benchmarks/.venv-skada
SCHEMATHESIS := benchmarks/.venv-schemathesis

# greffon and other tools turn by turn: few photos for a look, and the counts of the table, which take hours.
SIDE := $(BIN)/python benchmarks/side_by_side.py

.PHONY: bench-pass bench-memory bench-accuracy bench-finetune bench-table bench-gain bench-label bench-suggest \
	bench-audit bench-adaptation bench-adaptation-speed bench-cluster bench-search bench-pretraining bench-serve bench-soak

bench-pass: $(READY) ## the frozen pass against the bare network
	@$(BIN)/python benchmarks/frozen_pass.py $(DATA)/trash --images 2000
	@$(BIN)/python benchmarks/frozen_pass.py $(DATA)/cats_dogs --images 600 --name frozen_pass_cats_dogs

bench-memory: $(READY) ## memory of the frozen pass, 1,000 to 20,000 images
	@$(BIN)/python benchmarks/memory.py

bench-accuracy: $(READY) $(KERAS)/.installed ## accuracy in five folds, beside Keras holding the same tensors
	@$(BIN)/python benchmarks/accuracy.py $(DATA)/cats_dogs $(DATA)/flowers

bench-finetune: $(READY) $(KERAS)/.installed $(FASTAI)/.installed ## greffon beside PyTorch, Keras and fastai, on few photos
	@$(SIDE) frozen-torch $(DATA)/cats_dogs --images 64 --rounds 3
	@$(SIDE) frozen-keras $(DATA)/cats_dogs --images 64 --rounds 3
	@$(SIDE) epoch $(DATA)/cats_dogs --images 72 --rounds 2 --epochs 2
	@$(SIDE) finetune-fastai $(DATA)/cats_dogs --images 96 --rounds 1 --epochs 4
	@$(SIDE) head-keras $(DATA)/flowers --images 150 --rounds 1 --epochs 4

bench-table: $(READY) $(KERAS)/.installed $(FASTAI)/.installed ## the same with the counts of the table; hours
	@$(SIDE) frozen-torch $(DATA)/cats_dogs --images 256 --rounds 5
	@$(SIDE) frozen-keras $(DATA)/cats_dogs --images 256 --rounds 5
	@$(SIDE) epoch $(DATA)/cats_dogs --images 240 --rounds 3 --epochs 2
	@$(SIDE) finetune-fastai $(DATA)/cats_dogs --images 0 --rounds 1 --epochs 10
	@$(SIDE) head-keras $(DATA)/flowers --images 0 --rounds 1 --epochs 10

bench-gain: $(READY) ## fine-tuning against feature extraction in five folds; hours, and it can be interrupted
	@$(BIN)/python benchmarks/finetuning_accuracy.py $(DATA)/trash $(DATA)/flowers $(DATA)/photo_art/photo $(DATA)/photo_art/art_painting

bench-label: $(READY) ## labels from a few labelled photos, against what is learned from the few alone
	@$(BIN)/python benchmarks/labelling.py $(DATA)/flowers $(DATA)/trash $(DATA)/cats_dogs $(DATA)/photo_art/photo \
		$(DATA)/photo_art/art_painting $(DATA)/weather $(DATA)/vehicles

HEAPS := $(DATA)/trash $(DATA)/photo_art/photo $(DATA)/photo_art/art_painting $(DATA)/flowers $(DATA)/cats_dogs $(DATA)/weather $(DATA)/vehicles
SUGGEST := OMP_NUM_THREADS=1 $(BIN)/python benchmarks/suggesting.py $(HEAPS) --kept build/kept

bench-suggest: $(READY) ## photos worth labelling first, against as many at random and against published ways to choose
	@$(SUGGEST)
	@$(SUGGEST) --head plain --rivals typiclust,probcover,coreset,margin,badge,dropquery --name suggesting_rivals

bench-cluster: $(READY) ## clusters against the classes that a person gave; and 100,000 photos in 100 clusters
	@$(BIN)/python benchmarks/clustering.py $(DATA)/photo_art/photo $(DATA)/photo_art/art_painting $(DATA)/flowers $(DATA)/weather \
		$(DATA)/cats_dogs $(DATA)/trash $(DATA)/vehicles $(DATA)/digits/optdigits $(DATA)/digits/mnist
	@$(BIN)/python benchmarks/clustering.py --scale 100000

bench-search: $(READY) ## search: what is found, planted near-duplicates and outliers, and a million vectors
	@$(BIN)/python benchmarks/searching.py looks $(DATA)/flowers $(DATA)/trash $(DATA)/photo_art/photo $(DATA)/weather
	@$(BIN)/python benchmarks/searching.py duplicates $(DATA)/flowers $(DATA)/trash $(DATA)/cats_dogs
	@$(BIN)/python benchmarks/searching.py outliers $(DATA)/flowers $(DATA)/photo_art/photo $(DATA)/weather
	@$(BIN)/python benchmarks/searching.py vectors $(DATA)/flowers $(DATA)/weather $(DATA)/photo_art/photo
bench-audit: $(READY) ## what an audit finds of planted label errors, copies and a shortcut
	@$(BIN)/python benchmarks/auditing.py $(DATA)/flowers $(DATA)/trash

PHOTO := $(DATA)/photo_art/photo
ART := $(DATA)/photo_art/art_painting
DIGITS := $(DATA)/digits
PAIRS := $(PHOTO):$(ART) $(ART):$(PHOTO) $(DIGITS)/mnist:$(DIGITS)/mnist_m $(DIGITS)/mnist:$(DIGITS)/optdigits \
	$(DIGITS)/optdigits:$(DIGITS)/mnist $(DIGITS)/mnist_m:$(DIGITS)/mnist

bench-adaptation: $(READY) $(SKADA)/.installed ## adaptation to a domain without labels: all methods, and beside skada
	@$(BIN)/python benchmarks/adaptation.py $(PAIRS) --processes $(WORKERS)
	@$(BIN)/python benchmarks/adaptation_peers.py $(PHOTO):$(ART) $(ART):$(PHOTO) $(DIGITS)/mnist:$(DIGITS)/optdigits

bench-pretraining: $(READY) ## self-supervised training above the cut: a linear probe before and after
	@$(BIN)/python benchmarks/pretraining.py $(ART) --size 112 --precision bfloat16 --name pretraining_art
	@$(BIN)/python benchmarks/pretraining.py $(DATA)/flowers --size 112 --precision bfloat16 --repeats 1 --name pretraining_flowers

bench-adaptation-speed: $(READY) $(SKADA)/.installed ## adaptation above the cut against a loop that runs the frozen part in every epoch; hours
	@$(BIN)/python benchmarks/adaptation_speed.py $(PHOTO):$(ART)

# One model, served in float32 and in int8, which has to pass its gate: VGG16 on cats and dogs. SERVE="--seconds 2 --short": a look.
SERVED := build/served
SERVE ?=
SOAK ?=

bench-serve: $(SERVED)/int8/export.json ## the server: throughput, latency, overload, kill -TERM, memory, beside FastAPI with torch
	@$(BIN)/python benchmarks/serving.py $(SERVED)/float32 $(DATA)/cats_dogs --parts start,bare,clients,overload,stop,peer \
		--name serving_float32 $(SERVE)
	@$(BIN)/python benchmarks/serving.py $(SERVED)/int8 $(DATA)/cats_dogs --name serving_int8 $(SERVE)

bench-soak: $(SERVED)/int8/export.json $(SCHEMATHESIS)/.installed ## ten minutes of good and hostile requests (SOAK="--minutes 1": less)
	@$(BIN)/python benchmarks/soaking.py $(SERVED)/int8 $(DATA)/cats_dogs --schemathesis $(SCHEMATHESIS)/bin/schemathesis $(SOAK)

$(SERVED)/model/model.json: | $(READY)
	@$(BIN)/greffon train $(DATA)/cats_dogs --backbone vgg16 --precision float32 --thumbnails --out $(SERVED)/model

$(SERVED)/int8/export.json: $(SERVED)/model/model.json
	@$(BIN)/greffon export $(SERVED)/model --out $(SERVED)/float32
	@$(BIN)/greffon export $(SERVED)/model --precision int8 --out $(SERVED)/int8

$(KERAS)/.installed:
	@$(PYTHON) -m venv $(KERAS)
	@$(KERAS)/bin/python -m pip install tensorflow==2.21.0 scikit-learn pillow
	@touch $@

$(FASTAI)/.installed:
	@$(PYTHON) -m venv $(FASTAI)
	@$(FASTAI)/bin/python -m pip install fastai==2.8.12 torch==2.15.0 torchvision==0.29.2
	@touch $@

$(SKADA)/.installed:
	@$(PYTHON) -m venv $(SKADA)
	@$(SKADA)/bin/python -m pip install skada==0.6.0 pot==0.9.7.post1 scikit-learn==1.9.1 numpy==2.4.6 torch==2.15.0 torchvision==0.29.2 skorch==1.4.0 pillow
	@touch $@

$(SCHEMATHESIS)/.installed:
	@$(PYTHON) -m venv $(SCHEMATHESIS)
	@$(SCHEMATHESIS)/bin/python -m pip install schemathesis==4.32.5
	@touch $@
