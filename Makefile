# Both commands only wrap `python3 -m venv` and `pip install`; README.md shows the plain way.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/fercore demo --serve

# Four at once also on two cores, as half of the time goes into waiting for browsers and other processes; browser tests, the longest, come first.
test: check
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed
	$(BIN)/python -m pytest tests/bench -o python_files='bench_*.py' -s
