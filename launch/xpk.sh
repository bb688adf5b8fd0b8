#!/usr/bin/env bash
# Trains on GKE by XPK (github.com/AI-Hypercomputer/xpk), on one slice or several. GKE restarts interrupted
# jobs, and training resumes from its last checkpoint.
#
#   launch/xpk.sh cluster --cluster=ernie --zone=us-east5-a --type=v5p-128 --spot
#   launch/xpk.sh data    --cluster=ernie --zone=us-east5-a --data=gs://my-bucket/data
#   launch/xpk.sh train   --cluster=ernie --zone=us-east5-a --type=v5p-128 --name=base \
#     --config=configs/paper.py:base,v5p_128 --data=gs://my-bucket/data --workdir=gs://my-bucket/run
#   launch/xpk.sh list    --cluster=ernie --zone=us-east5-a
#   launch/xpk.sh stop    --cluster=ernie --zone=us-east5-a --name=base
#   launch/xpk.sh delete  --cluster=ernie --zone=us-east5-a
#
#   cluster   creates the cluster with its TPU nodes, or changes the number of slices of an existing one
#   data      mounts the bucket of --data at /data in every workload, read-only, by Cloud Storage FUSE
#   train     submits the training; asks before it overwrites one of the same name
#   list      lists the workloads
#   stop      deletes the workload --name
#   delete    deletes the cluster with everything in it
#
#   --cluster=NAME     of the cluster                                                     required
#   --zone=ZONE        that offers the type                                               required
#   --type=TYPE        accelerator type of a slice, such as v5p-128                       cluster, train
#   --slices=N         number of slices (multislice)                                      default: 1
#   --spot             cheaper capacity that may be taken away; or
#   --reservation=NAME capacity that you have reserved; without either: on demand         cluster
#   --name=NAME        of the workload                                                    train, stop
#   --config=CONFIG    what to train                                                      train
#   --config.KEY=VALUE any setting of the config, as in training
#   --data=DATA        prepared records: gs://bucket/folder, or a folder in the container data, train
#   --workdir=URL      checkpoints and logs, gs://                                        train
#   --image=IMAGE      a container image that has the project installed                   train
#                      default: python:3.11 with what is committed here, installed at every start
#   --restarts=N       how often interrupted training is started again                    default: 50
#   --dry_run          print every command, run none
#
# Needs xpk (pip install xpk; it names what else is missing) and gcloud, logged in and with a project set. The nodes of
# a cluster cost money until they are deleted, whether or not anything runs on them.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

verb=${1:---help}
[[ $# -eq 0 ]] || shift
case $verb in
  cluster | data | train | list | stop | delete) ;;
  -h | --help) show_help ;;
  *) fail "$verb is none of cluster, data, train, list, stop, delete; --help shows how." ;;
esac

cluster='' slices=1 image='' restarts=50 capacity=()
for argument in "$@"; do
  case $argument in
    --cluster=*) cluster=${argument#*=} ;;
    --slices=*) slices=${argument#*=} ;;
    --spot | --reservation=*) capacity+=("$argument") ;;
    --image=*) image=${argument#*=} ;;
    --restarts=*) restarts=${argument#*=} ;;
    *) common_flag "$argument" ;;
  esac
done
required cluster zone
[[ $slices =~ ^[1-9][0-9]*$ ]] || fail "--slices=$slices is not a number of slices."
[[ $restarts =~ ^[0-9]+$ ]] || fail "--restarts=$restarts is not a number of restarts."

xpk() { run xpk "$1" "$2" "${@:3}" --cluster="$cluster" --zone="$zone"; }

case $verb in
  cluster)
    required type
    [[ ${#capacity[@]} -le 1 ]] || fail "--spot and --reservation exclude each other."
    [[ ${#capacity[@]} -eq 1 ]] || capacity=(--on-demand)
    xpk cluster create --tpu-type="$type" --num-slices="$slices" "${capacity[@]}" --enable-gcsfuse-csi-driver
    ;;
  data)
    required data
    [[ $data == gs://* ]] || fail "--data=$data must be a gs:// URL: its bucket is what is mounted."
    bucket=${data#gs://}
    xpk storage attach ernie-data --type=gcsfuse --bucket="${bucket%%/*}" --mount-point=/data --readonly=true \
      --auto-mount=true --size=1
    ;;
  train)
    required type name config data workdir
    bucket_workdir "$workdir"
    case $data in
      gs://*/*) data=/data/${data#gs://*/} ;;
      gs://*) data=/data ;;
      /*) ;;
      *) fail "--data=$data must be a gs:// URL, or a folder from / in the container." ;;
    esac
    # exec: XPK sends SIGTERM to the shell of the command, and training must get it in order to save.
    command="exec $(training_command python "$config" "$data" "$workdir" --distributed)"
    if [[ -n $image ]]; then
      source=(--docker-image="$image")
    else
      folder=${TMPDIR:-/tmp}/ernie_vilg_jax_image
      archive "$folder.tar.gz"
      run rm -rf "$folder"
      run mkdir "$folder"
      run tar -xzf "$folder.tar.gz" -C "$folder"
      source=(--base-docker-image=python:3.11 --script-dir="$folder")
      command="pip install -q -c constraints.txt -e '.[tpu]' && $command"
    fi
    xpk workload create --workload="$name" --tpu-type="$type" --num-slices="$slices" --max-restarts="$restarts" \
      "${source[@]}" --command="$command"
    ;;
  list) xpk workload list ;;
  stop)
    required name
    xpk workload delete --workload="$name"
    ;;
  delete) xpk cluster delete ;;
esac
