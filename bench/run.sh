#!/usr/bin/env bash
# Builds and runs every benchmark; what it prints is what docs/performance.md shows. Called by ./dev bench.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset bench -Wno-dev >/dev/null
cmake --build build/bench --target bench_update bench_codec bench_worker bench_push_pull bench_sim
echo "Machine: $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1); load $(cut -d' ' -f1 /proc/loadavg)"
echo
build/bench/bench/bench_worker
echo
build/bench/bench/bench_update
echo
build/bench/bench/bench_codec
echo
build/bench/bench/bench_sim
echo
mpirun=$(cat build/bench/bench/mpirun)
$mpirun -n 2 build/bench/bench/bench_push_pull
echo
if command -v tc >/dev/null && ip netns add "lgprobe$$" 2>/dev/null; then
    ip netns del "lgprobe$$"
    cmake --build build/bench --target lategrad
    bench/slow_link.sh --program build/bench/lategrad
else
    echo "bench/slow_link.sh left out: it needs tc (apt-get install iproute2) and the right to make network namespaces"
fi
