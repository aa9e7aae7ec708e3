# Each target makes the environment that it needs; nothing but Python 3.11+ is expected to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup demo test test-long lint bench generated typecheck-tree clean

setup: $(VENV)/.dev

demo: $(VENV)/.demo
	$(BIN)/zhiling run recipes/quickstart.yaml

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -m long -n 2

lint: $(VENV)/.dev typecheck-tree
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/zhiling template lint
	$(BIN)/zhiling template test
	$(BIN)/zhiling leaderboard verify results

# what is made from the packs and committed: snapshots, the table of packs, lm-eval tasks
generated: $(VENV)/.dev
	$(BIN)/zhiling template test --update
	$(BIN)/zhiling template report --write templates/README.md
	$(BIN)/zhiling tasks export --all -o eval_tasks/tasks

bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	for name in render render_memory build duplicates train head eval; do $(BIN)/python benchmarks/$$name.py || exit 1; done

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit("zhiling needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first: its pinned version is the one that may resolve to a CPU build
$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) $$(grep '^torch==' constraints.txt)
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) -e '.[dev]'
	@touch $@

# mypy sees the tree as it is installed: zhiling.builders is builders/, and so on
typecheck-tree:
	@mkdir -p .typecheck/zhiling
	@for file in zhiling/*; do ln -sfn ../../$$file .typecheck/zhiling/; done
	@for room in templates builders trainer eval_tasks cards; do ln -sfn ../../$$room .typecheck/zhiling/$$room; done

clean:
	rm -rf $(VENV) .typecheck build dist *.egg-info
