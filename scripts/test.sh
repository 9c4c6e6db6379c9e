#!/usr/bin/env bash
# Every test, in an environment of its own.
#   bash scripts/test.sh          # what CI runs: about ten minutes on two cores
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
# A compiler allocates millions of small pieces: larger pages, a larger cache of freed ones, one heap for all threads and
# nothing given back to the system in between save a sixth of its time.
malloc=hugetlb=1:tcache_count=60000:arena_max=1:trim_threshold=4000000000
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.${malloc//:/:glibc.malloc.}}
make_venv "$venv" test
"$venv/bin/python" -m ruff check .
"$venv/bin/python" -m ruff format --check .
# In the order of the files: the long tests of tests/whole come before the thousands of small ones, and none is last.
"$venv/bin/python" -m pytest -n "${TEST_WORKERS:-3}" --dist loadgroup --no-loadscope-reorder "${selection[@]}" ${args[@]+"${args[@]}"}
if [ -n "$all" ]; then PYTHON="$venv/bin/python" bash scripts/check_wheel.sh 3.10 3.11 3.12; fi
