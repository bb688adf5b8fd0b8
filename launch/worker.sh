#!/usr/bin/env bash
# Run by the other scripts on a TPU VM over ssh, in its copy of the repository.
#
#   launch/worker.sh install            Python 3.11 and the tested versions in .venv; quick if they are installed
#   launch/worker.sh start COMMAND...   in the background, unless one is running; its output goes to train.log
#   launch/worker.sh status             prints running, or the exit status of the last one, or none
#   launch/worker.sh stop               sends SIGTERM, on which training saves; after five minutes SIGKILL
#
# --dry_run as the first argument prints the commands of install and start, and runs none.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

if [[ ${1:-} == --dry_run ]]; then
  dry_run=true
  shift
fi
verb=${1:---help}
[[ $verb != -h && $verb != --help ]] || show_help
shift
cd "$(dirname "$0")/.."

# The lock is held for as long as a started command lives, however it ends.
running() { ! flock --nonblock train.lock true; }

case $verb in
  install)
    # uv brings Python 3.11; the VM's own is older.
    run python3 -m pip install -q --user uv
    run "$HOME/.local/bin/uv" venv -q --allow-existing --python 3.11 .venv
    run "$HOME/.local/bin/uv" pip install -q --python .venv -c constraints.txt -e '.[tpu]'
    ;;
  start)
    [[ $# -gt 0 ]] || fail "start needs the command to start; --help shows how."
    if $dry_run; then
      run "$@"
      exit
    fi
    exec 9> train.lock
    if ! flock --nonblock 9; then
      echo "already running: $(tail -n 1 train.log 2> /dev/null)"
      exit
    fi
    rm -f train.exit
    # Ignoring SIGHUP lets it outlive the ssh session. The command itself does not inherit the lock: a helper process
    # that it leaves behind would hold it forever.
    (
      trap '' HUP
      "$@" 9>&- &
      echo $! > train.pid
      status=0
      wait $! || status=$?
      echo $status > train.exit
    ) >> train.log 2>&1 < /dev/null &
    echo "started on $(hostname)"
    ;;
  status)
    if running; then
      echo running
    else
      cat train.exit 2> /dev/null || echo none
    fi
    ;;
  stop)
    if running; then
      kill -TERM "$(cat train.pid)" || true
      # A worker that waits for a dead one never reaches its next step, where it would stop.
      flock --timeout 300 train.lock true || kill -KILL "$(cat train.pid)"
    fi
    ;;
  *) fail "unknown verb $verb; --help lists what there is." ;;
esac
