# homelab-agent: `make` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run install upgrade restart status logs uninstall test neighbours neighbours-list soak check bench lock generate picture build clean up down ps pull stack-restart stack-logs
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
export PYTHON
export PROFILE SERVICE LOKI_URL FORCE FOLLOW TAIL

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Run the agent here, with this folder's config.toml; Ctrl-C ends it.
	@deploy/venv.sh $(VENV) run
	@exec $(BIN)/homelab-agent --config config.toml run

install: ## Make it a service of this host, with a Python environment in /opt (needs root).
	@deploy/install.sh

upgrade: ## Change over to this checkout; back by itself where that is not well (needs root).
	@deploy/upgrade.sh

restart: ## Restart the service and wait until it is ready.
	@deploy/control.sh restart

status: ## Show how the service stands.
	@deploy/control.sh status

logs: ## Show what the service logs (FOLLOW=1, TAIL=100).
	@deploy/control.sh logs

uninstall: ## Remove the service; data and configuration stay (PURGE=1: they go, too).
	@deploy/uninstall.sh

test: neighbours ## Install what the tests need, then run them all.
	@exec $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(PYTEST)

neighbours: ## Obtain the servers that the tests talk to: install, build, download, once.
	@tests/neighbours/install.sh
	@deploy/venv.sh $(VENV) test
	@$(BIN)/python -m tests.neighbours obtain

neighbours-list: ## Say of each: version, from where, here or why not.
	@deploy/venv.sh $(VENV) test
	@$(BIN)/python -m tests.neighbours list

soak: neighbours ## The long forms of the fault tests; SEED=n repeats one.
	@exec $(BIN)/python -m pytest -m soak $(PYTEST)

check: ## The quick loop: ruff, mypy, import-linter, unit tests.
	@deploy/venv.sh $(VENV) test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit

bench: ## Measure, beside named peers (needs root and Debian for the peers).
	@deploy/venv.sh $(VENV) test
	@exec $(BIN)/python -m benchmarks $(BENCH)

lock: ## Renew requirements/*.txt from pyproject.toml (needs uv).
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --output-file requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --constraint requirements/run.txt --group test pyproject.toml --output-file requirements/test.txt
	echo 'systemd-python>=235' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - --output-file requirements/systemd.txt
	echo 'setuptools>=80' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - --output-file requirements/setuptools.txt
	echo 'flit_core>=3.12,<4' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - --output-file requirements/build.txt

generate: ## Write anew what is made: config.toml, docs/configuration.md, Grafana's dashboards, the journal's catalogue.
	@deploy/venv.sh $(VENV) run
	$(BIN)/homelab-agent config sample > config.toml.new && mv config.toml.new config.toml
	$(BIN)/homelab-agent config reference > docs/configuration.md.new && mv docs/configuration.md.new docs/configuration.md
	$(BIN)/homelab-agent catalogue > deploy/systemd/homelab-agent.catalog.new && mv deploy/systemd/homelab-agent.catalog.new deploy/systemd/homelab-agent.catalog
	$(BIN)/python -m compose.grafana.build

up: ## Start PostgreSQL, Loki, Grafana and the log shipper in Docker (PROFILE=alloy|edge|edge-alloy).
	@compose/stack.sh up

down: ## Stop and remove their containers; the data stays.
	@compose/stack.sh down

ps: ## Show them.
	@compose/stack.sh ps

pull: ## Fetch their images; `make up` then takes them.
	@compose/stack.sh pull

stack-restart: ## Restart them, or one (SERVICE=loki).
	@compose/stack.sh restart

stack-logs: ## Show what they log (SERVICE=loki, FOLLOW=1, TAIL=100).
	@compose/stack.sh logs

picture: ## Take docs/status-page.png of the agent that runs here (needs Debian's chromium).
	@deploy/venv.sh $(VENV) test
	$(BIN)/python -m docs.make_picture

build: ## Make a wheel and an sdist in dist/, reproducibly.
	@deploy/venv.sh $(VENV) run
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -c 'from flit_core import buildapi; [print("dist/" + make("dist")) for make in (buildapi.build_wheel, buildapi.build_sdist)]'

clean: ## Remove the virtual environment and caches; the agent's data stays.
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
