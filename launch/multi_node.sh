#!/usr/bin/env bash
# usage: launch/multi_node.sh --nodes M --rank R --head ADDRESS --port P [-n N] [--doctor] [CONFIG.yaml] [key=value ...]
#
# Train on M nodes without a scheduler: start the same command on each, with R from 0 to M - 1. They may start in any
# order. On a cluster with SLURM use slurm/ instead.
#
#   --nodes M       how many nodes
#   --rank R        which of them this is; 0 is the head node
#   --head ADDRESS  the head node's address, where the other nodes reach it
#   --port P        a port that is free on the head node
#   -n N            processes on this node, the same on each (default: one for each GPU, or one on the CPU)
#   --doctor        report in seconds whether the run would work and how fast, and train nothing; give it on every node
#   --score         compute metrics of a run, in place of CONFIG.yaml: RUN [key=value ...] (python -m dist_gan.score --help)
#
# All nodes need the repository, the data and the run's folder under the same paths.
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

nodes='' rank='' head='' port='' count=''
while (($# > 0)); do
    case $1 in
        -h | --help) usage ;;
        --nodes | --rank | --head | --port | -n)
            (($# > 1)) || die "$1: expected a value (see -h)"
            case $1 in
                --nodes) nodes=$2 ;;
                --rank) rank=$2 ;;
                --head) head=$2 ;;
                --port) port=$2 ;;
                -n) count=$2 ;;
            esac
            shift 2
            ;;
        --doctor) examine; shift ;;
        --score) score; shift ;;
        --print-config) break ;;
        -*) die "unknown option $1 (see -h)" ;;
        *) break ;;
    esac
done
for name in nodes rank head port; do
    [[ -n ${!name} ]] || die "--$name is missing (see -h)"
done
is_count "$nodes" || die "--nodes $nodes: expected a number of nodes"
[[ $rank == 0 ]] || { is_count "$rank" && ((rank < nodes)); } || die "--rank $rank: expected 0 to $((nodes - 1))"
{ is_count "$port" && ((port < 65536)); } || die "--port $port: expected the number of a port"
choose_processes "$count"
start "$nodes" "$rank" "$head" "$port" "$@"
