# The two commands: `make up` (a running cluster) and `make test` (everything that proves it).
.PHONY: up down build test lint bench tools test-tools

TARGET  ?= $(or $(CARGO_TARGET_DIR),target)
KUBELAB := $(TARGET)/release/kubelab
NGINX   := $(TARGET)/nginx.tar
SAY     := @printf '%s\n'

## A cluster with three nginx containers.
up: build $(NGINX)
	$(KUBELAB) start
	$(KUBELAB) image load $(NGINX)
	$(KUBELAB) kubectl -- apply -f manifests/examples/nginx-rc.yaml
	$(KUBELAB) kubectl -- wait rc/nginx --for=jsonpath='{.status.readyReplicas}'=3 --timeout=60s
	$(KUBELAB) kubectl -- get replicationcontrollers,pods -o wide
	$(SAY) '' 'What to try next:' \
	  '  alias kubelab=$(CURDIR)/$(KUBELAB)' \
	  '  kubelab kubectl -- delete pod -l app=nginx --wait=false   # and see them come back: kubelab kubectl -- get pods -w' \
	  '  kubelab kubectl -- scale rc nginx --replicas=5' \
	  '  kubelab kubectl -- logs rc/nginx' \
	  '  kubelab status' \
	  '  make down                                                 # removes the cluster'

## Removes what `make up` made.
down:
	$(KUBELAB) delete

build: tools
	cargo build --release -p kubelab

## All tests, as CI runs them.
test: tools test-tools $(NGINX)
	cargo build --workspace
	cargo test --workspace --no-fail-fast

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

## Measures start-up, latency, throughput, memory and idle cost; see docs/benchmarks.md.
bench: build
	cargo run --release -p tests --bin bench

# An nginx image made of Debian's own package, so that nothing has to be pulled from a registry.
$(NGINX): tests/make-nginx-image.sh
	@mkdir -p $(TARGET)
	tests/make-nginx-image.sh $(NGINX)

# What a build needs: Rust, protoc (for etcd's protocol), and nft for real pods' way out.
tools:
	@command -v cargo >/dev/null || { echo 'make: cargo is missing; install Rust from https://rustup.rs' >&2; exit 1; }
	@scripts/install cc:gcc protoc:protobuf-compiler nft:nftables

# What the tests need besides.
test-tools:
	@scripts/install etcd:etcd-server busybox:busybox-static curl:curl python3:python3 || exit 1
	@command -v kubectl >/dev/null || scripts/install kubectl:kubernetes-client
	@scripts/install-python-client $(TARGET)/python
	@scripts/install-node-client $(TARGET)/node
