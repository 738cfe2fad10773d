# The only doors: people and CI use the same four.
#   make demo    train a small CNN on handwritten digits with all of lampwork
#   make test    the whole test suite
#   make check   formatting, lint and types
#   make bench   the measurements behind the README's tables
# Each makes .venv when it is missing and installs torch and the package first.

PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.ready

.PHONY: demo test check bench clean

demo: $(READY)
	.venv/bin/lampwork demo

test: $(READY)
	$(PY) -m pytest

check: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

bench: $(READY)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[bench]'
	@for question in benchmarks/bench_*.py; do echo "== $$question"; $(PY) $$question || exit 1; done
	$(PY) benchmarks/tables.py --write

# torch goes first and alone: resolved together with the rest, pip may pick another build of it.
$(READY): pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/lampwork/_native/csrc/*)
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -c constraints.txt torch
	$(PY) -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist
