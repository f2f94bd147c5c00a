# cbagent: `make` lists what can be made.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

AGENT   := bin/cbagent

# Programs that load BPF need root; go itself stays the client's.
sudo := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: build
build: ## the agent, static, to bin/cbagent
	@scripts/build.sh $(AGENT)

.PHONY: workload
workload: ## the servers and the client of the end-to-end tests, to bin/workload
	@CGO_ENABLED=0 go build -trimpath -buildvcs=false -o bin/workload ./test/workload

.PHONY: demo
demo: build ## shows the agent at work, in network namespaces of its own (root)
	@$(sudo) $(AGENT) demo $(DEMO_FLAGS)

.PHONY: test
test: ## every test, with what they need installed (root)
	@scripts/setup.sh test
	@scripts/test.sh

.PHONY: mutants
mutants: ## do the tests notice known faults? (root; MUTANTS: a regular expression)
	@scripts/setup.sh test generate
	@go build -o bin/mutants ./test/mutants
	@$(sudo) env PATH="$$PATH" bin/mutants -run '$(MUTANTS)'

.PHONY: test-monitoring
test-monitoring: ## alerts by promtool, the dashboard by Prometheus, the page by Chromium; screenshots in bin/screenshots (root)
	@scripts/setup.sh test monitoring
	@scripts/test.sh -tags monitoring -run 'TestRules|TestQueries|TestPage' ./test/operate

.PHONY: test-zoo
test-zoo: ## HTTP/2 and gRPC clients and servers of many kinds around the agent (root)
	@scripts/setup.sh test zoo
	@scripts/test-zoo.sh

.PHONY: test-k8s
test-k8s: ## the tests that need a Kubernetes API: a real one (builds it, once)
	@scripts/test-k8s.sh

.PHONY: e2e-k8s
e2e-k8s: ## the shipped image and manifests on a two-node Kubernetes cluster (root)
	@scripts/setup.sh cluster
	@scripts/e2e-k8s.sh -v

.PHONY: test-kernels
test-kernels: ## the tests of the datapath on Debian's kernels, under qemu
	@scripts/setup.sh kernels
	@scripts/test-kernels.sh

.PHONY: bench-build
bench-build: build
	@scripts/setup.sh bench || echo "bench: what could not be installed will be left out" >&2
	@cd bench && go build -o ../bin/bench ./cmd/bench
	@cd bench && for part in breaker kernel scrape; do \
		[ ! -d $$part ] || go test -c -o ../bin/$$part.test ./$$part; done
	@cd bench/tools && go build -o ../../bin/fortio fortio.org/fortio
	@cd bench/tools && go build -o ../../bin/vegeta github.com/tsenart/vegeta/v12

.PHONY: bench
bench: bench-build ## cbagent and its peers on the same work, an hour, to bench/results (root; BENCH_FLAGS)
	@$(sudo) bin/bench $(BENCH_FLAGS)
	@$(sudo) bin/bench report bench/results docs/performance.md >/dev/null

.PHONY: bench-quick
bench-quick: bench-build ## does every part of the bench run? its ratios beside the recorded ones (root)
	@results=$$(mktemp -d) && trap 'rm -rf "$$results"' EXIT && \
		$(sudo) bin/bench -quick -results "$$results" -beside bench/results

.PHONY: image
image: ## the OCI image, without a builder, to bin/cbagent-image.tar
	@scripts/image.sh ghcr.io/cbagent/cbagent bin/cbagent-image.tar

.PHONY: sbom
sbom: build ## the bill of materials of bin/cbagent, as CycloneDX
	@go tool -modfile=tools/go.mod cyclonedx-gomod bin -json -noserial -notimestamp -std -version "$$(scripts/version.sh)" \
		bin/cbagent | jq --arg sum "$$(sha256sum bin/cbagent | cut -d' ' -f1)" \
		'.metadata.component.hashes = [{alg: "SHA-256", content: $$sum}]' >bin/cbagent.cdx.json

.PHONY: vulnerabilities
vulnerabilities: ## known vulnerabilities that the code reaches
	@scripts/vulnerabilities.sh

.PHONY: check-vagrant
check-vagrant: ## has Vagrant judge the Vagrantfile, without a machine
	@scripts/setup.sh vagrant
	@VAGRANT_CHECKPOINT_DISABLE=1 vagrant validate --ignore-provider

.PHONY: packages
packages: ## deb and rpm, to bin/
	@scripts/packages.sh

.PHONY: test-packages
test-packages: ## packages, image, systemd unit and install, looked into
	@scripts/setup.sh packages
	@scripts/test-packages.sh

.PHONY: test-systemd
test-systemd: ## the deb on a host with systemd: installed, hung, upgraded, removed (root)
	@scripts/setup.sh packages test
	@scripts/test-systemd.sh

.PHONY: install
install: build ## the agent as a systemd service of this host (root; DESTDIR, PREFIX)
	@scripts/install.sh install

.PHONY: uninstall
uninstall: ## takes the service away again; /etc/cbagent stays
	@scripts/install.sh uninstall

.PHONY: generate
generate: ## the BPF objects and all other generated files, with clang 19
	@scripts/setup.sh generate
	@go generate ./...

.PHONY: check-generated
check-generated: ## fails when a generated file is not what its source gives
	@scripts/setup.sh generate
	@scripts/check-generated.sh

.PHONY: lint
lint: ## formatting, vet, staticcheck, shellcheck
	@scripts/setup.sh lint
	@scripts/lint.sh

.PHONY: clean
clean: ## removes bin/
	@rm -rf bin
