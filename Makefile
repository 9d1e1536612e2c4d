# The front door: every target installs what it needs, then hands over to cargo.
SHELL := /bin/bash
# Of this checkout alone: cargo takes another clone's newer build for its own and would run that.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export K8SHOST_TOOLS ?= $(HOME)/.cache/k8shost-tools
export PATH := $(K8SHOST_TOOLS)/bin:$(HOME)/.cargo/bin:$(PATH)

.PHONY: run test bench fuzz lint tools clients build

run: tools     ## start a cluster, deploy the example, show it answering; Ctrl-C stops it
	cargo build --profile fast --package k8shost
	@exec cargo xtask run

test: clients  ## every test, end-to-end ones with real containers included
	cargo xtask test

bench:         ## measure the budgets of the design, print a table and write JSON
	@xtask/install.sh bench
	cargo xtask bench

fuzz:          ## every decoder on mutated examples, for minutes (not guided by coverage)
	cargo xtask fuzz --seconds 180

lint:          ## formatting, clippy and the repository's own rules
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask tidy

tools:         ## install what is missing: Debian packages, kubectl, helm
	@xtask/install.sh

clients:       ## the same, and the client libraries of Python and JavaScript that tests use
	@xtask/install.sh clients

build: tools
	cargo build --workspace
