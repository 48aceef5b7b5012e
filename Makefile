# Two commands do everything: `make demo` and `make test`. Both set up what they need in .venv and build/ and touch nothing
# else; a second run reuses both.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= torch==2.13.0

VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP := $(VENV)/bin/python -m pip install --quiet

CPP := $(shell find csrc -name '*.cpp' -o -name '*.c' -o -name '*.h')
CUDA := $(shell find csrc -name '*.cu')
NVCC := $(shell command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)

.PHONY: help setup build demo test lint format test-cpp test-cuda test-python bench wheel wheel-smoke clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(VENV)/ready  ## .venv with torch and the tools (about 2 minutes the first time)
build: $(VENV)/built  ## compile csrc/ into rwpm_fast/ (about 30 seconds)

$(VENV)/ready: pyproject.toml
	@echo "== set-up: $(VENV) with $(TORCH) and the tools of pyproject.toml"
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH) numpy
	$(PIP) 'setuptools>=77' 'cmake>=3.22' ninja 'pybind11>=2.12'
	@touch $@

$(VENV)/built: $(VENV)/ready $(CPP) CMakeLists.txt setup.py
	@echo "== build: csrc/ into rwpm_fast/"
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

demo: build  ## render a street, score it with the compact network, write a report
	@echo "== demo: a rendered street through the whole chain, report in build/demo"
	$(VENV)/bin/rwpm-fast demo --out build/demo

test: build lint test-cpp test-cuda test-python  ## everything that CI runs

# The tools alone, at the versions of pyproject.toml: linting compiles nothing.
LINT_TOOLS = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["lint"]
$(VENV)/lint-tools: $(VENV)/ready
	$(PIP) $$($(VENV)/bin/python -c 'import tomllib; print(*$(LINT_TOOLS))')
	@touch $@

lint: $(VENV)/lint-tools  ## ruff, clang-format, mypy, import-linter; needs no build
	@echo "== lint: style, types, and imports that run one way"
	ruff check .
	ruff format --check .
	clang-format --dry-run --Werror $(CPP) $(CUDA)
	mypy
	lint-imports

format: $(VENV)/lint-tools  ## rewrite Python and C++ in the project's style
	ruff check --fix .
	ruff format .
	clang-format -i $(CPP) $(CUDA)

test-cpp: build
	@echo "== ctest: the kernels without torch and Python, warnings are errors"
	cmake -S . -B build/cpp -G Ninja -DPython_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python -DRWPM_WARNINGS_AS_ERRORS=ON -DRWPM_CUDA=OFF > /dev/null
	cmake --build build/cpp --target rwpm_tests
	ctest --test-dir build/cpp --parallel 2 --output-on-failure

test-cuda: build
ifeq ($(NVCC),)
	@echo "== nvcc: not on this machine, the CUDA sources are not compiled"
else
	@echo "== nvcc: the CUDA kernels for every GPU they serve, warnings are errors"
	cmake -S . -B build/cuda -G Ninja -DPython_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python -DRWPM_WARNINGS_AS_ERRORS=ON -DRWPM_CUDA=ON -DCMAKE_CUDA_COMPILER=$(NVCC) > /dev/null
	cmake --build build/cuda --target rwpm_cuda
endif

test-python: build
	@echo "== pytest"
	$(VENV)/bin/python -m pytest -n auto --dist worksteal --durations=25

$(VENV)/docs: $(VENV)/built
	@echo "== docs: Sphinx into $(VENV)"
	$(PIP) 'rwpm-fast[docs]'
	@touch $@

.PHONY: docs
docs: $(VENV)/docs  ## the documentation into build/docs, warnings are errors
	@echo "== docs: build/docs/index.html"
	$(VENV)/bin/python -m sphinx --quiet --keep-going --fail-on-warning --builder html --doctree-dir build/doctrees docs build/docs

bench: build  ## time the walk beside its peers; ARGS="--pixels 1024 4096 --json FILE" and more: see ARGS=--help
	$(VENV)/bin/python -m bench $(ARGS)

wheel: build  ## build/wheel/*.whl, for this Python and any torch >= 2.11
	@echo "== wheel: build/wheel"
	rm -rf build/wheel
	$(VENV)/bin/python -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheel .

# The wheel as a user gets it: in an environment of its own, with SMOKE_TORCH in place of the torch it was built with.
SMOKE_TORCH ?= $(TORCH)
wheel-smoke: wheel  ## install the wheel in a clean environment and run it; SMOKE_TORCH=torch==X.Y.Z for another torch
	@echo "== wheel: smoke test with $(SMOKE_TORCH)"
	rm -rf build/smoke
	$(PYTHON) -m venv build/smoke
	build/smoke/bin/python -m pip install --quiet $(SMOKE_TORCH) "$$(ls build/wheel/*.whl)[cli]"
	cp python_tests/smoke.py build/smoke/ && cd build/smoke && bin/python smoke.py

clean:  ## remove .venv, build/ and what was compiled
	rm -rf $(VENV) build rwpm_fast.egg-info rwpm_fast/*.so
