#!/usr/bin/env bash
# The part of CI that needs vLLM: makes the CPU engine's environment and runs its tests, skips being failures;
# then lock-step on the versions around which vLLM's rules have changed.
#   bash validate/ci.sh [VENV]        an existing VENV is brought up to date, not made anew
#
# Those versions' files come from the package index, once. Where it does not have one of them, that version is
# not compared, which is said: what this checkout does wrong then still shows on the installed version, and
# validate/release.sh insists on all.
set -euo pipefail

cd "$(dirname "$0")/.."
venv=${1:-$(mktemp -d)/vllm}
bash validate/install-cpu.sh "$venv"
export SIMSCHED_REQUIRE_VLLM=1 OMP_NUM_THREADS=1
"$venv/bin/python" -W ignore -m pytest -q -m vllm tests/vllm tests/validate
for version in 0.24.0 0.30.0 0.31.0 0.33.0; do
    found=0
    "$venv/bin/python" -W ignore -m validate prepare "$version" || found=$?
    case $found in
        0) "$venv/bin/python" -W ignore -m validate lockstep --quick --vllm-version "$version" ;;
        3) echo "vLLM $version: NOT COMPARED, its files cannot be had here" ;;
        *) exit "$found" ;;
    esac
done
