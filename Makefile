# The only doors: people and CI use the same four.
#   make demo    train a small CNN on handwritten digits with all of lampwork, then a broken one
#   make test    the whole test suite
#   make check   formatting, lint and types
#   make bench   the measurements behind the README's tables
# Beside them: `make page` builds the front end in web/, `make screenshot` draws docs/page.png with
# it, `make gpu` runs all that needs a CUDA device
# with the python3 that is there.
# Each makes .venv when it is missing and installs torch and the package first.

PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.ready

.PHONY: demo test check bench gpu page browser screenshot clean

demo: $(READY)
	.venv/bin/lampwork demo
	.venv/bin/lampwork demo --broken

test: $(READY) browser
	$(PY) -m pytest -n 2 --dist loadfile

check: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

bench: $(READY)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[bench]'
	@for question in benchmarks/bench_*.py; do echo "== $$question"; $(PY) $$question || exit 1; done
	$(PY) benchmarks/tables.py --write

gpu:
	PYTHON=$(PYTHON) bash benchmarks/gpu.sh

page:
	cd web && npm ci --no-audit --no-fund && npm run build

screenshot: $(READY) browser
	$(PY) docs/screenshot.py

# tests/web drives a browser. Where there is none and it cannot be installed, they are skipped.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null \
	  || (apt-get update -qq && apt-get install -y -qq chromium) >/dev/null 2>&1 \
	  || (sudo -n apt-get update -qq && sudo -n apt-get install -y -qq chromium) >/dev/null 2>&1 \
	  || echo "no chromium, and it cannot be installed here: the tests of the page are skipped"

# torch goes first and alone: resolved together with the rest, pip may pick another build of it.
$(READY): pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/lampwork/_native/csrc/* web/*.* web/src/* web/src/*/*)
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -c constraints.txt torch
	$(PY) -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist
