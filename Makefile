# Everything runs in .venv, which `make setup` makes, and fills again when setup.cfg has changed.

BIN := .venv/bin
KERASTOOLKIT := $(BIN)/kerastoolkit

# The first Python from 3.11 to 3.13 that can make a virtual environment. `make PYTHON=/path/to/python3.12` overrides it.
SUITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
ifndef PYTHON
PYTHON = $(shell for each in python3.12 python3.11 python3.13 python3 python; do \
	$$each -c '$(SUITS)' 2>/dev/null && { echo $$each; break; }; done)
endif

# Reading the recipes' names needs no more than a Python, so that they are targets before anything is installed.
READER := $(or $(wildcard $(BIN)/python),$(PYTHON))
RECIPES := $(if $(READER),$(shell $(READER) -m kerastoolkit.catalog))

.PHONY: help setup demo list test test-slow lint bench clean $(RECIPES)

help:
	@echo 'make demo        train on handwritten digits, evaluate, predict, export, and use the export'
	@echo 'make test        the tests; make test-slow for those that take minutes'
	@echo 'make list        the recipes, models and data sets'
	@echo 'make RECIPE      train a recipe, then evaluate it; with any of'
	@echo '                 SET="epochs=30 learning_rate=0.05" DATA=NAME|PATH DATA_DIR=DIR OUT=DIR SEED=N'
	@echo 'make lint        the linter'
	@echo 'make bench       the comparisons with other libraries'
	@echo 'make setup       only make .venv, which the others do too'
	@echo 'make clean       delete what was built, but neither runs/ nor .venv'

setup: .venv/installed

.venv/installed: setup.cfg pyproject.toml
	@test -n '$(PYTHON)' || { echo 'error: Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/it' >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable '.[dev,samples]'
	@touch $@

.venv/installed-bench: setup.cfg .venv/installed
	$(BIN)/python -m pip install --editable '.[bench]'
	@touch $@

list: setup
	@$(KERASTOOLKIT) list

# Files are handed out in their order: by their number of tests the longest would come last, on one processor alone.
test: setup
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .

bench: .venv/installed-bench
	@for each in benchmarks/[!_]*.py; do echo "$$each"; $(BIN)/python "$$each" || exit 1; done

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find kerastoolkit recipes tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo 'kept: runs/ (your runs) and .venv'

# $(call option,--flag,NAME): --flag 'value' where NAME=value was given to make itself; never from the environment.
option = $(if $(filter command,$(origin $(2))),$(1) '$($(2))')

$(RECIPES): setup
	@printed=$$($(KERASTOOLKIT) train $@ $(foreach each,$(SET),--set '$(each)') $(call option,--data,DATA) \
		$(call option,--data-dir,DATA_DIR) $(call option,--out,OUT) $(call option,--seed,SEED)) \
	&& $(KERASTOOLKIT) evaluate "$$(printf '%s\n' "$$printed" | sed -n 's/^run: //p')" \
		$(call option,--data-dir,DATA_DIR)

# A digit for the demo to recognise, as any program might have written it: a PNG file.
define WRITE_DIGIT
import sys
from PIL import Image
from sklearn.datasets import load_digits
Image.fromarray((load_digits().images[7] * 15.9375).astype("uint8")).save(sys.argv[1])
endef

# What another program does with an export. It needs TensorFlow alone.
define USE_EXPORT
import sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
answer = model.signatures["serving_default"]
(name,) = answer.structured_input_signature[1]
for key, value in answer(**{name: tf.constant([open(sys.argv[2], "rb").read()])}).items():
    print(key, value.numpy().tolist())
assert "kerastoolkit" not in sys.modules
endef

export WRITE_DIGIT USE_EXPORT
DEMO := runs/demo

demo: setup
	@rm -rf $(DEMO) && mkdir -p $(DEMO) && echo 'the demo begins anew in $(DEMO)'
	$(KERASTOOLKIT) train digits-cnn --out $(DEMO)/run
	$(KERASTOOLKIT) evaluate $(DEMO)/run
	@$(BIN)/python -c "$$WRITE_DIGIT" $(DEMO)/digit.png
	$(KERASTOOLKIT) predict $(DEMO)/run $(DEMO)/digit.png --out $(DEMO)/answers
	$(KERASTOOLKIT) export $(DEMO)/run $(DEMO)/saved_model
	@echo 'the same answer from the export, in a process that never imports kerastoolkit:'
	@$(BIN)/python -c "$$USE_EXPORT" $(DEMO)/saved_model $(DEMO)/digit.png 2>$(DEMO)/tensorflow.log \
		|| { cat $(DEMO)/tensorflow.log >&2; exit 1; }
	@echo 'look at: $(DEMO)/run/plots and $(DEMO)/answers'

.DEFAULT:
	@echo 'make $@ is neither a target (see make help) nor a recipe' >&2; $(READER) -m kerastoolkit.catalog '$@'
