# Everything runs from .venv, which the first target that needs it sets up. No target asks for root
# but `peers`. Another interpreter: `make test PYTHON=python3.13`. One test: CONTRIBUTING.md.

PYTHON ?= python3
JOBS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?=
FUZZ_ARGS ?=
SOAK_ARGS ?=

version := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ready := .venv/.ready-$(version)
python := .venv/bin/python
# Calls in real time come first and meet no work that takes all CPUs; tests of one group, which go on
# beside each other, stay in one job; all others are handed out one by one.
pytest := $(python) -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder

# Tests start many programs, which otherwise would compile the package each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo test check lint peers quality codec-quality jitter-quality fuzz soak interop rfc-status clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(ready) ## set up .venv

# The stamp carries the Python version, so that another PYTHON makes .venv anew.
$(ready): pyproject.toml $(wildcard voip/*/_*.c voip/*/*.h voip/media/tick/*.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$(PYTHON) $(if $(version),is Python $(version),does not run): Python 3.11 or newer is needed (PYTHON=...)" >&2; exit 1; }
	@echo "Setting up .venv with Python $(version), less than a minute the first time ..." >&2
	@$(python) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(version)")' 2>/dev/null \
	    || $(PYTHON) -m venv --clear .venv
	@$(python) -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@rm -f .venv/.ready-*
	@touch $@

demo: venv ## place a real call to an embedded PBX on loopback and print what was heard
	@.venv/bin/voip demo $(DEMO_ARGS)

test: venv ## the whole test suite, benchmarks too; what needs peers or reference data that are not there is skipped
	@$(pytest) $(PYTEST_ARGS)

check: lint ## for every commit, under two minutes: lint, types, import contracts, the short tests without peers
	@$(pytest) -m 'not peer and not matrix and not bench and not long' --ignore=tests/interop --hypothesis-profile=check $(PYTEST_ARGS)

lint: venv ## format, lint, types, import contracts
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

peers: ## install the real peers; needs root on Debian
	@$(PYTHON) tools/peers.py
	@owner=$$(stat -c %U .); \
	if [ "$$owner" = "$$(id -un)" ] || ! id "$$owner" >/dev/null 2>&1; \
	then $(MAKE) --no-print-directory quality; \
	else runuser -u "$$owner" -- $(MAKE) --no-print-directory quality; fi

quality: venv ## PESQ, STOI and Matplotlib into .venv; needs a compiler, which `make peers` installs
	@$(python) -c 'from importlib.metadata import version as v; v("pesq"), v("pystoi"), v("matplotlib")' 2>/dev/null || { \
	    echo "Building PESQ ..."; \
	    $(python) -m pip install -qq --disable-pip-version-check --editable '.[quality]'; }

codec-quality: quality ## judge all codecs by PESQ, and write docs/codec-quality.*; some minutes
	@$(python) tests/codec_quality.py

jitter-quality: quality ## judge the jitter buffer by PESQ, and write docs/jitter.*; some minutes
	@$(python) tests/jitter_quality.py

fuzz: venv ## ten million inputs to everything that reads from the network; goes on where it was stopped
	@$(python) tests/fuzz/fuzz_run.py --jobs $(JOBS) $(FUZZ_ARGS)

soak: venv ## 100,000 random calls in seven simulated days, and calls with sound for long; what is left of them, and what grows
ifeq ($(SOAK_ARGS),)
	@$(python) -m voip.harness.soak
	@$(python) -m voip.harness.soak --media virtual
	@$(python) -m voip.harness.soak --media real
else
	@$(python) -m voip.harness.soak $(SOAK_ARGS)
endif

interop: venv ## everything against the peers, the slow matrices too; the result goes to docs/
	@$(pytest) -m 'peer or matrix' tests/interop --interop-results=docs/interop-results.json $(PYTEST_ARGS)

rfc-status: venv ## run the tests of flows and RFCs, and write docs/rfc-status.md
	@$(pytest) -m rfc -q --rfc-status=docs/rfc-status.md $(PYTEST_ARGS)

clean: ## remove .venv and everything that was generated
	rm -rf .venv artifacts build dist *.egg-info .coverage* .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
