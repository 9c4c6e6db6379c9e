#!/usr/bin/env bash
# Every test, in an environment of its own.
#   bash scripts/test.sh          # what CI runs: about a quarter of an hour on two cores
#   bash scripts/test.sh --all    # and what takes longer: many kills, long runs, thousands of damaged inputs, every
#                                 # graph of the checks, every mutant; then the wheel, in every Python that is found
#                                 # (scripts/check_wheel.sh)
#   bash scripts/test.sh -k data  # anything pytest takes
# VENV chooses the environment's directory, PYTHON the interpreter, TEST_WORKERS the processes (default 3, for two cores:
# some tests wait for what they start, and MindSpore's idle threads spin where nobody else wants the core; with 4 it took
# longer again). Each takes up to 3 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/_venv.sh
venv=${VENV:-.venv-test}
args=()
selection=(-m "not slow")
all=
for arg in "$@"; do
  if [ "$arg" = --all ]; then all=yes; selection=(); export MS_DDPM_FUZZ=all; else args+=("$arg"); fi
done
# A compiler allocates millions of small pieces: larger pages and a larger cache of freed ones save a seventh of its time.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=2000}
make_venv "$venv" test
"$venv/bin/python" -m ruff check .
"$venv/bin/python" -m ruff format --check .
"$venv/bin/python" -m pytest -n "${TEST_WORKERS:-3}" --dist loadgroup "${selection[@]}" ${args[@]+"${args[@]}"}
if [ -n "$all" ]; then PYTHON="$venv/bin/python" bash scripts/check_wheel.sh 3.10 3.11 3.12; fi
