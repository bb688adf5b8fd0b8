#!/usr/bin/env bash
# From nothing to images on this machine: prepare, autoencoder, base, experts, sample.
#
#   launch/local.sh [--dry_run] CONFIG VARIANT FOLDER
#   launch/local.sh configs/demo.py quick runs/quick     # minutes (README.md); the art comes from the npm registry
#   launch/local.sh configs/demo.py smoke runs/smoke     # under two minutes, drawn shapes, nothing to download
#
# After an interruption, the same line resumes. PYTHON names the interpreter (default: python3).
set -euo pipefail

run=()
if [ "${1:-}" = --dry_run ]; then
  run=(echo)
  shift
fi
if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  exit
fi
if [ $# -ne 3 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
config=$1 variant=$2 folder=$3
python=${PYTHON:-python3}

"${run[@]}" "$python" -m ernie_vilg_jax.prepare --config="$config:$variant" --output="$folder/data"
for target in autoencoder base experts; do
  "${run[@]}" "$python" -m ernie_vilg_jax.train --config="$config:$target,$variant" \
    --config.data.path="$folder/data" --workdir="$folder"
done
"${run[@]}" "$python" -m ernie_vilg_jax.sample --checkpoint="$folder" --output="$folder/samples"
