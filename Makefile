VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3.11
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test browser docs lint bench audit release-check clean

help:
	@echo "make demo   install and run the main job on embedded phantoms (about three minutes)"
	@echo "make test   install and run the tests"
	@echo "make browser  install Chromium and Playwright and run the tests of pages"
	@echo "make docs   install what the site needs and build it into site/"
	@echo "make lint   format, lint, types, layers"
	@echo "make bench  timings against max-pool and peers, as ratios (docs/results/speed.md)"
	@echo "make audit  known vulnerabilities of the pinned dependencies, and whether what is installed is what is pinned"
	@echo "make release-check  build the package, install it in fresh environments, and compare its demo with the checkout's"
	@echo "make setup  install everything into $(VENV)"
	@echo "make clean  remove what these made"

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[fast]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) --editable '.[dev]'
	@touch $@

setup: $(VENV)/.dev

demo: $(VENV)/.base
	$(BIN)/mirst demo --out demo

test: $(VENV)/.dev
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

browser: $(VENV)/.dev
	command -v chromium > /dev/null || apt-get install --yes chromium
	$(PIP) --editable '.[browser]'
	$(BIN)/pytest tests/browser

$(VENV)/.docs: $(VENV)/.base
	$(PIP) --editable '.[docs]'
	@touch $@

# The cells of the notebooks run, a minute of CPU time; more threads do not help networks so small.
# mkdocs.yml makes every warning an error.
docs: $(VENV)/.docs
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	! grep -rlE '<(script|link|img)[^>]+(src|href)="?(https?:)?//' site --include='*.html'
	@echo "The site is in site/. To read and search it: $(PYTHON) -m http.server --bind 127.0.0.1 --directory site"

lint: $(VENV)/.dev
	$(BIN)/ruff format --check src tests benchmarks docs/hooks
	$(BIN)/ruff check src tests benchmarks docs/hooks
	$(BIN)/mypy
	$(BIN)/lint-imports

# torchattacks and adv-lib ask for torchvision, which they do without
bench: $(VENV)/.dev
	$(PIP) --no-deps torchattacks adv-lib
	$(BIN)/python -m benchmarks

# pip-audit lives in a venv of its own, or it would be audited too. --strict: a pin that it cannot ask about is a failure.
# torchattacks and adv-lib, once make bench has brought them, lack what they ask for.
audit: $(VENV)/.dev
	$(BIN)/python -m benchmarks.pins
	! $(BIN)/python -m pip check | grep -v -e '^torchattacks ' -e '^adv-lib ' -e '^No broken'
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet pip-audit==2.10.1
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement constraints.txt \
		2> $(VENV)/audit/log || { tail -n 1 $(VENV)/audit/log; echo "make audit: a pin named above is vulnerable or could not be asked about (no network, no advisories)" >&2; exit 1; }

# build and twine live in a venv of their own, as they are no dependency of the project
release-check: $(VENV)/.base
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/pip install --quiet build==1.6.1 twine==7.0.0
	$(BIN)/python -m benchmarks.release $(VENV)/release/bin/python

clean:
	rm -rf $(VENV) demo results build dist site
