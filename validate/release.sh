#!/usr/bin/env bash
# Before a release: everything that is claimed of vLLM, version by version (about an hour and a half of one core;
# needs the package index, whose versions are kept in the user's cache).
#   bash validate/release.sh [VENV] [--record]
set -euo pipefail

cd "$(dirname "$0")/.."
venv=$(mktemp -d)/vllm
case "${1:-}" in "" | --*) ;; *) venv=$1 && shift ;; esac
bash validate/install-cpu.sh "$venv"
export OMP_NUM_THREADS=1
"$venv/bin/python" -W ignore -m validate release "$@"
