# make demo and make test do everything on a fresh machine: a virtual environment, the C, and then what they are called
# for. See CONTRIBUTING.md; `make help` lists the rest.

VENV ?= .venv
ARGS ?=

PYTHON_OF_VENV = $(VENV)/bin/python
C_SOURCES := $(wildcard ouroboros/dataplane/src/*.[ch] ipcpd/dataplane/src/*.[ch] tools/olab/emulator/src/*.[ch])
C_BUILD   := $(C_SOURCES) $(wildcard ouroboros/cubes.py ouroboros/dataplane/build.py ipcpd/dataplane/build.py tools/olab/emulator/build.py)
C_FOLDERS := $(sort $(dir $(C_SOURCES)))
C_CHECK   := -std=gnu11 -O2 -c -o /dev/null -Wall -Wextra -Wshadow -Wconversion -Werror $(addprefix -I,$(C_FOLDERS))

# Without optimisation, because code that gcc has merged and moved confuses its analyser. Each version of gcc finds other things: a warning is
# an error with the version that finds nothing, and is only printed with others.
C_ANALYSE := -std=gnu11 -O0 -c -o /dev/null -fanalyzer -Wall -Wextra $(addprefix -I,$(C_FOLDERS))
ANALYSED_BY := 12

# With sanitizers run the tests that have our C in one process, threads that use objects that another thread closes, and a system of each
# kind: direct flows, local, unicast, UDP, Ethernet, broadcast, encryption, and forked processes. The models have no C in them; the test that
# kills at every instruction is too slow; the tests without memory raise a signal that the sanitizers handle themselves; programs that
# the IRMd starts have a clean environment, without the runtime of the sanitizers.
SANITIZED := tests/unit/dataplane tests/unit/frcp tests/unit/library tests/unit/ipcpd/test_relay.py tests/unit/ipcpd/test_punt.py \
    tests/unit/ipcpd/test_fib.py tests/unit/ipcpd/test_sealed_port.py tests/unit/ipcpd/test_fanout.py \
    tests/unit/ipcpd/test_lifetimes.py tests/unit/ipcpd/test_dt.py tests/unit/ipcpd/test_congestion.py \
    tests/unit/ipcpd/eth/test_frames.py tests/unit/ipcpd/udp/test_dataplane.py \
    --ignore-glob='*/test_model_*' --ignore=tests/unit/dataplane/test_kill.py --ignore=tests/unit/dataplane/test_memory_taken.py \
    tests/system/test_interruptions.py::test tests/system/test_flows.py::test_a_forgotten_flow_warns_and_is_deallocated \
    tests/system/test_fork.py tests/system/test_encryption.py::test_in_one_system \
    tests/system/test_unicast.py::test_a_name_at_one_end_is_found_at_the_other \
    tests/system/test_unicast.py::test_the_server_is_killed_and_the_members_live_on \
    tests/system/test_udp.py::test_pings tests/system/test_ethernet.py::test_the_end_of_an_ipcp \
    tests/system/test_broadcast.py::test_readers_print_what_the_paper_shows

# The report of coverage counts the tests of the modules, and of a system of each kind.
COVERED := tests/unit --ignore-glob='*/test_model_*' --ignore=tests/unit/bench --ignore=tests/unit/dataplane/test_kill.py \
    tests/system/test_flows.py tests/system/test_irm_layers.py tests/system/test_encryption.py tests/system/test_unicast.py \
    tests/system/test_udp.py tests/system/test_ethernet.py tests/system/test_broadcast.py

PACKAGES := ouroboros irmd ipcpd tools

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Two of pip at once would spoil the environment.
.NOTPARALLEL:
.PHONY: help demo test fuzz soak bench lint analyze sanitize coverage mutants sdist newest fmt proto docs man install clean

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
	@echo 'int i;' | $(CC) -fanalyzer -fsyntax-only -xc - 2>/dev/null || { echo "skipped: $(CC) has no -fanalyzer"; exit 0; }; \
	error=; [ "$$($(CC) -dumpversion)" != $(ANALYSED_BY) ] || error=-Werror; \
	echo "$(CC) $(C_ANALYSE) $$error"; for source in $(filter %.c,$(C_SOURCES)); do \
	    $(CC) $(C_ANALYSE) $$error $$source || exit 1; \
	done

sanitize: $(VENV)/.built ## the tests of the C, and one system of each kind, with the sanitizers for addresses and undefined behaviour
	@PYTHON_OF_VENV=$(PYTHON_OF_VENV) scripts/variant sanitize .venv/bin/python -m pytest -q $(or $(ARGS),$(SANITIZED))

coverage: $(VENV)/.built ## run the tests of the modules and a system of each kind (or ARGS), and report which lines of Python and of C they execute
	@PYTHON_OF_VENV=$(PYTHON_OF_VENV) scripts/variant coverage scripts/coverage $(or $(ARGS),$(COVERED))

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
	    --python_out=. --mypy_out=. ouroboros/rpc/messages.proto ipcpd/wire/*.proto

docs: $(VENV)/.extra-docs ## build the documentation site into build/docs; a link that leads nowhere is an error
	$(PYTHON_OF_VENV) -m sphinx -q -W --keep-going -b html docs build/docs

man: $(VENV)/.built $(VENV)/.extra-lab ## write the manual pages into build/man
	$(PYTHON_OF_VENV) scripts/manuals build/man

install: $(VENV)/.built $(VENV)/.extra-lab ## only make the virtual environment, with irmd, irm and the tools in its bin
	@echo "Ready: $(VENV)/bin has irmd, irm, oping, oecho, obc, ocbr, operf, ocap and olab.  Try:  . $(VENV)/bin/activate"

clean: ## remove all that make has made, the virtual environment included
	@if [ -e $(VENV)/.requirements ]; then rm -rf $(VENV); fi
	rm -rf build dist *.egg-info .build .pytest_cache .mypy_cache .ruff_cache .hypothesis demo/pictures
	for folder in ouroboros/dataplane ipcpd/dataplane tools/olab/emulator; do \
	    rm -f $$folder/*.so $$folder/*.o $$folder/_dataplane.c $$folder/_ipcp.c $$folder/_emulator.c; done
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
