#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All that waits for a GPU, with the Python of the shell: the tests on CUDA, then its rows of the bench beside the others.
#   DFIPS_TORCH=cuda ./run --help && source .venv/env.sh && benchmarks/gpu.sh
#   benchmarks/gpu.sh out/gpu        # figures into a folder of their own; "benchmarks/gpu.sh out/gpu --quick" in minutes
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
results=${1:-docs/results}

python - <<'PYTHON'
import sys
try:
    import torch
    import triton
except ImportError as cause:
    sys.exit(f"{cause}. Expected PyTorch's CUDA build and triton: DFIPS_TORCH=cuda ./run --help && source .venv/env.sh")
if not torch.cuda.is_available():
    sys.exit(f"PyTorch {torch.__version__} finds no CUDA device. Expected one: look at nvidia-smi and the driver.")
print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, Triton {triton.__version__}")
PYTHON

mkdir -p -- "$results"
status=0
python -m pytest test -k "cuda or gpu" || status=$? # a failure is told at the end: the figures come nevertheless
for section in pose scaling light jpeg; do
  skip=()
  [[ $section != pose ]] || skip=(--skip node renderers) # they do not use the GPU
  python -P -m dfips_ros.cli.main bench $section --device cuda --csv "$results/bench.csv" --append \
    --markdown "$results/bench.md" "${skip[@]}" "${@:2}" || status=$?
done
python -P -m dfips_ros.cli.main bench ik --device cuda --methods ours lm --targets 500 \
  --out "$results/bench_ik.csv" --markdown "$results/bench_ik.md" "${@:2}" || status=$?
exit $status
