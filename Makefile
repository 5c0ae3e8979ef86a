# `make` alone lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types layers unit jobs upgrade faults audit long soak wheel-demo compose-demo format bench bench-bridge bench-canary bench-growth bench-recovery bench-exports bench-serving clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(STAMP)  ## Make .venv with everything in it

demo: $(STAMP)  ## MovieLens-100K as a stream, killed in the middle, recounted; into demo-run/
	$(BIN)/streamtrain demo --dir demo-run

test: $(STAMP) lint types layers unit jobs  ## Lint, types, import layers, tests of up to a minute: 15 minutes

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

layers: $(STAMP)  ## import-linter: imports point one way
	$(BIN)/lint-imports

unit: $(STAMP)  ## Tests without Kafka and Paddle: two minutes
	$(BIN)/python -m pytest -q -n 2 tests/unit

jobs: $(STAMP)  ## Whole jobs and the fastest faults, with a real Kafka and real parameter servers
	$(BIN)/python -m pytest -q -n 3 --dist worksteal --durations=10 -m "not long" tests/jobs tests/faults

long: $(STAMP)  ## The jobs that make test leaves out: stores, warm starts, an upgrade, each model (ten minutes)
	$(BIN)/python -m pytest -q -n 3 --dist worksteal --durations=10 -m long tests/jobs

upgrade: $(STAMP)  ## One job by this version and the one before it in turns, forward and back (part of long)
	$(BIN)/python -m pytest -q tests/jobs/test_upgrade.py

faults: $(STAMP)  ## Every fault of docs/reliability.md, with 1x1 and 2x2; a table in build/ (half an hour and more)
	$(BIN)/python -m tests.faults.sweep

audit: $(STAMP)  ## The lock against what is installed, its licences, and known vulnerabilities (needs a network)
	$(BIN)/python -m tests.audit
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(sed -n 's/^pip_audit==/pip-audit==/p' constraints.txt)"
	build/audit/bin/pip-audit --vulnerability-service osv --disable-pip --no-deps -r constraints.txt

MINUTES ?= 30
soak: $(STAMP)  ## Random kills for MINUTES=30, then a recount
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

wheel-demo:  ## A wheel out of a clean clone, in an empty environment, runs the demo (5 days); into build/wheel-demo
	rm -rf build/wheel-demo && mkdir -p build/wheel-demo
	git clone --quiet . build/wheel-demo/clone
	$(PYTHON) -m venv build/wheel-demo/venv
	build/wheel-demo/venv/bin/python -m pip wheel --quiet --no-deps -w build/wheel-demo/wheels build/wheel-demo/clone
	build/wheel-demo/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		"$$(ls build/wheel-demo/wheels/*.whl)[demo]"
	cd build/wheel-demo && venv/bin/streamtrain demo --days 5 --dir demo

compose-demo: $(STAMP)  ## The demo in docker compose, four containers crashed, recounted (needs docker and root)
	$(BIN)/python -m tests.faults.compose_demo

format: $(STAMP)  ## Let ruff write the code's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

PADDLEREC ?=
bench: $(STAMP)  ## Speed beside the floor, slow paths, and PADDLEREC=CHECKOUT's trainer; into build/whole_way.md (ten minutes)
	$(BIN)/python -m bench.whole_way $(if $(PADDLEREC),--paddlerec $(PADDLEREC)) $(if $(PADDLEREC_PYTHON),--paddlerec-python $(PADDLEREC_PYTHON))

bench-canary: $(STAMP)  ## Seconds from a finished split to a prediction that knows it; into build/canary.md (four minutes)
	$(BIN)/python -m bench.canary

bench-bridge: $(STAMP)  ## Rows a second of the bridge beside parsing alone, by stream.parse_processes; into build/bridge.md
	$(BIN)/python -m bench.bridge

bench-growth: $(STAMP)  ## Costs against rows a pass, slots, workers, keys, partitions, splits, as plots; into build/growth.png (ten minutes)
	$(BIN)/python -m bench.growth

bench-exports: $(STAMP)  ## Seconds of inference models, full and incremental, at a million keys
	$(BIN)/python -m bench.exports

bench-recovery: $(STAMP)  ## Seconds of recovery and of a checkpoint by part, at a million keys
	$(BIN)/python -m bench.recovery

bench-serving: $(STAMP)  ## Rows a second beside plain paddle.inference, reloads, latencies; into build/serving.json
	$(BIN)/python -m bench.serving

clean:  ## Remove what make made
	rm -rf $(VENV) demo-run bench-run compose-run build *.egg-info
