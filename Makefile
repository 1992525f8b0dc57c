# Everything that one does with Hutong; `make` alone lists it.
# Each target installs or fetches what it needs and is quick the second time. See tools/setup.sh.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

# Where rustup puts cargo, for shells that have not been told yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Arguments of `hutong demo` and of the benchmark: make demo ARGS="--seconds 20"
ARGS ?=

# Integration tests share the machine with a broker, a registry and databases. On two cores, more than
# three at a time starve the Java servers until clients run into their timeouts.
TEST_THREADS ?= 3

# How often `make crash` goes through each scenario; CI does once. HUTONG_TEST_SEED=... repeats what a failure printed.
ROUNDS ?= 5

# How long `make fuzz` feeds each check.
SECONDS ?= 60

# Where a release build leaves its programs.
RELEASED := $(abspath $(or $(CARGO_TARGET_DIR),target))/release

SERVERS := target/servers/.fetched
VENV := target/venv/.installed

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup-build ## three departments on this machine, no server needed; ARGS="--seconds 20" ends it by itself
	cargo build --release --locked --package hutong
	$(RELEASED)/hutong demo $(ARGS)

.PHONY: build
build: setup-build ## build the program: target/release/hutong
	cargo build --release --locked --package hutong

.PHONY: test
test: lint servers $(VENV) ## all checks and all tests, over real servers
	cargo build --locked --package hutong
	cargo test --workspace --locked -- --test-threads=$(TEST_THREADS)

.PHONY: crash
crash: setup-test servers ## kill the program and what stands around it, round after round; ROUNDS=20 for longer
	cargo build --locked --package hutong
	HUTONG_CRASH_ROUNDS=$(ROUNDS) cargo test --locked --package hutong-tests --test it crash:: -- --nocapture --test-threads=$(TEST_THREADS)

.PHONY: fuzz
fuzz: setup-test ## damage valid input and feed it to every parser; SECONDS=600 for longer, each
	HUTONG_FUZZ_SECONDS=$(SECONDS) cargo test --locked --package hutong-core --package hutong-bus --package hutong-stores --package hutong hostile -- --nocapture --test-threads=2

.PHONY: giant
giant: setup-test servers ## a transaction of a million rows, a snapshot of five million that is killed, over real servers
	cargo build --release --locked --package hutong
	HUTONG_BINARY=$(RELEASED)/hutong HUTONG_GIANT_TRANSACTION_ROWS=1000000 HUTONG_GIANT_SNAPSHOT_ROWS=5000000 \
		cargo test --locked --package hutong-tests --test it giant:: -- --nocapture --test-threads=1

.PHONY: bench
bench: setup-test ## measure beside the limits, over real servers; ARGS="--people 100000 snapshot" for less
	@$(MAKE) --no-print-directory -j2 servers measured
	HUTONG_BINARY=$(RELEASED)/hutong $(RELEASED)/hutong-bench $(ARGS)

# What the network brings is fetched while the program is built, and in one go with what measures it: so no crate is
# built twice.
.PHONY: measured
measured:
	cargo build --release --locked --package hutong --package hutong-bench

.PHONY: lint
lint: setup-test ## format, clippy and documentation, without a warning
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

.PHONY: servers
servers: $(SERVERS) ## fetch what the tests start: Kafka and Apicurio (PostgreSQL comes with the system)

# The tools are looked for each time, which takes no time; what was fetched is kept until its list changes.
.PHONY: setup-build setup-test
setup-build:
	@tools/setup.sh build
setup-test:
	@tools/setup.sh test

$(SERVERS): tools/pom.xml tools/servers.sh | setup-test
	@tools/servers.sh
	@touch $@

$(VENV): tools/requirements.txt tools/venv.sh | setup-test
	@tools/venv.sh
	@touch $@

.PHONY: clean
clean: ## remove everything that was built or fetched
	rm -rf target
