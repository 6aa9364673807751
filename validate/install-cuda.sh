#!/usr/bin/env bash
# vLLM for a GPU and this project, in a virtual environment of their own (see validate/install-cuda.md):
#   bash validate/install-cuda.sh install VENV [PYTHON]          where there is a network
#   bash validate/install-cuda.sh pack WHEELS [PYTHON]           where there is one: all wheels for a host without
#   bash validate/install-cuda.sh unpack WHEELS VENV [PYTHON]    on that host, with the same version of Python
# VLLM_VERSION (0.32.0): 0.24.0 to 0.33.0. HAVE_TORCH=1: the host has the torch that this vLLM is pinned to;
# torch and CUDA's libraries (some 4 GB) are then neither packed nor installed.
set -euo pipefail

usage() { sed -n '2,7s/^# //p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
version=${VLLM_VERSION:-0.32.0}
site=${HAVE_TORCH:+--system-site-packages}

case ${1:-} in
install)
    venv=${2:-}; [ -n "$venv" ] || usage
    "${3:-python3}" -m venv $site "$venv"
    "$venv/bin/pip" install --quiet "vllm==$version" "$here"
    ;;
pack)
    wheels=${2:-}; [ -n "$wheels" ] || usage
    mkdir -p "$wheels"
    "${3:-python3}" -m pip wheel --quiet --no-deps --wheel-dir "$wheels" "$here"
    # one call: vLLM's pins and ours have to agree
    "${3:-python3}" -m pip download --quiet --only-binary=:all: --dest "$wheels" "vllm==$version" "$wheels"/simsched-*.whl
    if [ -n "$site" ]; then
        rm -f "$wheels"/torch-* "$wheels"/nvidia_* "$wheels"/triton-* "$wheels"/cuda_*
    fi
    du -sh "$wheels"
    ;;
unpack)
    wheels=${2:-}; venv=${3:-}; [ -n "$venv" ] || usage
    "${4:-python3}" -m venv $site "$venv"
    "$venv/bin/pip" install --quiet --no-index --find-links "$wheels" "vllm==$version" simsched
    ;;
*) usage ;;
esac
[ "$1" = pack ] || (cd "$here" && "$venv/bin/python" -c "
import torch, vllm
print('vLLM', vllm.__version__, 'torch', torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU seen')")
