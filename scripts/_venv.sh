# Sourced by quickstart.sh and test.sh: makes a virtual environment and installs this checkout with the extras given.
#   make_venv DIR EXTRAS
# PYTHON chooses the interpreter (3.10 to 3.12). An environment that is there already is used again.

make_venv() {
  local dir=$1 extras=$2 python=${PYTHON:-}
  if [ -z "$python" ]; then
    for candidate in python3 python3.12 python3.11 python3.10 python; do
      if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        python=$candidate
        break
      fi
    done
  fi
  if [ -z "$python" ]; then
    echo "error: no Python 3.10, 3.11 or 3.12 found (MindSpore has no other wheels); set PYTHON=/path/to/python" >&2
    return 2
  fi
  if [ ! -x "$dir/bin/python" ]; then
    echo "making $dir with $("$python" --version)"
    "$python" -m venv "$dir" || return 2
  fi
  # --no-compile: Python compiles what is imported when it is, and most of 13,000 modules never are: a minute less. It
  # must then be let to keep what it compiled (containers often forbid it), or each start of a process costs 5 s more.
  unset PYTHONDONTWRITEBYTECODE
  echo "installing ms_ddpm[$extras]; MindSpore is a download of 800 MB the first time"
  "$dir/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[$extras]" || return 2
}
