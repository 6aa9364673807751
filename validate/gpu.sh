#!/usr/bin/env bash
# What to run where a GPU is at hand for a quarter of an hour, in order of worth; each part by itself, saved as
# it goes, and cut anywhere without losing what is done (the next call goes on):
#   bash validate/gpu.sh OUT check     does a launch wait for the device? one minute of serving under
#                                      VLLM_GPU_SYNC_CHECK=warn: two minutes with the engine's start
#   bash validate/gpu.sh OUT all       calibration, three alternating turns of FCFS, ranking and MLFQ, comparison
#   bash validate/gpu.sh OUT graphs    the same in small with CUDA graphs up to 2,048 tokens: the host is no
#                                      bottleneck, so blind predictions tell
# PYTHON: vLLM's. LIMIT: seconds for a part (500; graphs 280). DEVICE=cpu rehearses it on vLLM's CPU engine.
set -euo pipefail

out=${1:-}; part=${2:-}
case "$part" in check | all | graphs) ;; *) sed -n '2,9s/^# //p' "$0" >&2; exit 2 ;; esac
python=${PYTHON:-python3}; device=${DEVICE:-cuda}
export VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 MPLBACKEND=Agg PYTHONUNBUFFERED=1 VLLM_LOGGING_LEVEL=ERROR
cd "$(dirname "$0")/.."
mkdir -p "$out"
if command -v nvidia-smi > /dev/null; then
    nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.max.sm --format=csv,noheader > "$out/gpu.txt"
fi

session() { # NAME OPTIONS...: begin a session, or go on with it
    local folder=$out/$1; shift
    if [ -f "$folder/session.json" ]; then
        $python -m validate all --resume -o "$folder" "$@"
    else
        $python -m validate all --device "$device" -o "$folder" "$@"
    fi
}

case "$part" in
check)
    if [ "$device" = cpu ]; then
        engine="--model tiny-llama --block-size 32 --num-gpu-blocks 140 --max-num-seqs 16 --max-model-len 1024"
    else
        engine="--model llama-3-8b --max-num-seqs 256 --max-num-batched-tokens 2048 --max-model-len 8192"
    fi
    # shellcheck disable=SC2086  # words
    VLLM_GPU_SYNC_CHECK=warn $python -m validate replay --device "$device" $engine --workload sharegpt --truncate \
        --request-rate 10 --duration "${LIMIT:-60}" --policy fcfs -o "$out/check" --overwrite 2>&1 | tee "$out/check.log"
    # not torch's own notice that this mode is a prototype
    grep -ci "called a synchronizing\|sync detected" "$out/check.log" > "$out/check.count" || true
    echo "warnings of synchronisation: $(cat "$out/check.count")"
    ;;
all) session all --limit "${LIMIT:-500}" ;;
graphs)
    graphs="--max-cudagraph-capture-size 2048"
    [ "$device" = cuda ] || graphs=""
    # shellcheck disable=SC2086
    session graphs $graphs --repeats 1 --policy fcfs,ranking --load 0.9x --limit "${LIMIT:-280}"
    ;;
esac
