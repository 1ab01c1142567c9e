# make demo    podrate's main job, seen: a label, a patch, a limit in the kernel, a live change (root, no cluster)
# make bench   podrate beside tc, measured here: docs/benchmarks.md and its pictures (root, 15 minutes)
# make bench-webhook   the webhook beside the floor of its stack: latency and CPU per review (root, a minute)
# make test    every test: unit, kernel, webhook, and a real Kubernetes cluster (root; the first run builds it)
# make test-kernels    the kernels part of it, and its table anew in docs/reliability.md (4 minutes)
# make test-faults     the faults part of it, with 100 pods at once, and its table anew (8 minutes)
# make lint    ruff, mypy, import layers, clang-format
# make docs    docs/cli.md and docs/podrate.1, made of the commands' parsers; docs/labels.md, of the webhook's answers;
#              the chart's table of values; docs/dependencies.md, of what is installed
# make bpf     rebuild bpf/build from bpf/src
#
# Each installs what it needs: system packages by apt, Python packages into .venv.

SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
PACKAGES := .ci/packages
# What tests/kernels boots its guests with.
GUESTS := qemu-system-x86_64:qemu-system-x86 cpio:cpio /lib/systemd/systemd:systemd bpftool:bpftool

.PHONY: demo bench bench-webhook test test-kernels test-faults lint format docs bpf clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(PACKAGES) ip:iproute2 iperf3:iperf3 unshare:util-linux libbpf.so.1:libbpf1 libnl-route-3.so.200:libnl-route-3-200
	$(PYTHON) -m demo

bench: $(VENV)/.demo
	$(PACKAGES) ip:iproute2 iperf3:iperf3 unshare:util-linux libbpf.so.1:libbpf1 libnl-route-3.so.200:libnl-route-3-200 cc:gcc clang-14:clang-14 \
	  /usr/include/bpf/bpf_helpers.h:libbpf-dev
	$(PYTHON) -m bench sweep $(ARGS)
	$(PYTHON) -m bench report

bench-webhook: $(VENV)/.test
	$(PACKAGES) taskset:util-linux openssl:openssl
	tests/cluster/cluster build
	$(PYTHON) -m bench.webhook $(ARGS)

test: $(VENV)/.test
	$(PACKAGES) ip:iproute2 iperf3:iperf3 unshare:util-linux libbpf.so.1:libbpf1 libnl-route-3.so.200:libnl-route-3-200 cc:gcc bpftool:bpftool \
	  clang-14:clang-14 llvm-strip-14:llvm-14 /usr/include/bpf/bpf_helpers.h:libbpf-dev zsh:zsh fish:fish groff:groff-base openssl:openssl \
	  curl:curl faketime:faketime jq:jq man:man-db $(GUESTS)
	$(PYTHON) -m pytest $(ARGS)

test-kernels: $(VENV)/.test
	$(PACKAGES) ip:iproute2 iperf3:iperf3 unshare:util-linux libbpf.so.1:libbpf1 libnl-route-3.so.200:libnl-route-3-200 $(GUESTS)
	$(PYTHON) -m pytest tests/kernels --write-table $(ARGS)

test-faults: $(VENV)/.test
	$(PACKAGES) ip:iproute2 unshare:util-linux openssl:openssl faketime:faketime
	$(PYTHON) -m pytest tests/webhook/test_faults_clock.py tests/cluster/test_faults_*.py --crowd 100 --write-table $(ARGS)

lint: $(VENV)/.lint
	$(PACKAGES) clang-format-14:clang-format-14
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	clang-format-14 --dry-run -Werror bpf/src/*.[ch] bench/*.c

format: $(VENV)/.lint
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	clang-format-14 -i bpf/src/*.[ch] bench/*.c

docs: $(VENV)/.lint
	$(PYTHON) -m loader man >docs/podrate.1
	$(PYTHON) -m loader man --markdown >docs/cli.md
	$(PYTHON) -m tests.webhook.reference >docs/labels.md
	$(PYTHON) -m charts.readme
	$(PYTHON) -m tests.dependencies >docs/dependencies.md

bpf:
	$(PACKAGES) clang-14:clang-14 llvm-strip-14:llvm-14 /usr/include/bpf/bpf_helpers.h:libbpf-dev
	$(MAKE) -C bpf/src

clean:
	rm -rf build $(VENV)

# One environment, grown by what each target needs; the stamp says which extras are in.
$(VENV)/.demo: EXTRAS := demo
$(VENV)/.test: EXTRAS := test
$(VENV)/.lint: EXTRAS := test,lint
$(VENV)/.%: pyproject.toml constraints.txt
	$(PACKAGES) python3:python3 ensurepip:python3-venv
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@
