#!/usr/bin/env bash
# The part of CI that needs vLLM: makes the CPU engine's environment and runs its tests, skips being failures.
#   bash validate/ci.sh [VENV]        an existing VENV is brought up to date, not made anew
set -euo pipefail

cd "$(dirname "$0")/.."
venv=${1:-$(mktemp -d)/vllm}
bash validate/install-cpu.sh "$venv"
export SIMSCHED_REQUIRE_VLLM=1 OMP_NUM_THREADS=1
"$venv/bin/python" -W ignore -m pytest -q -m vllm tests/vllm tests/validate
