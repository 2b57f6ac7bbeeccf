# One line for each command; anything that needs a decision is in xtask or deploy.
CARGO ?= cargo
SERVICES := $(notdir $(patsubst %/src/main.rs,%,$(wildcard services/*/src/main.rs)))
VERSION := 0.1.0

.DEFAULT_GOAL := help
.PHONY: help demo up down lint check test test-engines test-browser screenshots engines-up engines-down chaos bench bench-link bench-mirror live-first idle bench-scale bench-page fmt clippy docs images chart deploy-check

help: ## Say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s '|'

demo: ## Build, and run a core and an edge in this terminal on embedded engines
	$(CARGO) run --package fieldline -- demo

up: ## Start a core and an edge in containers, and wait until all are healthy
	docker compose up --detach --wait

down: ## Stop the containers; the data stays
	docker compose down

fmt: ## Format the code
	$(CARGO) fmt --all

clippy: ## Lint everything, warnings denied
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

lint: ## Format check, lints, documentation, and the rules of the workspace
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(CARGO) test --workspace --test workspace --locked

check: lint ## What lint does, and all tests that need no engine
	$(CARGO) build --workspace --bins --locked
	$(CARGO) test --workspace --locked

test: ## All tests; real engines are started where Java and Maven are there
	$(CARGO) xtask test

test-engines: ## Only the tests that need real engines
	$(CARGO) xtask test --engines

test-browser: ## The pages in a real Chromium; ENGINES=real runs them on Kafka and Cassandra, ENGINES=small with a small edge
	$(CARGO) xtask test-browser --engines $(or $(ENGINES),embedded)

screenshots: ## A picture of every page and state, in target/screenshots
	$(CARGO) xtask screenshots

engines-up: ## Start a real Kafka for each of two sites, and Cassandra
	deploy/engines/engines up

engines-down: ## Stop them; the data stays
	deploy/engines/engines down

chaos: ## The long fault runs
	$(CARGO) xtask chaos

bench: ## CPU-seconds, memory and bytes of the exchange
	$(CARGO) xtask bench

bench-scale: ## What each further edge costs a real core: 10, 25 and 50 edges; ARGS="--edges 2,4 --assets 50" for a small run
	$(CARGO) xtask scale -- $(ARGS)

bench-link: ## The link against MirrorMaker 2, between two real Kafkas; ARGS="--records 100000" for a small run
	$(CARGO) xtask bench-link -- $(ARGS)

live-first: ## A long backlog behind a cap, and what comes in meanwhile; ARGS="--records 50000 --seconds 30" for a small run, ARGS=--embedded for a small edge
	$(CARGO) xtask live-first -- $(ARGS)

idle: ## What an edge moves that has nothing to say, over half an hour; fails above 1 MB a day; ARGS=--services for one on Kafka and Cassandra
	$(CARGO) xtask idle -- $(ARGS)

bench-mirror: ## Mirror against rsync and rclone over a poor line; ARGS="--only far --large 2" for a small run
	$(CARGO) xtask bench-mirror -- $(ARGS)

bench-page: ## The page with 10,000 assets and 50 changes a second: frames, answers, the viewer's memory; ARGS="--assets 1500 --debug" for a small run
	$(CARGO) xtask bench-page $(ARGS)

docs: ## The documentation of all crates
	$(CARGO) doc --workspace --no-deps --open

images: $(SERVICES:%=image-%) ## An image for each service

image-%:
	docker build --file deploy/Dockerfile --build-arg SERVICE=$* --tag fieldline/$*:$(VERSION) .

chart: ## Package the Helm chart
	helm package helm/fieldline --destination target

deploy-check: ## Check chart, compose file and Dockerfile without running them
	deploy/check
