# make demo and make test do everything on a fresh machine: a virtual environment, the C, and then what they are called
# for. See CONTRIBUTING.md; `make help` lists the rest.

VENV ?= .venv
ARGS ?=

PYTHON_OF_VENV = $(VENV)/bin/python
C_SOURCES := $(wildcard ouroboros/dataplane/src/*.[ch] ipcpd/dataplane/src/*.[ch] tools/olab/emulator/src/*.[ch])
C_BUILD   := $(C_SOURCES) $(wildcard ouroboros/dataplane/build.py ipcpd/dataplane/build.py tools/olab/emulator/build.py)
C_FOLDERS := $(sort $(dir $(C_SOURCES)))
C_CHECK   := -std=gnu11 -O2 -c -o /dev/null -Wall -Wextra -Wshadow -Wconversion -Werror $(addprefix -I,$(C_FOLDERS))

# Without optimisation: what gcc has merged and moved before it looks confuses the analyser.
C_ANALYSE := -std=gnu11 -O0 -c -o /dev/null -fanalyzer -Wall -Wextra -Werror $(addprefix -I,$(C_FOLDERS))

# What is sanitized: all that runs our C in one process, and systems of each kind. Programs that the IRMd starts get a clean
# environment, without the sanitizers' runtime, so tests with those are not among them. The models have no C in them, and what is killed at every instruction is too slow.
SANITIZED := tests/unit/dataplane tests/unit/frcp tests/unit/library tests/unit/ipcpd --ignore-glob='*/test_model_*' \
    --ignore=tests/unit/dataplane/test_kill.py \
    tests/system/test_fork.py tests/system/test_udp.py::test_an_ipcp_is_killed \
    tests/system/test_unicast.py::test_a_member_that_is_killed_is_gone_round \
    tests/system/test_broadcast.py::test_the_middle_of_a_line_is_killed_and_comes_back \
    tests/system/test_ethernet.py tests/system/test_streams.py

PACKAGES := ouroboros irmd ipcpd tools

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Two of pip at once would spoil the environment.
.NOTPARALLEL:
.PHONY: help demo test fuzz soak bench lint analyze sanitize coverage mutants sdist newest fmt proto install clean

help: ## show this list
	@echo "Ouroboros: the recursive network in Python"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "VENV=path puts the virtual environment elsewhere (now $(VENV)); PYTHON=path chooses the interpreter;"
	@echo "ARGS='...' goes to pytest, the soak and the benchmark, e.g.  make test ARGS='tests/unit -x'"

demo: $(VENV)/.built $(VENV)/.extra-lab ## the networks of the paper on this machine, as any user
	@$(PYTHON_OF_VENV) demo/demo.py $(ARGS)

test: $(VENV)/.built $(VENV)/.extra-dev $(VENV)/.extra-bench ## run all tests
	@$(PYTHON_OF_VENV) -m pytest $(ARGS)

fuzz: $(VENV)/.built $(VENV)/.extra-dev ## the fuzz tests, with a hundred times as many examples
	@$(PYTHON_OF_VENV) -m pytest tests/fuzz tests/unit/wire tests/unit/ipcpd/unicast tests/unit/tools/test_ocap.py --hypothesis-profile=long $(ARGS)

soak: $(VENV)/.built $(VENV)/.extra-dev $(VENV)/.extra-bench $(VENV)/.extra-lab ## flows allocated and closed for 20 minutes, with kills (ARGS='--minutes 5 --places here')
	@$(PYTHON_OF_VENV) -m tests.soak $(ARGS)

bench: $(VENV)/.built $(VENV)/.extra-bench $(VENV)/.extra-lab ## measure, against what one would use instead (ARGS='--json --quick')
	@$(PYTHON_OF_VENV) -m tests.bench $(ARGS)

lint: $(VENV)/.built $(VENV)/.extra-dev ## check format, style, types and C warnings; change nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy --strict $(PACKAGES)
	@echo "$(CC) $(C_CHECK)"; for source in $(filter %.c,$(C_SOURCES)); do \
	    $(CC) $(C_CHECK) $$source || exit 1; \
	done

analyze: ## look for faults in the C with gcc's static analyser
	@echo "$(CC) $(C_ANALYSE)"; for source in $(filter %.c,$(C_SOURCES)); do \
	    $(CC) $(C_ANALYSE) $$source || exit 1; \
	done

sanitize: $(VENV)/.built ## the tests of the C, and one system test of each kind, with the sanitizers for addresses and undefined behaviour
	@PYTHON_OF_VENV=$(PYTHON_OF_VENV) scripts/variant sanitize .venv/bin/python -m pytest -q $(or $(ARGS),$(SANITIZED))

coverage: $(VENV)/.built ## run all tests (or ARGS) and report which lines of Python and of C they execute
	@PYTHON_OF_VENV=$(PYTHON_OF_VENV) scripts/variant coverage scripts/coverage $(ARGS)

mutants: $(VENV)/.built $(VENV)/.extra-dev ## small defects in the pure machines: which do the tests not notice? (ARGS='lsdb fa' some modules)
	@$(PYTHON_OF_VENV) -m tests.mutants $(ARGS)

sdist: $(VENV)/.built ## build the source distribution, unpack it, and run its unit tests from there
	@scripts/sdist $(VENV) $(ARGS)

newest: $(VENV)/.built ## the unit tests with the newest Python that this machine has
	@PYTHON_OF_VENV=$(PYTHON_OF_VENV) scripts/variant newest .venv/bin/python -m pytest -q $(or $(ARGS),tests/unit)

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
