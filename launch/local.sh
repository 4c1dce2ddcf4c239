#!/usr/bin/env bash
# usage: launch/local.sh [-n N] [--doctor] [CONFIG.yaml] [key=value ...]
#        launch/local.sh [-n N] --score RUN [key=value ...]
#
# Train on this machine: a process on each of its GPUs (or those in CUDA_VISIBLE_DEVICES), or on N of them.
# Without a GPU: N processes on the CPU (default 1), which share its cores. --doctor reports in seconds whether the run
# would work and how fast, and trains nothing. --score computes metrics of a run: python -m dist_gan.score --help.
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

count=
while (($# > 0)); do
    case $1 in
        -h | --help) usage ;;
        -n) (($# > 1)) || die "-n: expected a number of processes"; count=$2; shift 2 ;;
        --doctor) examine; shift ;;
        --score) score; shift ;;
        --print-config) break ;;
        -*) die "unknown option $1 (see -h)" ;;
        *) break ;;
    esac
done
choose_processes "$count"
start 1 0 '' 0 "$@"  # port 0: a free one, so that two runs do not collide
