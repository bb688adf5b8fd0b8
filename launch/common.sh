# shellcheck shell=bash
# Shared by the launch scripts, which source it. Bash 3.2 is enough, which is what macOS has.

dry_run=false
overrides=() # --config.KEY=VALUE flags, passed on to training unchanged
name='' zone='' type='' config='' data='' workdir=''

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

# The comment at the head of a script is its --help.
show_help() {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"
  exit 0
}

# The flags that pod.sh, tpu_vm.sh and xpk.sh take; anything else is an error.
# shellcheck disable=SC2034  # they use what this sets
common_flag() {
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --config=*) config=${1#*=} ;;
    --data=*) data=${1#*=} ;;
    --workdir=*) workdir=${1#*=} ;;
    --config.data.path=*) fail "--config.data.path is what --data sets; give that instead." ;;
    --config.*=*) overrides+=("$1") ;;
    --dry_run) dry_run=true ;;
    -h | --help) show_help ;;
    *) fail "unknown argument $1; --help lists what there is." ;;
  esac
}

# required FLAG...: fails unless each was given. The variable of --flag is $flag.
required() {
  local flag
  for flag in "$@"; do
    [[ -n ${!flag} ]] || fail "--$flag is missing; --help shows what it is."
  done
}

# Checks the workdir of several hosts.
bucket_workdir() {
  [[ $1 == gs://* ]] || fail "--workdir=$1 must be a gs:// URL: all workers write there, and it must outlive them."
}

# Prints its words, quoted for a shell.
quoted() {
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=@,+-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+=" $word"
  done
  printf '%s' "${line# }"
}

# Prints a command, and runs it unless this is a dry run.
run() {
  printf '+ %s\n' "$(quoted "$@")"
  $dry_run || "$@"
}

# The runtime version that goes with an accelerator type (cloud.google.com/tpu/docs/runtimes).
runtime_of() {
  case $1 in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v[234]-*) echo tpu-ubuntu2204-base ;;
    tpu7x-*) fail "--type=$1 is offered on GKE only: use launch/xpk.sh." ;;
    *) fail "--type=$1 has no known runtime; name one by --version." ;;
  esac
}

# training_command PYTHON CONFIG DATA WORKDIR [FLAG...]: the training command, as one line for a remote shell in the root of
# the repository. Environment variables for training would go in front of it: env NAME=VALUE.
training_command() {
  local line
  printf -v line '%q ' "$1" -m ernie_vilg_jax.train --config="$2" --config.data.path="$3" --workdir="$4" "${@:5}" \
    ${overrides[@]+"${overrides[@]}"}
  printf '%s' "${line% }"
}

# archive FILE: exactly what is committed here.
archive() {
  run git -C "$(dirname "$0")/.." archive --format=tar.gz --output="$1" HEAD
}
