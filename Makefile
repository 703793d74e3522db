# segstudio: everything starts here. `make` alone says what there is.
#
#   make demo              Label Studio with SAM assist, agreement and export on this machine
#   make demo ARGS=--exit  the same, and stops when all of it has been done
#   make test ARGS="-k masks"
#
# Variables:
#   PYTHON      the Python (3.11 to 3.13) to use instead of the first one found
#   ARGS        arguments for the command behind the target
#   TORCH_SPEC  a `pip install` to run first, for a build of torch of your choice, such as
#               TORCH_SPEC="torch torchvision --index-url <an index with CPU builds>"
#               (otherwise the package index gives its default build, about 5 GB with CUDA, which
#               runs on a CPU as well)
#   PIP_ARGS    more arguments for every `pip install`

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LABEL_STUDIO_VENV := $(or $(SEGSTUDIO_LABEL_STUDIO_VENV),.venv-label-studio)
LABEL_STUDIO_ML_VENV := $(or $(SEGSTUDIO_LABEL_STUDIO_ML_VENV),.venv-label-studio-ml)

# The first Python that really starts (version managers leave stubs that fail when run), is of a
# supported version, and can make virtual environments.
PYTHON_CHECK := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench label-studio label-studio-ml chromium clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

install: $(STAMP) ## the environment .venv with segstudio and its tools

$(STAMP): pyproject.toml
	@set -e; \
	candidates="$(PYTHON)"; \
	if [ -z "$$candidates" ]; then candidates="python3.13 python3.12 python3.11 python3"; fi; \
	found=""; \
	for candidate in $$candidates; do \
	  if "$$candidate" -c '$(PYTHON_CHECK)' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "segstudio needs Python 3.11, 3.12 or 3.13 with the venv module; none of these starts here: $$candidates. Install one (on Debian and Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12" >&2; \
	  exit 2; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "Setting up with $$found ($$("$$found" -c 'import platform; print(platform.python_version())')). The first time torch is downloaded, up to 5 GB; TORCH_SPEC in the Makefile tells how to choose a smaller build." >&2; \
	fi; \
	"$$found" demo/environments.py $(VENV) --what "segstudio and its tools" \
	  --first "$(TORCH_SPEC)" -- -e ".[dev]" $(PIP_ARGS); \
	echo "Compiling the kernels once ..." >&2; \
	$(BIN)/python -m segstudio.warm_up; \
	touch $(STAMP)

demo: $(STAMP) ## Label Studio, SAM assist, agreement, exports: all of it on this machine
	@$(BIN)/segstudio demo $(ARGS)

label-studio: $(STAMP) ## the environment of the Label Studio server, for the demo and the tests
	@$(BIN)/python -m demo.label_studio_server $(LABEL_STUDIO_VENV)

label-studio-ml: $(STAMP) ## the environment of label-studio-ml, for the tests of ml_backend/model.py
	@$(BIN)/python -m tests.ml_backend.label_studio_ml $(LABEL_STUDIO_ML_VENV)

chromium: ## a Chromium for the browser test, where this may install one
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
	  || command -v google-chrome >/dev/null || [ -n "$$SEGSTUDIO_CHROMIUM" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium for the browser test ..." >&2; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
	  || echo "apt-get could not install Chromium; the browser test needs one (SEGSTUDIO_CHROMIUM=/path/to/chromium)." >&2; \
	else \
	  echo "No Chromium here and no right to install one: the browser test cannot run. Install the package chromium, or set SEGSTUDIO_CHROMIUM=/path/to/chromium." >&2; \
	fi

test: $(STAMP) label-studio label-studio-ml chromium ## every test: units, the real server, a real browser
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## ruff, mypy --strict, the import rules of the house
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## ruff's formatting and safe fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## the benchmarks; ARGS=--smoke runs each once on small inputs
	@set -e; for file in benchmarks/bench_*.py; do \
	  name=$$(basename $$file .py); echo "-- $$name" >&2; \
	  $(BIN)/python -m benchmarks.$$name $(ARGS); \
	done

clean: ## removes what the demo and the tests wrote; the environments stay
	rm -rf demo-output test-artifacts dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
