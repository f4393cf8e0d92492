# make demo    the main job on a real spec: validate, plan, run
# make test    every test, as root and as an ordinary user
# make check   lint, types, and whether generated files are current
# PYTHON=... picks the interpreter of .venv (3.11 or newer, one that every user can execute).

PYTHON ?=
VENV := .venv
NSRUN := $(VENV)/bin/nsrun
SPEC := specs/quickstart.yaml

.DEFAULT_GOAL := help
.PHONY: help setup demo test matrix vm attacks sweep soak check bench fuzz native generate golden clean

help:
	@sed -n 's/^# //p' Makefile | sed '/^PYTHON/d'
	@echo 'make setup   .venv with an nsrun command, and the system packages it needs'
	@echo 'make native  the C program alone, into .venv/bin/nsrun'
	@echo 'make generate  write the generated files again'
	@echo 'make clean   remove what these made'

$(VENV)/.ready: pyproject.toml tools/setup tools/native tools/check_interpreter.py
	@tools/setup $(PYTHON)
	@touch $@ $(VENV)/.native

# The launcher alone, where only C has changed since.
$(VENV)/.native: $(VENV)/.ready CMakeLists.txt $(wildcard native/*.c native/*.h)
	@tools/native
	@touch $@

setup: $(VENV)/.native

native: setup

demo: setup
	@echo '$$ cat $(SPEC)'; cat $(SPEC); echo
	@echo '$$ nsrun validate $(SPEC)'; $(NSRUN) validate $(SPEC); echo
	@echo '$$ nsrun plan --brief $(SPEC)'; $(NSRUN) plan --brief $(SPEC); echo
	@echo '$$ nsrun $(SPEC)'; $(NSRUN) $(SPEC)

# A test that the machine could run but that skips is a failure here, not a gap.
test: setup
	NSRUN_MUST_WORK=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal

# The same with every test in every pair of user and executor, where `make test` has two of the four.
matrix: setup
	NSRUN_MUST_WORK=1 NSRUN_MATRIX=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal

# In a small virtual machine whose control groups are of version 2 alone: qemu, which `make setup` does
# not install, and Debian's kernel, unpacked into build/vm. VM_TESTS=... for others, -k too.
VM_TESTS ?=
vm: setup
	@if command -v qemu-system-x86_64 >/dev/null; then tools/vm_kernel; fi
	NSRUN_MUST_WORK=1 $(VENV)/bin/python -m tests.vm $(VM_TESTS)

# The attacks, their races for five seconds each, in every pair of user and executor.
attacks: setup
	NSRUN_MUST_WORK=1 NSRUN_MATRIX=1 NSRUN_SWEEP=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal tests/attacks

# A fault at every step of every plan in specs/, and every process killed: on a simulated machine
# (minutes), then on this kernel (hours). PART=NAME for the plans with NAME in theirs.
PART ?=
sweep: setup
	$(VENV)/bin/python -m tests.sim $(PART)
	NSRUN_MUST_WORK=1 NSRUN_SWEEP=1 $(VENV)/bin/python -m pytest -n 2 -m sweep tests/oracle $(if $(PART),-k "$(PART)")

# Ten thousand starts, storms and restarts, after which nothing is left and the kernel holds no more:
# four minutes on two processors, as root. SOAK=--quick for a try.
soak: setup
	@tools/soak $(SOAK)

# What reads specs against texts made to hurt, what reads strangers' bytes guided by coverage (atheris,
# six targets), the native loader and executor against strangers' plans: ten minutes each, FUZZ_SECONDS=... for others.
FUZZ_SECONDS ?= 600
fuzz: setup
	@$(VENV)/bin/python -m tools.fuzz_front $(FUZZ_SECONDS)
	@$(VENV)/bin/python -m tools.fuzz_guided $(FUZZ_SECONDS)
	@tools/fuzz $(FUZZ_SECONDS)

# Beside other tools, in one run, into docs/benchmarks.md; BENCH=--quick for a try. As root.
bench: setup
	@bench/setup
	@$(VENV)/bin/python -m compileall -q nsrun
	@$(VENV)/bin/python -m bench $(BENCH)

check: setup
	$(VENV)/bin/ruff check nsrun tests tools bench
	$(VENV)/bin/mypy --strict nsrun bench tests/support tests/soak tools/fuzz_corpus.py tools/fuzz_front.py tools/fuzz_guided.py $(wildcard tools/gen_*.py)
	@for tool in tools/gen_*.py; do echo "$$tool --check"; $(VENV)/bin/python "$$tool" --check || exit 1; done

generate: setup
	@for tool in tools/gen_*.py; do $(VENV)/bin/python "$$tool" || exit 1; done
	@$(VENV)/bin/python -m tests.golden.update

# The listings beside the specs, for a review to read; made with fixed facts of a machine.
golden: setup
	$(VENV)/bin/python -m tests.golden.update

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find nsrun tests tools -name __pycache__ -prune -exec rm -rf {} +
