# What can be done here; `make help` lists it. Every target installs what it needs by itself:
# Python packages from requirements/*.lock into .venv (and, where versions clash, .venv-*).

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Empty means: the first of python3, python3.13, python3.12, python3.11 that is new enough.
PYTHON ?=
export PYTHON

# For `make run`; what is empty is started embedded, or chosen.
REDIS_URL ?=
UPSTREAM_ENDPOINT ?=
PORT ?=
OPS_PORT ?=

# For `make test`: more arguments to pytest, as in ARGS='-k fence'. All tests run in as many processes
# as there are processors, some in one: starting several takes longer than they save.
ARGS ?=
WORKERS ?= $(if $(ARGS),0,auto)

# For `make bench-layouts`; `make bench-levels` and `make bench-door` have defaults of their own.

# For `make bench-layouts`; `make bench-levels` has a default of its own. For `make bench` a file
# outside the repository: nothing is kept then, and a busy machine will do.
OUT ?= tests/bench/results/layouts.json
SPEED := tests/bench/results/speed.json

# For `make sim`: SEED= replays one history of PROFILE=; without it HISTORIES= of every profile run.
PROFILE ?=
SEED ?=
STEPS ?= 40
FIRST ?= 0
HISTORIES ?= 1000

# For `make chaos`, which also takes PROFILE= and SEED=; REPORT= is a file for the JSON.
CHAOS_S ?= 60
TOPOLOGY ?= single
REPORT ?=

# For `make image`.
BASE ?= python:3.13-slim
IMAGE ?= dynaside
BUILDER ?= $(firstword $(foreach tool,docker podman buildah,$(shell command -v $(tool))))

INSTALL := requirements/install.sh
JS := tests/e2e/js

.PHONY: help
help: ## list what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: .venv/.demo .venv/.project $(if $(UPSTREAM_ENDPOINT),,.venv-dynamodb/.installed)
run: ## serve on 127.0.0.1:8111; REDIS_URL= UPSTREAM_ENDPOINT= PORT= OPS_PORT= override
	@# exec, so that Ctrl-C reaches the demo; tied to make, so that killing make ends it too.
	@exec .venv/bin/python proxy/embedded/tether.py $$PPID 15 .venv/bin/dynaside demo \
		$(if $(REDIS_URL),--redis-url '$(REDIS_URL)') \
		$(if $(UPSTREAM_ENDPOINT),--upstream-endpoint '$(UPSTREAM_ENDPOINT)') \
		$(if $(PORT),--listen '127.0.0.1:$(PORT)') \
		$(if $(OPS_PORT),--ops-listen '127.0.0.1:$(OPS_PORT)')

.PHONY: setup
setup: .venv/.dev .venv/.project .venv-dynamodb/.installed .venv-clients/.installed
setup: .venv-lambda/.installed
setup: $(JS)/node_modules/.installed ## install everything the tests need

.PHONY: test
test: setup ## run all tests with branch coverage; ARGS= goes to pytest, WORKERS= processes run them
	@# Bytecode is kept even where the environment says otherwise: tests start the proxy hundreds of
	@# times, and without it each start would compile all of it.
	@env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal \
		--cov --cov-report=term-missing:skip-covered $(ARGS)

.PHONY: bench
bench: OUT =
bench: .venv/.dev .venv/.project .venv-bench/.installed ## measure beside peers, 20 minutes; OUT= keeps nothing else
	@requirements/bench-tools.sh
	@.venv/bin/python -m tests.bench.speed run $(if $(OUT),--out '$(OUT)')
	@$(if $(OUT),true,.venv-bench/bin/python -m tests.bench.speed.plots $(SPEED) docs/benchmarks)
	@$(if $(OUT),true,.venv/bin/python -m tests.bench.speed page)

.PHONY: bench-smoke
bench-smoke: .venv/.dev .venv/.project ## run all of `make bench` for a moment: shape, not numbers
	@requirements/bench-tools.sh
	@.venv/bin/python -m tests.bench.speed smoke

.PHONY: bench-profile
bench-profile: .venv/.dev .venv/.project .venv-bench/.installed ## sample where the time goes, 2 minutes
	@requirements/bench-tools.sh
	@.venv/bin/python -m tests.bench.speed profile --py-spy .venv-bench/bin/py-spy
	@.venv/bin/python -m tests.bench.speed page

.PHONY: bench-layouts
bench-layouts: .venv/.dev .venv/.project ## measure the ways to store entries; OUT= names the result
	@.venv/bin/python -m tests.bench.layouts --out '$(OUT)'

.PHONY: bench-levels
bench-levels: OUT = tests/bench/results/levels.json
bench-levels: .venv/.dev .venv/.project ## count what levels and write modes cost; OUT= as above
	@.venv/bin/python -m tests.bench.levels --out '$(OUT)'

.PHONY: bench-lanes
bench-lanes: OUT = tests/bench/results/lanes.json
bench-lanes: .venv/.dev .venv/.project ## measure connections to the store, beside what they were; OUT= as above
	@.venv/bin/python -m tests.bench.lanes --out '$(OUT)'

