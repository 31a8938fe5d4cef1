# Each target sets up what it needs, on a machine with Python >= 3.11, pip and a C++ compiler.
#   make run     the walk from a prompt to its continuations     PROMPT="..." MODEL=demo
#   make test    the whole suite
#   make bench   what decoding costs beside the model
#   make lint    ruff and mypy
#   make setup   a full development environment in .venv

PYTHON ?= python3
PROMPT ?= long long ago, I was
MODEL ?= demo
BIN := .venv/bin
NATIVE := CMakeLists.txt $(wildcard src/pellucid/native/*.cpp src/pellucid/native/*.hpp)
INPUTS := pyproject.toml constraints.txt $(NATIVE)

.PHONY: run test bench lint setup clean

run: .venv/.installed
	@$(BIN)/pellucid walk "$(PROMPT)" --model "$(MODEL)"

test: .venv/.developed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

bench: .venv/.installed
	$(BIN)/python benchmarks/decoder_cost.py

lint: .venv/.developed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: .venv/.developed

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python $(INPUTS)
	@echo "Installing Pellucid and what it needs into .venv; this takes a minute or two, once."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch]"
	@touch $@

.venv/.developed: .venv/bin/python $(INPUTS)
	@echo "Installing the development environment into .venv; this takes a few minutes, once."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@ .venv/.installed

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache
