#!/usr/bin/env bash
# From a fresh clone to a picture of digits that a diffusion model drew: about 3 minutes on two CPU cores after the install.
#   bash scripts/quickstart.sh                       # everything
#   bash scripts/quickstart.sh --train_num_steps 200 # any option of scripts/train.py
# VENV chooses the environment's directory, PYTHON the interpreter, OUT the output directory (runs/quickstart), NUM how
# many digits are drawn (1000).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/_venv.sh
venv=${VENV:-.venv}
out=${OUT:-runs/quickstart}
case " $* " in *" --output_dir"*) echo "error: give the output directory as OUT=DIR bash scripts/quickstart.sh" >&2; exit 2 ;; esac
make_venv "$venv" digits
started=$SECONDS
"$venv/bin/python" scripts/train.py --config configs/digits.yaml --output_dir "$out" "$@"
"$venv/bin/python" scripts/sample.py --checkpoint "$out" --output_dir "$out" --num "${NUM:-1000}" --sampler ddim --sampling_steps 100 --gif
echo "training and sampling took $((SECONDS - started)) s"
"$venv/bin/python" scripts/evaluate.py --samples "$out"
echo
shown=$(cd "$out" && pwd)
echo "The picture: $shown/grid.png"
echo "Real digits to compare it with: $shown/samples/real.png; digits being drawn: $shown/samples.gif"
