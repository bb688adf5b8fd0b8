#!/usr/bin/env bash
# Starts training on one Cloud TPU VM: creates it, copies what is committed here to it, installs, prepares the data,
# and trains in the background. Run the same line again to go on: what is there already is kept.
#
#   launch/tpu_vm.sh --name=ernie --zone=us-west4-a --dry_run
#   launch/tpu_vm.sh --name=ernie --zone=us-west4-a --config=configs/demo.py:autoencoder --workdir=gs://my-bucket/demo
#
#   --name=NAME        of the TPU VM                                  required
#   --zone=ZONE        that offers the type                           required
#   --type=TYPE        accelerator type                               default: v5litepod-8
#   --version=VERSION  runtime of the VM                              default: v2-alpha-tpuv5-lite
#   --config=CONFIG    what to train                                  default: configs/demo.py:autoencoder
#   --data=DIR         prepared records, on the VM                    default: data
#   --workdir=DIR      checkpoints and logs, on the VM or gs://       default: runs/train
#   --spot             a spot VM: cheaper, may be taken away; training saves when that happens
#   --dry_run          print every command, run none
#
# Needs gcloud, logged in and with a project set. A TPU VM costs money until it is deleted; the last line printed deletes it.
set -euo pipefail

name='' zone='' spot=() dry_run=false
type=v5litepod-8 version=v2-alpha-tpuv5-lite
config=configs/demo.py:autoencoder data=data workdir=runs/train

for argument in "$@"; do
  case $argument in
    --name=*) name=${argument#*=} ;;
    --zone=*) zone=${argument#*=} ;;
    --type=*) type=${argument#*=} ;;
    --version=*) version=${argument#*=} ;;
    --config=*) config=${argument#*=} ;;
    --data=*) data=${argument#*=} ;;
    --workdir=*) workdir=${argument#*=} ;;
    --spot) spot=(--spot) ;;
    --dry_run) dry_run=true ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) echo "error: unknown argument $argument; --help lists what there is." >&2; exit 1 ;;
  esac
done
if [[ -z $name || -z $zone ]]; then
  echo "error: --name and --zone must be given; --help shows how." >&2
  exit 1
fi

# Prints a command as it could be typed, and runs it unless this is a dry run.
run() {
  local word line='+'
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=@,+-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+=" $word"
  done
  printf '%s\n' "$line"
  $dry_run || "$@"
}

tpu() { run gcloud compute tpus tpu-vm "$1" "$name" --zone="$zone" "${@:2}"; }
on_vm() { tpu ssh --command="$1"; }

# 1. The machine, unless it is there.
if $dry_run || ! gcloud compute tpus tpu-vm describe "$name" --zone="$zone" >/dev/null 2>&1; then
  tpu create --accelerator-type="$type" --version="$version" ${spot[@]+"${spot[@]}"}
fi

# 2. The code: what is committed, no more.
archive=${TMPDIR:-/tmp}/ernie_vilg_jax.tar.gz
run git -C "$(dirname "$0")/.." archive --format=tar.gz --output="$archive" HEAD
run gcloud compute tpus tpu-vm scp "$archive" "$name:ernie_vilg_jax.tar.gz" --zone="$zone"
on_vm 'mkdir -p ernie_vilg_jax && tar -xzf ernie_vilg_jax.tar.gz -C ernie_vilg_jax'

# 3. Python 3.11 by uv (the VM's own is older), the tested versions, and npm for the emoji art.
on_vm 'cd ernie_vilg_jax && python3 -m pip install -q --user uv && ~/.local/bin/uv venv -q --allow-existing --python 3.11 .venv && ~/.local/bin/uv pip install -q --python .venv -c constraints.txt -e ".[tpu]" && .venv/bin/python -c "import jax; print(jax.devices())"'
on_vm 'command -v npm >/dev/null || { sudo apt-get -qq update && sudo apt-get -qq install -y npm; }'

# 4. The data; an interrupted preparation goes on, and a finished one is kept.
printf -v prepare '.venv/bin/python -m ernie_vilg_jax.prepare --config=%q --output=%q' "$config" "$data"
on_vm "cd ernie_vilg_jax && $prepare"

# 5. Training, which outlives this shell. It resumes from the last checkpoint in the workdir.
printf -v train '.venv/bin/python -m ernie_vilg_jax.train --config=%q --config.data.path=%q --workdir=%q' "$config" "$data" "$workdir"
on_vm "cd ernie_vilg_jax && nohup $train > train.log 2>&1 < /dev/null & sleep 5; tail ernie_vilg_jax/train.log"

cat <<END

follow:  gcloud compute tpus tpu-vm ssh $name --zone=$zone --command='tail -f ernie_vilg_jax/train.log'
stop:    gcloud compute tpus tpu-vm ssh $name --zone=$zone --command='pkill -TERM -f ernie_vilg_jax.train'   (saves first)
delete:  gcloud compute tpus tpu-vm delete $name --zone=$zone
END
