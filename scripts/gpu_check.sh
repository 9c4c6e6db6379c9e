#!/usr/bin/env bash
# The first hour on a new device: what is there, the first and second start, parity, training, sampling; as a report.
#   bash scripts/gpu_check.sh                                   # GPU
#   DEVICE=CPU TIERS="0 1" STEPS=20 bash scripts/gpu_check.sh   # a rehearsal in some minutes
# DEVICE    CPU, GPU or Ascend (GPU)
# PYTHON    an interpreter with ms_ddpm's requirements, and torch for parity (.venv/bin/python, else python3)
# OUT       where report.md and the logs go (runs/check-DEVICE); what an earlier check left there is removed
# TIERS     tiers of the parity harness ("0 1 2 3 4 5")
# STEPS     training steps (400)
# RECIPES   recipes of configs/ of which one step is taken (every one)
# Exit code 0 if every step that counts went well, 1 if not, 2 for wrong usage.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

device=${DEVICE:-GPU}
case $device in CPU | GPU | Ascend) ;; *) echo "error: DEVICE is '$device', expected CPU, GPU or Ascend" >&2; exit 2 ;; esac
if [ $# -gt 0 ]; then echo "error: no arguments expected, got '$1'; see the head of scripts/gpu_check.sh" >&2; exit 2; fi
python=${PYTHON:-}
if [ -z "$python" ]; then python=.venv/bin/python; [ -x "$python" ] || python=python3; fi
out=${OUT:-runs/check-$device}
steps=${STEPS:-400}
case $steps in '' | *[!0-9]* | 0) echo "error: STEPS is '$steps', expected a number of training steps" >&2; exit 2 ;; esac
read -ra tiers <<<"${TIERS:-0 1 2 3 4 5}"
read -ra recipes <<<"${RECIPES:-}"

if [ -d "$out" ] && [ -n "$(ls -A "$out")" ] && [ ! -e "$out/logs" ]; then
  echo "error: OUT is '$out', which holds something else than an earlier check; choose another directory" >&2; exit 2
fi
rm -rf "$out/logs" "$out/cuda-jit" "$out/parity" "$out/parity-high" "$out/parity-half" "$out/train" \
  "$out/train64" "$out/train64-float16" "$out/samples" "$out/recipes" "$out/report.md"
mkdir -p "$out/logs" || exit 2
out=$(cd "$out" && pwd)
report=$out/report.md
failed=0

# The first start must find an empty cache of translated kernels, and the user's own must stay as it is.
export CUDA_CACHE_PATH=$out/cuda-jit

say() { printf "%s\n" "$@" >>"$report"; }

# step NAME COUNTS WORDS COMMAND...: runs COMMAND, logs it, writes a row; COUNTS=no: a failure is only reported.
step() {
  local name=$1 counts=$2 words=$3 began ended code result
  shift 3
  echo "== $name: $*"
  began=$(date +%s.%N)
  "$@" >"$out/logs/$name.log" 2>&1
  code=$?
  ended=$(date +%s.%N)
  result=ok
  if [ $code -ne 0 ]; then
    result="exit code $code"
    if [ "$counts" = yes ]; then failed=1; else result="$result (does not count)"; fi
    tail -n 3 "$out/logs/$name.log"
  fi
  say "| $name | $words | $result | $(awk -v a="$began" -v b="$ended" 'BEGIN { printf "%.1f", b - a }') |"
}

# quote NAME LINES: the end of a step's log, in the report.
quote() {
  say "" "### $1" "" '```'
  sed 's/.*\r//' "$out/logs/$1.log" | tail -n "$2" >>"$report"  # of a progress bar the end
  say '```'
}

say "# ms_ddpm on $device" "" \
  "$(date -u '+%Y-%m-%d %H:%M') UTC, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $("$python" --version 2>&1)." "" \
  "Float32 products are true float32 but where a row says otherwise; translated kernels in a new directory." "" \
  "| step | what | result | seconds |" "| --- | --- | --- | --- |"

