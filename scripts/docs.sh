#!/usr/bin/env bash
# The site, built from docs/ into site/: half a minute after the install, without MindSpore.
#   bash scripts/docs.sh           # open site/index.html, or: python3 -m http.server -d site (search needs a server)
#   bash scripts/docs.sh serve     # at http://127.0.0.1:8000, built anew when a page changes
# VENV chooses the environment's directory, PYTHON the interpreter, REPO_URL where links to the code lead.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv-docs}
# The extra "docs" of setup.py without the library itself, which would bring MindSpore.
requirements=("mkdocs-material>=9.6,<10" "mkdocs-static-i18n>=1.3,<2" "mkdocstrings[python]>=0.29" "jieba" "ruff")
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "${requirements[@]}"
if [ "${1:-build}" = serve ]; then
  exec "$venv/bin/python" -m mkdocs serve
fi
export NO_MKDOCS_2_WARNING=1
exec "$venv/bin/python" -m mkdocs build --strict
