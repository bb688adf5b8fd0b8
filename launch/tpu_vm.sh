#!/usr/bin/env bash
# Starts training on one Cloud TPU VM: creates it, copies what is committed here to it, installs, prepares the data,
# and trains in the background. Run the same line again to resume: what exists is kept.
#
#   launch/tpu_vm.sh --name=ernie --zone=us-west4-a --dry_run
#   launch/tpu_vm.sh --name=ernie --zone=us-west4-a --config=configs/demo.py:autoencoder --workdir=gs://my-bucket/demo
#
#   --name=NAME        of the TPU VM                                  required
#   --zone=ZONE        that offers the type                           required
#   --type=TYPE        accelerator type, of one machine                 default: v5litepod-8
#   --version=VERSION  runtime of the VM                              default: the one for the type
#   --config=CONFIG    what to train                                  default: configs/demo.py:autoencoder
#   --config.KEY=VALUE any setting of the config, as in training
#   --data=DIR         prepared records: prepared there on the VM, or read from a gs:// URL           default: data
#   --workdir=DIR      checkpoints and logs, on the VM or gs://       default: runs/train
#   --spot             a spot VM: cheaper, may be taken away; training saves when that happens
#   --dry_run          print every command, run none
#
# Needs gcloud, logged in and with a project set. A TPU VM costs money until it is deleted; the last line printed does
# that.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

version='' spot=()
type=v5litepod-8 config=configs/demo.py:autoencoder data=data workdir=runs/train

for argument in "$@"; do
  case $argument in
    --version=*) version=${argument#*=} ;;
    --spot) spot=(--spot) ;;
    *) common_flag "$argument" ;;
  esac
done
[[ -n $name && -n $zone ]] || fail "--name and --zone must be given; --help shows how."
required type config data workdir
[[ -n $version ]] || version=$(runtime_of "$type")

tpu() { run gcloud compute tpus tpu-vm "$1" "$name" --zone="$zone" "${@:2}"; }
on_vm() { tpu ssh --command="$1"; }

# 1. The machine, unless it exists. A spot VM that was taken away stays listed, and must be deleted first.
state=''
$dry_run || state=$(gcloud compute tpus tpu-vm list --zone="$zone" --filter="name~/$name\$" --format='value(state)')
if [[ $state == PREEMPTED || $state == TERMINATED ]]; then
  tpu delete --quiet
  state=''
fi
if [[ -z $state ]]; then
  tpu create --accelerator-type="$type" --version="$version" ${spot[@]+"${spot[@]}"}
fi

# 2. The code.
code=${TMPDIR:-/tmp}/ernie_vilg_jax.tar.gz
archive "$code"
run gcloud compute tpus tpu-vm scp "$code" "$name:ernie_vilg_jax.tar.gz" --zone="$zone"
on_vm 'mkdir -p ernie_vilg_jax && tar -xzf ernie_vilg_jax.tar.gz -C ernie_vilg_jax'

# 3. The tested versions, and a list of the chips.
on_vm 'ernie_vilg_jax/launch/worker.sh install'
on_vm 'cd ernie_vilg_jax && .venv/bin/python -c "import jax; print(jax.devices())"'

# 4. The data: read from a bucket, or prepared there, with npm for the emoji art. An interrupted preparation resumes, and a
# finished one is kept.
if [[ $data != gs://* ]]; then
  on_vm 'command -v npm >/dev/null || { sudo apt-get -qq update && sudo apt-get -qq install -y npm; }'
  printf -v prepare '.venv/bin/python -m ernie_vilg_jax.prepare --config=%q --output=%q' "$config" "$data"
  on_vm "cd ernie_vilg_jax && $prepare"
fi

# 5. Training, which outlives this shell. It resumes from the last checkpoint in the workdir.
on_vm "cd ernie_vilg_jax && launch/worker.sh start $(training_command .venv/bin/python "$config" "$data" "$workdir")"

cat <<MORE

follow:  gcloud compute tpus tpu-vm ssh $name --zone=$zone --command='tail -f ernie_vilg_jax/train.log'
stop:    gcloud compute tpus tpu-vm ssh $name --zone=$zone --command='ernie_vilg_jax/launch/worker.sh stop'
delete:  gcloud compute tpus tpu-vm delete $name --zone=$zone
MORE
