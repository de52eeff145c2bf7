# `make demo` and `make test` do all the set-up themselves; `make install` makes the environment alone.
PYTHON ?= python3
BIN := .venv/bin
# The demo needs the packages of its users only; all else needs the development tools, too.
DEMO_STAMP := .venv/.installed-demo
STAMP := .venv/.installed
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
# An index of other builds of torch than PyPI's, such as PyTorch's of CPU builds (docs/install.md).
TORCH_INDEX ?=

# Without its bytecode torch is compiled again by every process, which doubles the tests' time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-slow lint docs schemas clean

install: $(STAMP)

$(DEMO_STAMP): pyproject.toml constraints.txt
	@$(call say_size,trainer)
	$(call prepare)
	$(UV) --editable '.[browse,trainer]'
	touch $@

$(STAMP): pyproject.toml constraints.txt
	@$(call say_size,dev)
	$(call prepare)
	$(UV) --editable '.[trainer,dev]'
	touch $@ $(DEMO_STAMP)

# uv is put inside .venv and pinned like everything else: it installs the large packages in seconds.
define prepare
test -x $(BIN)/python || $(PYTHON) -m venv .venv
$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
test -z "$(TORCH_INDEX)" || $(UV) --no-deps --index-url "$(TORCH_INDEX)" torch torchvision
endef

# What `python -m benchmarks.install_size` found.
say_size = $(PYTHON) -c 'import json; s = json.load(open("benchmarks/results/install_size.json"))["results"]["$(1)"]; \
	print("Installing into .venv: %d packages, %.1f GB on disk, most of it torch for NVIDIA GPUs." % (s["packages"], s["MB"] / 1000), \
	"A smaller one for CPUs: docs/install.md")'

demo: $(DEMO_STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" --numprocesses 3 --dist worksteal

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m schemas --check
	$(BIN)/repo-review .

docs: $(STAMP)
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "open docs/_build/html/index.html"

schemas: $(STAMP)
	$(BIN)/python -m schemas

clean:
	rm -rf .venv build demo dist docs/_build
