#!/usr/bin/env bash
# usage: launch/debug.sh [CONFIG.yaml] [key=value ...]
#
# Train a few updates in one process, with everything checked, written and read once, in a folder beside the run's.
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in
    -h | --help) usage ;;
    -*) die "unknown option $1 (see -h)" ;;
esac
choose_processes 1
start 1 0 '' 0 "$@" debug=true
