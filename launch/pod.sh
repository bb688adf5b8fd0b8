#!/usr/bin/env bash
# Trains on a slice of a TPU pod, or on several, through queued resources: requests it, waits until it is granted, sets
# up every worker, and starts training on all of them. Run the same line again to resume: what exists is kept.
#
#   launch/pod.sh --name=ernie --zone=us-east5-a --type=v5p-128 --spot --watch \
#     --config=configs/paper.py:base,v5p_128 --data=gs://my-bucket/data --workdir=gs://my-bucket/run
#   launch/pod.sh --name=ernie --zone=us-east5-a --delete
#
#   --name=NAME        of the queued resource and its nodes                                        required
#   --zone=ZONE        that offers the type                                                        required
#   --type=TYPE        accelerator type of a slice, such as v5litepod-64, v5p-128, v6e-256         required
#   --config=CONFIG    what to train                                                               required
#   --config.KEY=VALUE any setting of the config, as in training
#   --data=DATA        prepared records: a gs:// URL, of which every worker reads the records of its rows, or a
#                      folder that every worker has at this path (a mount)                         required
#   --workdir=URL      checkpoints and logs, gs://: all workers write there, and it must outlive them   required
#   --slices=N         number of slices, as one multislice job                                     default: 1
#   --version=VERSION  runtime of the workers                               default: the one for the type
#   --spot             cheaper capacity that may be taken away; or
#   --reserved         capacity that you have reserved; without either: on demand
#   --valid_until=DURATION  such as 6h: a request that is not granted by then has FAILED (--watch queues again)
#   --watch            stay, and check every minute: slices that were taken away are queued for and set up again,
#                      and training resumes from its last checkpoint. Ends when training has ended
#   --then_delete      with --watch: delete the slices when training has ended
#   --restarts=N       with --watch: how often failed training is started again, in total          default: 3
#   --delete           delete the slices and what runs there; needs only --name and --zone
#   --dry_run          print every command, run none
#
# Needs gcloud, logged in and with a project set, and its key in the ssh agent: ssh-add ~/.ssh/google_compute_engine
# Slices cost money until they are deleted, whether or not anything runs on them.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

version='' slices=1
tier=() valid_until=() watch=false then_delete=false delete=false restarts=3
pause=60

for argument in "$@"; do
  case $argument in
    --version=*) version=${argument#*=} ;;
    --slices=*) slices=${argument#*=} ;;
    --spot | --reserved) tier+=("$argument") ;;
    --valid_until=*) valid_until=(--valid-until-duration="${argument#*=}") ;;
    --watch) watch=true ;;
    --then_delete) then_delete=true ;;
    --restarts=*) restarts=${argument#*=} ;;
    --delete) delete=true ;;
    *) common_flag "$argument" ;;
  esac
done
required name zone
[[ $name =~ ^[a-z]([a-z0-9-]*[a-z0-9])?$ ]] || fail "--name=$name is not a name: small letters, digits and dashes."
$watch || ! $then_delete || fail "--then_delete needs --watch."
if $delete; then
  ! $watch || fail "--delete and --watch exclude each other; --watch --then_delete deletes when training has ended."
