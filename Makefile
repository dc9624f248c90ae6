# The commands to know. Each creates .venv on first use; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help test lint demo bench compare soak fuzz chaos mutate docs test-min test-packages test-real test-vllm test-templates record-vllm test-ray findings package format clean

help:
	@echo 'make test     run every test against the stand-in server'
	@echo 'make lint     check style, types, spelling, layers, secrets, vulnerabilities'
	@echo 'make demo     ask, stream and run an agent'
	@echo 'make bench    compare CPU time with other integrations (slow), or with BASE=<commit>'
	@echo 'make docs     build the documentation site in site/'
	@echo 'also: compare soak fuzz chaos mutate test-min test-packages test-real test-vllm test-templates record-vllm test-ray findings package format clean'

test: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses auto
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/typing/mypy.ini tests/typing
	$(BIN)/pyright
	$(BIN)/codespell
	$(BIN)/lint-imports --no-cache
	git ls-files -z ':!tests/unit/wire' ':!*.ambr' | xargs -0 $(BIN)/detect-secrets-hook
	.ci/audit $(BIN)

demo: .venv-demo/.installed
	.venv-demo/bin/python examples/demo.py

# Only what the demo needs; the tests need five times as much.
.venv-demo/.installed: pyproject.toml constraints.txt
	@echo 'Installing the package and LangChain into .venv-demo (half a minute).'
	@$(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/python -m pip install --quiet 'pip>=25.1'
	@.venv-demo/bin/pip install --quiet --constraint constraints.txt \
		--editable '.[testing]' --group demo
	@touch $@

# BASE=<commit> compares with that commit instead, INSTRUCTIONS=1 counts instructions, too.
bench: .venv-bench/.installed .venv-bench-llm/.installed
ifdef BASE
	.venv-bench/bin/python -m tests.benchmarks.pairs $(BASE) $(if $(INSTRUCTIONS),--instructions)
else
	.venv-bench/bin/python -m tests.benchmarks
	.venv-bench/bin/python -m tests.benchmarks.first_token
endif

compare: .venv-bench/.installed
	.venv-bench/bin/python -m tests.compare

# The other integrations need versions that the tests do not run at.
.venv-bench/.installed: pyproject.toml constraints-bench.txt
	@echo 'Installing the other integrations into .venv-bench (a minute or two).'
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet 'pip>=25.1'
	.venv-bench/bin/pip install --quiet --constraint constraints-bench.txt \
		--editable '.[cli]' --group bench
	touch $@

# Another command line, in an environment of its own, to compare starts with.
.venv-bench-llm/.installed:
	$(PYTHON) -m venv .venv-bench-llm
	.venv-bench-llm/bin/pip install --quiet llm==0.36
	touch $@

soak: $(STAMP)
	$(BIN)/python -m tests.soak

fuzz: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --group fuzz
	$(BIN)/python -m tests.fuzz

# Does a test fail for each of 120 small changes of the code? An hour; if interrupted, the
# next run continues. OPTIONS='--number 20 --only wire.py' chooses others.
mutate: $(STAMP)
	$(BIN)/python -m tests.mutate $(OPTIONS)

# 1,000 calls to each of two third-party servers that fail at random; needs npm.
chaos: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --group chaos
	npm install --silent --prefix .venv-chaos @copilotkit/aimock@1.43.0
	$(BIN)/python -m tests.chaos .venv-chaos

# Checks links and anchors, too; `make test` runs the code of the pages.
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet
	.venv-docs/bin/proselint check --config .proselint.json *.md docs/*.md docs/upstream/*.mdx
	@echo 'To look at it: python3 -m http.server --directory site'

# The site's plugins need an older markdown-it-py than the command line.
.venv-docs/.installed: pyproject.toml constraints-docs.txt
	@echo 'Installing MkDocs into .venv-docs (half a minute).'
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet 'pip>=25.1'
	.venv-docs/bin/pip install --quiet --constraint constraints-docs.txt \
		--editable . --group docs
	touch $@

# Packages that take LangChain models, in an environment for each set of pins: 3 GB.
test-packages:
	$(PYTHON) -m tests.packages $(NAMES)

# Tests against third-party servers; builds llama.cpp, which takes a few minutes.
test-real: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --group real
	$(BIN)/python -m pytest tests/real

# Tests against the real vLLM engine in .venv-vllm: 4 GB, a few minutes the first time.
test-vllm: $(STAMP)
	if $(BIN)/python -m tests.vllm.environment; then $(BIN)/python -m pytest tests/vllm; fi

# What is sent, rendered with the chat templates of 70 models in .venv-templates: 400 MB.
test-templates: $(STAMP)
	$(BIN)/python -m tests.templates.environment
	$(BIN)/python -m pytest tests/templates

record-vllm: $(STAMP)
	$(BIN)/python -m tests.vllm.record

# Ray is too large for the environment of the other tests.
test-ray:
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet 'pip>=25.1'
	.venv-ray/bin/pip install --quiet --constraint constraints.txt \
		--editable '.[cli]' --group test --group demo ray==2.60.0
	.venv-ray/bin/python -m pytest tests/integration/test_scale.py

# What surprised us in other software still holds: half an hour, outside continuous integration.
findings:
	$(PYTHON) -m scripts.findings $(ONLY)

# Build wheel and sdist, and exercise the wheel in a clean environment.
package: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --group package
	.ci/package $(BIN)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Tests at the lower bounds of the dependencies, in a separate environment.
test-min:
	$(PYTHON) -m venv .venv-min
	.venv-min/bin/python -m pip install --quiet 'pip>=25.1'
	.venv-min/bin/pip install --quiet --constraint constraints-min.txt \
		--editable '.[cli]' --group test --group demo
	.venv-min/bin/python -m pytest

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'pip>=25.1'
	$(BIN)/pip install --quiet --constraint constraints.txt \
		--editable '.[cli]' --group test --group lint --group demo
	touch $(STAMP)

clean:
	rm -rf .venv .venv-min .venv-demo .venv-docs .venv-bench .venv-bench-llm .venv-chaos .venv-packages-* .venv-ray .venv-vllm* .venv-templates .mypy_cache .ruff_cache .pytest_cache .hypothesis .mutate dist
