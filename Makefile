# Each target installs what it needs. Requirements: Python >= 3.11, pip, a C++ compiler.
#   make run     `pellucid walk` on a prompt     PROMPT="..." MODEL=demo
#   make test    the whole suite
#   make lint    ruff and mypy
#   make check   lint, test, sanitize, emulate and test-wheel; continuous integration runs this
#   make test-wheel  the built wheel in an environment without torch and Transformers, and the tests that need neither
#   make wheels  wheels for CPython 3.11 to 3.14; needs a running Docker or Podman
#   make bench   decoding speed and decoder overhead
#   make bench-peers  installs the runtimes that `make bench` compares with, each in an environment under build/peers
#   make sanitize  the native engine under AddressSanitizer, UBSan and ThreadSanitizer
#   make emulate   the AVX-512, AVX-VNNI and AMX kernels, emulated on a processor without these instructions
#   make hostile   trials that try to break the library, for minutes, with a table     SCALE=10 SEED=0
#   make setup   a full development environment in .venv

PYTHON ?= python3
PROMPT ?= long long ago, I was
MODEL ?= demo
# The shell reads these two from its environment, unexpanded, so that quotes, `$` and backquotes in a prompt are text.
export PELLUCID_PROMPT = $(value PROMPT)
export PELLUCID_MODEL = $(value MODEL)
unexport PROMPT MODEL
BIN := .venv/bin
SCALE ?= 10
SEED ?= 0
PEERS := ctranslate2 llama_cpp openvino
NATIVE := CMakeLists.txt $(wildcard src/pellucid/native/*.cpp src/pellucid/native/*.hpp)
INPUTS := pyproject.toml constraints.txt $(NATIVE)

.PHONY: run test lint check test-wheel wheels bench bench-peers sanitize emulate hostile setup clean

run: .venv/.installed
	@$(BIN)/pellucid walk --model "$$PELLUCID_MODEL" -- "$$PELLUCID_PROMPT"

test: .venv/.developed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: .venv/.developed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/package/typed_client.py

check: lint test sanitize emulate test-wheel

# tests/conftest.py leaves out tests that need a package that is not installed.
test-wheel: .venv/.developed
	@rm -rf build/test-wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/test-wheel .
	$(PYTHON) -m venv build/test-wheel/.venv
	build/test-wheel/.venv/bin/python -m pip install --quiet build/test-wheel/*.whl pytest pytest-xdist hypothesis
	build/test-wheel/.venv/bin/python -m pytest -n 2 --dist loadgroup

wheels: .venv/bin/python
	@docker info > /dev/null 2>&1 || podman info > /dev/null 2>&1 || \
	  { echo "make wheels needs a running Docker or Podman: cibuildwheel builds Linux wheels in containers."; exit 1; }
	$(BIN)/python -m pip install --quiet cibuildwheel
	$(BIN)/python -m cibuildwheel --output-dir dist

bench: .venv/.developed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/decoder_cost.py
	$(BIN)/python benchmarks/decode.py --out benchmarks/results

# llama.cpp is compiled, which takes ten minutes or more. optimum-intel requires torchvision, which is not used here and
# whose PyPI build does not load with a CPU build of torch. `make -k` continues if one of them fails.
bench-peers: $(PEERS:%=build/peers/%/.installed)

build/peers/%/.installed: benchmarks/peers/%.txt constraints.txt
	@echo "Installing $* into build/peers/$*; this takes minutes, once."
	@$(PYTHON) -m venv build/peers/$*
	@CMAKE_ARGS="-DLLAVA_BUILD=OFF" build/peers/$*/bin/python -m pip install --quiet --constraint constraints.txt \
	  --requirement $<
	@build/peers/$*/bin/python -m pip uninstall --quiet --quiet --yes torchvision
	@touch $@

# The C++ test of the engine under AddressSanitizer with UBSan, and under ThreadSanitizer. Needs cmake and a compiler.
sanitize:
	@for kind in address,undefined thread; do \
	  cmake -S . -B build/sanitize-$$kind -DPELLUCID_MODULE=OFF -DPELLUCID_TESTS=ON -DPELLUCID_SANITIZE=$$kind \
	    -DCMAKE_BUILD_TYPE=RelWithDebInfo > /dev/null && \
	  cmake --build build/sanitize-$$kind --parallel 2 > /dev/null && \
	  echo "with $$kind:" && build/sanitize-$$kind/engine_test || exit 1; \
	done

# The same test with AVX-512, AVX-VNNI and AMX emulated, on any x86-64 processor with AVX2.
emulate:
	@cmake -S . -B build/emulate -DPELLUCID_MODULE=OFF -DPELLUCID_TESTS=ON -DPELLUCID_EMULATE=ON > /dev/null
	@cmake --build build/emulate --parallel 2 > /dev/null
	@build/emulate/engine_test

# The trials of tests/hostile with SCALE times the examples of `make test`, drawn from SEED. Random calls are made of the
# extension as it is installed, and of a build with AddressSanitizer and UBSan.
hostile: .venv/.developed
	@cmake -S . -B build/hostile -DPELLUCID_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	  -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" \
	  -Dnanobind_DIR="$$($(BIN)/python -m nanobind --cmake_dir)" > /dev/null
	@cmake --build build/hostile --parallel 2 > /dev/null
	PELLUCID_SANITIZED="$$(echo $(CURDIR)/build/hostile/_native.*so)" PELLUCID_HOSTILE_SCALE=$(SCALE) \
	  $(BIN)/python -m pytest tests/hostile -n 2 --dist loadgroup --hypothesis-seed=$(SEED)

setup: .venv/.developed

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python $(INPUTS)
	@echo "Installing Pellucid and what it needs into .venv; this takes a minute or two, once."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch]"
	@touch $@

.venv/.developed: .venv/bin/python $(INPUTS)
	@echo "Installing the development environment into .venv; this takes a few minutes, once."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	  --config-settings=cmake.define.PELLUCID_WARNINGS_AS_ERRORS=ON --editable ".[dev]"
	@touch $@ .venv/.installed

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache
