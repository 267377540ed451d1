# What a person types. `make demo` and `make test` do all the set-up that they need.

TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
BIN := target/bin
# glibc is linked in, so that a binary runs on any node: docs/adr/0005-static-linking.md.
STATIC := RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --target $(TRIPLE)
# At fixed addresses: nothing to relocate when a container starts, and no memory written for it.
# What is the same twice is there once, where the linker can do that: less to read and to map.
FOLD = $(shell mkdir -p target && echo 'fn main() {}' | rustc -C link-arg=-Wl,--icf=all \
	-o target/fold-probe - 2>/dev/null && echo '-C link-arg=-Wl,--icf=all')
FIXED = RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static $(FOLD)" \
	cargo build --locked --target $(TRIPLE)
# Tests need namespaces, mounts and cgroups of their own.
ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME)
NEXTEST := $(shell command -v cargo-nextest)
# Runs a test binary on a whole Debian system, booted once for all tests.
MACHINE := --config 'target.$(TRIPLE).runner="$(CURDIR)/.ci/machine"'

.PHONY: help build install check test test-full test-differential bench bench-pull demo clean FORCE
help:
	@echo 'make demo      run a real pod from a real image, and look at it'
	@echo 'make build     berthd, berth, berth-shim and berth-oci, static, in $(BIN)'
	@echo 'make install   put them below DESTDIR, as a package does'
	@echo 'make check     format, lints, documentation, arrows and shape of the code'
	@echo 'make test      all tests, against a real registry, real plugins, real kernels'
	@echo 'make test-full what needs a whole machine: systemd, AppArmor, all of cgroup v2, criu'
	@echo 'make test-differential  ten thousand generated layers beside GNU tar'
	@echo 'make bench     berthd beside containerd, berth-oci beside crun and runc'
	@echo 'make bench-pull  pulls of every size beside containerd; needs 25 GB of disk for a while'

build:
	@.ci/packages build
	$(STATIC) --release -p berth-cri-server -p berth-cli
	$(FIXED) --profile shim -p berth-runtime --bin berth-shim
	$(FIXED) --profile oci -p berth-runtime --bin berth-oci
	@install -d $(BIN)
	@install target/$(TRIPLE)/release/berthd target/$(TRIPLE)/release/berth $(BIN)
	@install target/$(TRIPLE)/shim/berth-shim target/$(TRIPLE)/oci/berth-oci $(BIN)

PREFIX := /usr
install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/berth $(DESTDIR)/etc/berth
	install $(BIN)/berthd $(BIN)/berth $(BIN)/berth-oci $(DESTDIR)$(PREFIX)/bin
	install $(BIN)/berth-shim $(DESTDIR)$(PREFIX)/libexec/berth
	$(BIN)/berthd config default > $(DESTDIR)/etc/berth/config.toml

check:
	@.ci/packages check
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features berth-e2e/full-machine -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@.ci/arrows
	@.ci/shape
	@if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; \
	    else echo 'cargo-deny is not installed: licences and bans are not checked'; fi

# The daemon that dies where a test says. Built first: what ships must be what is left in target.
$(BIN)/berthd-failpoints: FORCE
	@.ci/packages build
	$(STATIC) --release -p berth-cri-server --features failpoints
	@install -d $(BIN)
	@install target/$(TRIPLE)/release/berthd $@
FORCE:

test: $(BIN)/berthd-failpoints build
	@.ci/packages test
ifdef NEXTEST
	$(ROOT) cargo nextest run --locked --workspace
else
	$(ROOT) cargo test --locked --workspace --no-fail-fast
endif

# One by one: a machine has one AppArmor, and one systemd. ONLY=NAME runs the tests of that name.
test-full: build
	@.ci/packages full
	$(ROOT) cargo test --locked $(MACHINE) -p berth-e2e --features full-machine --test full \
	    -- --test-threads=1 $(ONLY)

# `make test` has five hundred. BERTH_SEED=N makes other layers.
test-differential:
	@.ci/packages test
	$(ROOT) env BERTH_DIFFERENTIAL=10000 cargo test --locked -p berth-imageservice --test it \
	    differential -- --nocapture

bench: build
	@.ci/packages bench
	$(ROOT) cargo bench --locked -p berth-e2e --bench engines -- --engines berthd,containerd
	$(ROOT) cargo bench --locked -p berth-e2e --bench bundles -- --runtimes berth-oci,crun,runc

bench-pull: build
	@.ci/packages bench
	$(ROOT) cargo bench --locked -p berth-e2e --bench pulls

demo:
	@.ci/packages demo
	@$(MAKE) --no-print-directory build
	@$(ROOT) .ci/demo $(BIN)

clean:
	cargo clean