start="from ms_ddpm.doctor.start import compute; print(compute('$device'))"
step first_start yes "first start, empty kernel cache" "$python" -c "$start"
step second_start yes "second start" "$python" -c "$start"
step doctor yes "everything the doctor looks at" "$python" -m ms_ddpm.doctor --device_target "$device"
arguments=()
for tier in "${tiers[@]}"; do arguments+=(--tier "$tier"); done
step parity yes "parity with PyTorch, tiers ${tiers[*]}, float32" \
  "$python" scripts/parity.py check "${arguments[@]}" --device_target "$device" --output_dir "$out/parity" --quiet
if [ "$device" != CPU ]; then
  step parity-high no "the same with TF32 or HF32, judged as that" "$python" scripts/parity.py check "${arguments[@]}" \
    --device_target "$device" --matmul_precision high --output_dir "$out/parity-high" --quiet
  step parity-half no "float16 and bfloat16" "$python" scripts/parity.py check --tier 7 \
    --device_target "$device" --output_dir "$out/parity-half" --quiet
fi
step train yes "training on digits, $steps steps, dim 16, 64x1x8x8" "$python" scripts/train.py \
  --config configs/digits.yaml --device_target "$device" --output_dir "$out/train" \
  --train_num_steps "$steps" --save_and_sample_every "$steps"
if [ "$device" != CPU ]; then
  step train64 no "training at 64x64, 100 steps, dim 64, mults 1-2-4-8, batch 16" "$python" scripts/train.py \
    --config configs/digits.yaml --device_target "$device" --output_dir "$out/train64" --image_size 64 \
    --dim 64 --dim_mults 1 2 4 8 --train_batch_size 16 --train_num_steps 100 --save_and_sample_every 100 --num_samples 4
  step train64-float16 no "the same in float16 (O2)" "$python" scripts/train.py \
    --config configs/digits.yaml --device_target "$device" --output_dir "$out/train64-float16" --image_size 64 --amp_level O2 \
    --dim 64 --dim_mults 1 2 4 8 --train_batch_size 16 --train_num_steps 100 --save_and_sample_every 100 --num_samples 4
fi
arguments=()
for recipe in ${recipes[@]+"${recipes[@]}"}; do arguments+=(--recipe "$recipe"); done
step recipes yes "one step, of two batches, and one picture of each recipe: ${RECIPES:-every one}" \
  "$python" scripts/check_recipes.py --device_target "$device" --accumulate 2 --output_dir "$out/recipes" ${arguments[@]+"${arguments[@]}"}
step sample yes "64 digits, DDIM, 50 steps" "$python" scripts/sample.py --checkpoint "$out/train" \
  --device_target "$device" --num 64 --sampler ddim --sampling_steps 50 --output_dir "$out/samples"

if [ -d "$CUDA_CACHE_PATH" ]; then say "" "Kernels translated and kept: $(du -sh "$CUDA_CACHE_PATH" | cut -f1)"; fi
for name in first_start second_start parity parity-high parity-half train train64 train64-float16 recipes sample; do
  if [ -f "$out/logs/$name.log" ]; then quote "$name" 20; fi
done
for name in train train64 train64-float16; do
  if [ -f "$out/$name/log.jsonl" ]; then
    say "" "### $name: the last lines of log.jsonl" "" '```'
    tail -n 3 "$out/$name/log.jsonl" >>"$report"
    say '```'
  fi
done
quote doctor 80
if [ "$device" = GPU ] && command -v nvidia-smi >/dev/null; then
  nvidia-smi >"$out/logs/nvidia-smi.log" 2>&1
  quote nvidia-smi 40
fi
say "" "bench.py is not among these: its contestants are for the CPU. Compare speed by images_per_s above."

echo
if [ $failed -eq 0 ]; then echo "all went well: $report"; else echo "something failed: $report, logs in $out/logs"; fi
exit $failed