else
  required type config data workdir
  bucket_workdir "$workdir"
  [[ $data == gs://* || $data == /* ]] || fail "--data=$data must be a gs:// URL, or a folder from / on every worker."
  [[ $slices =~ ^[1-9][0-9]*$ ]] || fail "--slices=$slices is not a number of slices."
  [[ $restarts =~ ^[0-9]+$ ]] || fail "--restarts=$restarts is not a number of restarts."
  [[ ${#tier[@]} -le 1 ]] || fail "--spot and --reserved exclude each other."
  [[ -n $version ]] || version=$(runtime_of "$type")
fi

say() { printf '%s %s\n' "$(date +%H:%M)" "$1"; }
queued() { run gcloud compute tpus queued-resources "$1" "$name" --zone="$zone" "${@:2}"; }
everywhere() { queued ssh --node=all --worker=all --command="$1"; }
first_worker=(gcloud compute tpus queued-resources ssh "$name" --zone="$zone" --node=0 --worker=0)
worker=ernie_vilg_jax/launch/worker.sh
code=${TMPDIR:-/tmp}/ernie_vilg_jax.tar.gz

# The state of the queued resource: NONE if there is none, UNKNOWN if gcloud failed.
ask_state=(gcloud compute tpus queued-resources list --zone="$zone" --filter="name~/$name\$"
  --format='value(state.state)')
ask() {
  state=$("${ask_state[@]}") || state=UNKNOWN
  state=${state:-NONE}
}

create() {
  local nodes=(--node-id="$name")
  [[ $slices == 1 ]] || nodes=(--node-count="$slices" --node-prefix="$name")
  queued create "${nodes[@]}" --accelerator-type="$type" --runtime-version="$version" \
    ${tier[@]+"${tier[@]}"} ${valid_until[@]+"${valid_until[@]}"}
}

remove() { queued delete --force --quiet; }

# Returns when the slices exist. From any state, it takes the next step towards that. Once the request is in the queue
# ($underway), temporary failures of gcloud no longer end it.
underway=false
until_active() {
  local before='' rounds=0
  if $dry_run; then
    create
    run "${ask_state[@]}"
    echo "# again every $pause seconds until it says ACTIVE"
    return
  fi
  while :; do
    ask
    # Every change, and the state every ten minutes.
    if [[ $state != "$before" ]] || ((rounds % 10 == 0)); then say "$name: $state"; fi
    before=$state
    rounds=$((rounds + 1))
    case $state in
      ACTIVE)
        underway=true
        return
        ;;
      NONE)
        # Right after a deletion, for example, the quota may still be taken.
        create || $underway || exit 1
        underway=true
        ;;
      SUSPENDED | FAILED)
        queued describe --format='yaml(state)' || true
        $watch || fail "$name is $state: what it had is gone, or was never granted. Delete it (--delete) and run this \
line again, or let --watch do both."
        underway=true
        remove || true
        ;;
      UNKNOWN) $underway || fail "gcloud could not tell the state of $name; see its message above." ;;
    esac
    sleep $pause
  done
}

# Every step waits for all workers, and can be repeated. Joined by && because it is called in a condition.
set_up() {
  run gcloud compute tpus queued-resources scp "$code" "$name:ernie_vilg_jax.tar.gz" --zone="$zone" \
    --node=all --worker=all &&
    everywhere 'mkdir -p ernie_vilg_jax && tar -xzf ernie_vilg_jax.tar.gz -C ernie_vilg_jax' &&
    everywhere "$worker install" || return
  everywhere "cd ernie_vilg_jax && launch/worker.sh start $(training_command .venv/bin/python "$config" "$data" \
    "$workdir" --distributed)"
}

# Empty if nothing is set up yet, or no worker answers.
training_status() { "${first_worker[@]}" --command="test ! -e $worker || $worker status" || true; }

# Counts a failure on slices that still exist; one because they were taken away does not count.
failed() {
  ask
  [[ $state == ACTIVE ]] || return 0
  ((restarts > 0)) || fail "$1, and no restart is left (--restarts). The slices are still there and cost money; \
--delete deletes them."
  restarts=$((restarts - 1))
  say "$1; starting again, restarts left: $restarts"
}

# Returns when something must be started again.
follow() {
  local status
  while sleep $pause; do
    ask
    case $state in
      ACTIVE) ;;
      UNKNOWN) continue ;;
      *)
        say "$name: $state"
        return
        ;;
    esac
    status=$(training_status)
    case $status in
      running | '') ;;
      0)
        say 'training has ended'
        if $then_delete; then remove; else say_more; fi
        exit
        ;;
      *)
        run "${first_worker[@]}" --command='tail -n 20 ernie_vilg_jax/train.log' || true
        failed "training failed (status $status)"
        everywhere "$worker stop" || true
        return
        ;;
    esac
  done
}

say_more() {
  cat <<MORE

follow:  $(quoted "${first_worker[@]}" --command='tail -f ernie_vilg_jax/train.log')
stop:    gcloud compute tpus queued-resources ssh $name --zone=$zone --node=all --worker=all --command='$worker stop'
delete:  $(dirname "$0")/pod.sh --name=$name --zone=$zone --delete
MORE
}

if $delete; then
  $dry_run || ask
  case ${state:-} in
    UNKNOWN) fail "gcloud could not tell the state of $name; see its message above." ;;
    NONE) echo "$name is not there; nothing to delete." ;;
    *) remove ;;
  esac
  exit
fi

archive "$code" # once, so that every set-up uses the same code
while :; do
  until_active
  if ! $dry_run && [[ $(training_status) == running ]]; then
    say 'training is running'
  elif ! set_up; then
    $watch || fail "setting up $name failed; see above. Run the same line again to go on."
    failed 'setting up failed'
    sleep $pause
    continue
  fi
  if ! $watch || $dry_run; then break; fi
  follow
done
if $watch; then
  echo "# every $pause seconds; when SUSPENDED or FAILED, it is deleted, and all but the first line done again:"
  run "${ask_state[@]}"
  run "${first_worker[@]}" --command="test ! -e $worker || $worker status"
  remove
fi
say_more