.PHONY: bench-near
bench-near: OUT = tests/bench/results/near_hit_ratio.json
bench-near: .venv/.dev .venv/.project ## measure what the near cache keeps; OUT= as above
	@.venv/bin/python -m tests.bench.near_hit_ratio --out '$(OUT)'

.PHONY: bench-door
bench-door: OUT = tests/bench/results/door.json
bench-door: .venv/.dev .venv/.project ## measure hits through the fast door, beside nginx; OUT= as above
	@.venv/bin/python -m tests.bench.door --out '$(OUT)'

.PHONY: bench-lag
bench-lag: OUT = tests/bench/results/lag.json
bench-lag: .venv/.dev .venv/.project ## measure what large items do to small hits beside them; OUT= as above
	@.venv/bin/python -m tests.bench.lag --out '$(OUT)'

.PHONY: bench-streams
bench-streams: OUT = tests/bench/results/streams.json
bench-streams: .venv/.dev .venv/.project .venv-dynamodb/.installed ## measure the reading of streams; OUT= as above
	@.venv/bin/python -m tests.bench.streams --out '$(OUT)'

.PHONY: bench-upstream
bench-upstream: OUT = tests/bench/results/upstream.json
bench-upstream: .venv/.dev .venv/.project ## measure the way to DynamoDB; OUT= as above
	@.venv/bin/python -m tests.bench.upstream --out '$(OUT)'

.PHONY: sim
sim: .venv/.dev ## simulate with faults; PROFILE= SEED= STEPS= FIRST= HISTORIES=
	@.venv/bin/python -m tests.sim --steps $(STEPS) --first $(FIRST) --histories $(HISTORIES) \
		$(if $(PROFILE),--profile $(PROFILE)) $(if $(SEED),--seed $(SEED))

.PHONY: model
model: export MODEL = long
model: .venv/.dev ## compare the scripts with the model in larger scenarios too (some minutes)
	@.venv/bin/python -m pytest tests/model/test_scripts_against_model.py -k 'not without' $(ARGS)

.PHONY: chaos
chaos: .venv/.dev ## break real processes for CHAOS_S= seconds; SEED= PROFILE= TOPOLOGY= REPORT=
	@.venv/bin/python -m tests.chaos --seconds $(CHAOS_S) --topology $(TOPOLOGY) \
		$(if $(PROFILE),--profile $(PROFILE)) $(if $(SEED),--seed $(SEED)) \
		$(if $(REPORT),--json '$(REPORT)')

.PHONY: lint
lint: .venv/.dev ## check style and format
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check

.PHONY: types
types: .venv/.dev ## check types
	@.venv/bin/mypy

.PHONY: format
format: .venv/.dev ## repair style and format
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

.PHONY: lock
lock: .venv-tools/.installed ## write requirements/*.lock anew; UPGRADE=1 takes newer versions
	@requirements/lock.sh .venv-tools/bin/uv $(if $(UPGRADE),--upgrade)

.PHONY: wheel
wheel: .venv/.demo ## build the wheel into dist/
	@.venv/bin/python -m hatchling build --target wheel

.PHONY: image
image: ## build the container image; IMAGE= BASE= BUILDER= override
	@test -n '$(BUILDER)' || { echo 'error: install docker, podman or buildah' >&2; exit 1; }
	@# Only the docker format keeps HEALTHCHECK; docker itself knows no other.
	$(BUILDER) build $(if $(filter docker,$(notdir $(BUILDER))),,--format docker) \
		--build-arg BASE=$(BASE) --tag $(IMAGE) .

.PHONY: clean
clean: ## remove everything that make created
	rm -rf .venv .venv-bench .venv-dynamodb .venv-clients .venv-lambda .venv-tools $(JS)/node_modules dist htmlcov .coverage*
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find proxy tests -name __pycache__ -prune -exec rm -rf {} +

# Stamps: an environment is filled again only when its lock has changed.

.venv/.demo: requirements/demo.lock
	@$(INSTALL) .venv $< 20
	@touch $@

.venv/.dev: requirements/dev.lock
	@$(INSTALL) .venv $< 40
	@touch $@ .venv/.demo

# Editable, without an isolated build: the build backend comes from the lock like the rest.
.venv/.project: pyproject.toml proxy/version.py config/default.yaml
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-index --no-deps --no-build-isolation --editable .
	@touch $@

.venv-%/.installed: requirements/%.lock
	@$(INSTALL) .venv-$* $< 15
	@touch $@

$(JS)/node_modules/.installed: $(JS)/package.json $(JS)/package-lock.json
	@if command -v npm >/dev/null; then \
		echo 'installing $(JS)/package-lock.json (about 5 s)' \
		&& cd $(JS) && npm ci --silent --ignore-scripts --no-audit --no-fund \
		&& touch node_modules/.installed; \
	else \
		echo 'npm is missing: tests of dynalite and of the JavaScript SDK will be skipped' \
			'(Debian and Ubuntu: apt install npm)'; \
	fi
