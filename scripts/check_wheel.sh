#!/usr/bin/env bash
# The library as pip installs it, without the clone: from the wheel, and from the archive of the sources without the C++
# kernels. In an empty directory it trains two steps of a recipe by its name, draws a picture, and agrees in tier 0.
#   bash scripts/check_wheel.sh                  # with PYTHON, and the packages that are installed there: four minutes
#   bash scripts/check_wheel.sh 3.10 3.11 3.12   # then in these, each with packages of its own, MindSpore's 800 MB too
# PYTHON is the interpreter of an environment with what ms_ddpm requires. A version that is not found is said in one line.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH  # which may lead to the clone
export PIP_DISABLE_PIP_VERSION_CHECK=1

# check BIN: what is installed beside BIN/python.
check() {
  local bin=$1 place
  place=$(mktemp -d -p "$work")
  cd "$place"
  "$bin/python" -c 'import ms_ddpm, sys; sys.exit(not ms_ddpm.__file__.startswith(sys.prefix))' ||
    { echo "error: $bin/python finds another ms_ddpm than the one installed beside it" >&2; exit 1; }
  "$bin/python" -c 'import ms_ddpm, portparity, sys
sys.exit(not all(open(f"{package.__path__[0]}/py.typed") for package in (ms_ddpm, portparity)))'
  "$bin/ms-ddpm" --help > help.txt
  "$bin/ms-ddpm" train --config digits --output_dir run --dim 8 --dim_mults 1 --timesteps 20 --sampling_timesteps 2 \
    --train_num_steps 2 --save_and_sample_every 2 --train_batch_size 2 --num_samples 1 --validation_images 2
  "$bin/ms-ddpm" sample --checkpoint run --num 1 --output_dir .
  test -s grid.png
  "$bin/ms-ddpm" verify run
  local reference=()
  "$bin/python" -c 'import torch' 2> /dev/null ||
    reference=(--bundle "$("$bin/python" -c 'import parity_tests; print(parity_tests.__path__[0])')/bundles")
  "$bin/ms-ddpm" parity check --tier 0 --quiet ${reference[@]+"${reference[@]}"}
  cd "$OLDPWD"
}

mkdir "$work/sources"
git ls-files --cached --others --exclude-standard -z | tar --null -cf - -T - | tar -xf - -C "$work/sources"
"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet build
"$work/tools/bin/python" -m build --outdir "$work/dist" "$work/sources" > "$work/build.log" 2>&1 ||
  { tail -20 "$work/build.log" >&2; exit 1; }
sources=$(echo "$work"/dist/*.tar.gz)

packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for archive in "$work"/dist/*.whl "$sources"; do
  echo "--- $(basename "$archive")"
  environment=$work/environment-${archive##*.}
  "$python" -m venv "$environment"
  MS_DDPM_BUILD_KERNELS=0 "$environment/bin/python" -m pip install --quiet --no-deps --no-cache-dir "$archive"
  # The packages of PYTHON follow its own; a .pth of theirs, such as a clone's, is not read there.
  echo "$packages" > "$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages.pth"
  check "$environment/bin"
done

for version in "$@"; do
  found=
  for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
    if "$candidate" -c 'import venv' 2> /dev/null; then found=$candidate; break; fi
  done
  if [ -z "$found" ]; then echo "--- Python $version: not found, not checked"; continue; fi
  echo "--- Python $version: $("$found" --version)"
  "$found" -m venv "$work/python-$version"
  "$work/python-$version/bin/python" -m pip install --quiet -c constraints.txt "ms_ddpm[digits] @ file://$sources"
  check "$work/python-$version/bin"
  rm -rf "$work/python-$version"
done
