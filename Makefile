# make demo and make test do everything on a fresh machine: a virtual environment, the C, and then what they are called
# for. See CONTRIBUTING.md; `make help` lists the rest.

VENV ?= .venv
ARGS ?=

PYTHON_OF_VENV = $(VENV)/bin/python
C_SOURCES := $(wildcard ouroboros/dataplane/src/*.[ch] ipcpd/dataplane/src/*.[ch] tools/olab/emulator/src/*.[ch])
C_BUILD   := $(C_SOURCES) $(wildcard ouroboros/dataplane/build.py ipcpd/dataplane/build.py tools/olab/emulator/build.py)
C_FOLDERS := $(sort $(dir $(C_SOURCES)))
C_CHECK   := -std=gnu11 -O2 -c -o /dev/null -Wall -Wextra -Wshadow -Wconversion -Werror $(addprefix -I,$(C_FOLDERS))

PACKAGES := ouroboros irmd ipcpd tools

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Two of pip at once would spoil the environment.
.NOTPARALLEL:
.PHONY: help demo test fuzz bench lint fmt proto install clean

help: ## show this list
	@echo "Ouroboros: the recursive network in Python"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "VENV=path puts the virtual environment elsewhere (now $(VENV)); PYTHON=path chooses the interpreter;"
	@echo "ARGS='...' goes to pytest and to the benchmark, e.g.  make test ARGS='tests/unit -x'"

demo: $(VENV)/.built $(VENV)/.extra-lab ## the networks of the paper on this machine, as any user
	@$(PYTHON_OF_VENV) demo/demo.py $(ARGS)

test: $(VENV)/.built $(VENV)/.extra-dev $(VENV)/.extra-bench ## run all tests
	@$(PYTHON_OF_VENV) -m pytest $(ARGS)

fuzz: $(VENV)/.built $(VENV)/.extra-dev ## the fuzz tests, with a hundred times as many examples
	@$(PYTHON_OF_VENV) -m pytest tests/fuzz tests/unit/wire tests/unit/ipcpd/unicast tests/unit/tools/test_ocap.py --hypothesis-profile=long $(ARGS)

bench: $(VENV)/.built $(VENV)/.extra-bench $(VENV)/.extra-lab ## measure, against what one would use instead (ARGS='--json --quick')
	@$(PYTHON_OF_VENV) -m tests.bench $(ARGS)

lint: $(VENV)/.built $(VENV)/.extra-dev ## check format, style, types and C warnings; change nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy --strict $(PACKAGES)
	@echo "$(CC) $(C_CHECK)"; for source in $(filter %.c,$(C_SOURCES)); do \
	    $(CC) $(C_CHECK) $$source || exit 1; \
	done

fmt: $(VENV)/.extra-dev ## format the Python code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

proto: $(VENV)/.extra-proto ## make every *_pb2.py from its .proto
	$(PYTHON_OF_VENV) -m grpc_tools.protoc -I. --plugin=protoc-gen-mypy=$(VENV)/bin/protoc-gen-mypy \
	    --python_out=. --mypy_out=. ouroboros/rpc/messages.proto ipcpd/unicast/wire/*.proto

install: $(VENV)/.built $(VENV)/.extra-lab ## only make the virtual environment, with irmd, irm and the tools in its bin
	@echo "Ready: $(VENV)/bin has irmd, irm, oping, oecho, obc, ocbr, operf, ocap and olab.  Try:  . $(VENV)/bin/activate"

clean: ## remove all that make has made, the virtual environment included
	@if [ -e $(VENV)/.requirements ]; then rm -rf $(VENV); fi
	rm -rf build dist *.egg-info .build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f ouroboros/dataplane/*.so ipcpd/dataplane/*.so tools/olab/emulator/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

# Each step leaves a stamp in the virtual environment. One that came here with a copy of a checkout, or was moved,
# leads to the other place: it is made anew.
ifneq ($(CURDIR),$(shell cat $(VENV)/.checkout 2>/dev/null))
$(VENV)/.requirements: FORCE
.PHONY: FORCE
endif

$(VENV)/.requirements: pyproject.toml scripts/bootstrap
	@scripts/bootstrap $(VENV)
	@touch $@

$(VENV)/.built: $(VENV)/.requirements pyproject.toml setup.py scripts/build scripts/stubs $(C_BUILD)
	@scripts/build $(VENV)
	@touch $@

$(VENV)/.extra-%: $(VENV)/.requirements pyproject.toml
	@scripts/bootstrap $(VENV) $*
	@touch $@
