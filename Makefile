# make run     virtual environment, install; trains on MNIST, evaluates 100 test images, exports the
#              encoder and writes the features of the test set
#                                               (LAM=0.5 EPOCHS=3 TRAIN_ARGS= EVALUATE_ARGS=)
# make test    format and lint check, types, the tests           (PYTEST_ARGS= WORKERS=3)
# make test-slow   the tests that take more than a few seconds each
# make test-slurm  the documented batch script on a Slurm here, such as .ci/slurm makes
# make soak    kills at random moments, KILLS of each kind, and FUZZ odd inputs of each kind
#              (KILLS=200 FUZZ=1000)
# make lock    requirements/*.txt again: the newest versions that setup.py allows, with hashes
# make docs    the site in site/, from docs/ and the docstrings; a warning is an error
# make bench   the training step against others                  (BENCH_ARGS=...)
# make format  formats the code and fixes what the linter can
# make clean   deletes the virtual environment, caches and build products; runs stay

PYTHON ?= python3
VENV ?= .venv
LAM ?= 0.5
EPOCHS ?= 3
RUN ?= runs/mnist-lam$(LAM)-seed0
MODEL ?= mnist
TRAIN_ARGS ?=
EVALUATE_ARGS ?=
PYTEST_ARGS ?=
# Each runs the tests of whole files, with one thread. Three keep two cores busy: tests wait, too.
WORKERS ?= 3
KILLS ?= 200
FUZZ ?= 1000
BENCH_ARGS ?=

BIN = $(VENV)/bin
INSTALL = "$(BIN)/python" -m pip install --quiet --disable-pip-version-check
# Of some 200 processes each would compile the package again if Python kept no bytecode.
PYTEST = PYTHONDONTWRITEBYTECODE= "$(BIN)/python" -m pytest --numprocesses $(WORKERS) \
    --dist loadfile --no-loadscope-reorder
# First what is locked, of Python 3.11 to 3.13; then the package, and what the lock does not have.
LOCKED = $(INSTALL) --require-hashes --requirement
PACKAGE = $(INSTALL) --no-build-isolation --editable
# For every platform and Python from 3.11 on; no line says which package asked for another.
LOCK_ARGS = setup.py --universal --python-version 3.11 --generate-hashes --upgrade \
    --no-annotate --custom-compile-command "make lock" --quiet
# What the installed metadata and the console script come from; the code itself is used where it
# lies.
METADATA = setup.py pyproject.toml tfp_smvi/version.py

.PHONY: run test test-slow test-slurm soak lock docs bench format clean
.DELETE_ON_ERROR:

run: $(VENV)/installed
	"$(BIN)/tfp-smvi" train --lam $(LAM) --epochs $(EPOCHS) --run-dir "$(RUN)" $(TRAIN_ARGS)
	"$(BIN)/tfp-smvi" evaluate "$(RUN)" --num-examples 100 --num-elbo-samples 2048 $(EVALUATE_ARGS)
	"$(BIN)/tfp-smvi" export "$(RUN)" --model-name $(MODEL)
	"$(BIN)/tfp-smvi" features tfds:mnist/test --model saved_models/$(MODEL) \
	    --output "$(RUN)/features.npz" --fresh
	@echo
	@echo "The run           $(RUN)"
	@echo "  curves          $(BIN)/tensorboard --logdir runs"
	@echo "  evaluation      $(RUN)/evaluation.json, $(RUN)/evaluation.npz"
	@echo "  test features   $(RUN)/features.npz"
	@echo "The encoder       saved_models/$(MODEL)     (to serve it: $(BIN)/tfp-smvi serve)"

test: $(VENV)/installed-test
	"$(BIN)/ruff" format --check .
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/installed-test
	$(PYTEST) -m slow $(PYTEST_ARGS)

test-slurm: $(VENV)/installed-test
	"$(BIN)/python" -m pytest -m slurm -rs $(PYTEST_ARGS)

soak: $(VENV)/installed-test
	$(PYTEST) -m "kills or fuzz" \
	    --kills $(KILLS) --fuzz $(FUZZ) --fuzz-seed $$(date +%s) -o faulthandler_timeout=0

lock: $(VENV)/created
	$(INSTALL) uv
	"$(BIN)/uv" pip compile $(LOCK_ARGS) --extra test --extra docs --output-file requirements/test.txt
	"$(BIN)/uv" pip compile $(LOCK_ARGS) --extra all --constraint requirements/test.txt \
	    --output-file requirements/all.txt

docs: $(VENV)/installed-test
	NO_MKDOCS_2_WARNING=1 "$(BIN)/mkdocs" build --quiet --strict

bench: $(VENV)/installed-bench
	"$(BIN)/python" benchmarks/training_step.py $(BENCH_ARGS)

format: $(VENV)/installed-test
	"$(BIN)/ruff" format .
	"$(BIN)/ruff" check --fix .

clean:
	rm -rf "$(VENV)" build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find tfp_smvi cli tests benchmarks docs -type d -name __pycache__ -prune -exec rm -rf {} +

# The files installed* say what is installed, so that it is done once.
$(VENV)/installed: $(VENV)/created $(METADATA) requirements/all.txt
	@echo "Installing tfp-smvi and what it needs (TensorFlow among it) into $(VENV)"
	$(LOCKED) requirements/all.txt
	$(PACKAGE) ".[all]"
	@touch "$@"

$(VENV)/installed-test: $(VENV)/installed requirements/test.txt
	@echo "Installing what the tests and the documents need into $(VENV)"
	$(LOCKED) requirements/test.txt
	$(PACKAGE) ".[test,docs]"
	@touch "$@"

$(VENV)/installed-bench: $(VENV)/installed
	@echo "Installing PyTorch and JAX, to compare with, into $(VENV)"
	$(INSTALL) --editable ".[bench]"
	@touch "$@"

$(VENV)/created:
	@command -v "$(PYTHON)" > /dev/null || \
	    { echo "Error: there is no $(PYTHON); install Python 3.11 or later, or name" \
	        "one: make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	    { echo "Error: $(PYTHON) is not Python 3.11 or later; name one that is:" \
	        "make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c "import ensurepip, venv" 2> /dev/null || \
	    { echo "Error: $(PYTHON) has no module venv; install it (Debian, Ubuntu:" \
	        "apt install python3-venv)" >&2; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	@touch "$@"
