# One command for each thing a person does with this tree. Every target installs what it needs and is missing (`make deps`).
# CMake does the work; `cmake --workflow --preset dev` is the developer's loop without this file.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

JOBS ?= $(shell nproc)
PYTHON := .venv/bin/python
CCACHE := $(shell command -v ccache 2>/dev/null)
CONFIGURE_ARGS := $(if $(CCACHE),-DCMAKE_CXX_COMPILER_LAUNCHER=$(CCACHE),)
CTEST := ctest --output-on-failure --no-tests=error --parallel $(JOBS)
# Cubins of known models go into the release build where `make deps` put NVRTC (on a machine without pip they are left out).
NVRTC = $(firstword $(wildcard .venv/lib/python3*/site-packages/nvidia/cu13/lib))
SHIP = $(if $(NVRTC),-DFOVEA_SHIP_CUBINS=ON -DFOVEA_NVRTC=$(CURDIR)/$(NVRTC),)
# The binding of the Python package, where `make deps` put tvm-ffi; its tests run with the others.
PYTHON_BINDING = $(if $(wildcard .venv/lib/python3*/site-packages/tvm_ffi),-DFOVEA_PYTHON=ON -DPython_EXECUTABLE=$(CURDIR)/$(PYTHON),)
# What keeps sanitizer builds short: one instruction set, no command (its libraries are the slowest to compile), a thinner conformance
# matrix. The full matrix is `make test-full`.
REDUCED := -DFOVEA_CPU_ISAS=avx2 -DFOVEA_BUILD_CLI=OFF
# Where threads meet.
THREAD_TESTS := engine_test promises_test append_test states_test
FUZZ_SECONDS ?= 300

.NOTPARALLEL:
.PHONY: help deps build demo test test-full check-format check-layers check-device build-release test-release asan tsan fuzz mutation pages format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

deps: ## install what is missing: Debian packages, and Python packages into .venv
	@tools/install_deps.sh

build: deps build-release ## release build; the command is build/fovea

build-release:
	cmake --preset release $(CONFIGURE_ARGS) $(SHIP) $(PYTHON_BINDING)
	cmake --build --preset release --parallel $(JOBS)
	ln -sfn release/fovea build/fovea

# One token for eight of the trace, a cache so small that requests are preempted, twenty steps compared with the reference.
DEMO := traces/chat.jsonl --model llama-3.1-8b --shrink 8 --kv-tokens 4096 --check 20

demo: build ## replay a serving trace: a table here, plots in build/demo/replay.html
	mkdir -p build/demo
	build/fovea replay $(DEMO) --json build/demo/replay.json
	PYTHONPATH=python $(PYTHON) -m fovea.report build/demo/replay.json --output build/demo/replay.html

test: deps check-format check-layers check-device test-release ## everything CI runs
	$(MAKE) asan tsan CONFIGURE_ARGS="$(CONFIGURE_ARGS) $(REDUCED)"
	@echo "make test: all passed"

test-full: deps check-format check-layers check-device ## every test with every axis, all instruction sets, under the sanitizers too (long)
	FOVEA_TEST_MATRIX=full $(MAKE) test-release
	$(MAKE) asan tsan FOVEA_TEST_MATRIX=full

check-format:
	tools/format.sh --check

check-layers:
	python3 tools/check_layers.py --self-test
	python3 tools/check_layers.py

check-device:
	$(PYTHON) tests/nvrtc/check_device_code.py --require

test-release: build-release
	cd build/release && $(CTEST)

# The sanitizer runs leave out what tests no library code (labels "tree" and "install").
asan: deps ## address and undefined-behaviour sanitizers, with a short fuzz run
	cmake --preset asan $(CONFIGURE_ARGS)
	cmake --build --preset asan --parallel $(JOBS)
	cd build/asan && FOVEA_TEST_MATRIX=$${FOVEA_TEST_MATRIX:-small} UBSAN_OPTIONS=print_stacktrace=1 $(CTEST) -LE 'tree|install'

tsan: deps ## thread sanitizer
	cmake --preset tsan $(CONFIGURE_ARGS)
	cmake --build --preset tsan --parallel $(JOBS) --target $(THREAD_TESTS)
	cd build/tsan && FOVEA_TEST_MATRIX=$${FOVEA_TEST_MATRIX:-small} \
	  TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp" $(CTEST) -R '^($(shell echo $(THREAD_TESTS) | tr ' ' '|'))$$'

fuzz: deps ## fuzz for FUZZ_SECONDS (300); the corpus stays in build/corpus
	cmake --preset asan $(CONFIGURE_ARGS)
	cmake --build --preset asan --parallel $(JOBS) --target fovea_fuzz
	mkdir -p build/corpus
	build/asan/tests/fuzz/fovea_fuzz -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 build/corpus

mutation: build ## plant defects one by one; each must be caught
	python3 tools/mutation.py

pages: build ## the generated pages: docs/gallery.md with its pictures, docs/vectorisation.md
	python3 tools/gallery.py build/fovea
	python3 tools/vectorisation.py build/release --write

format: deps ## clang-format over the tree
	tools/format.sh

clean: ## remove build/ (not .venv)
	rm -rf build
