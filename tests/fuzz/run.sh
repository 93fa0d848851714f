#!/usr/bin/env bash
# run.sh [SECONDS] [TARGET ...]: libFuzzer on each target (of all of them) for SECONDS (600), one per core at a time.
# build/fuzz keeps, per target: log/NAME, corpus/NAME/ (inputs that reached something new), findings/NAME/.
# Called by ./dev fuzz, which builds. Exit status 1: there is a finding.
set -euo pipefail
cd "$(dirname "$0")/../.."

export seconds=600
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    seconds=$1
    shift
fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for corpus in tests/fuzz/corpus/*/; do targets+=("$(basename "$corpus")"); done
fi
for target in "${targets[@]}"; do
    if [ ! -d "tests/fuzz/corpus/$target" ]; then
        echo "fuzz: $target is none of $(ls -x -w 0 tests/fuzz/corpus)" >&2
        exit 2
    fi
done

fuzz() {
    local target=$1 ended=0
    local log=build/fuzz/log/$target corpus=build/fuzz/corpus/$target findings=build/fuzz/findings/$target
    mkdir -p build/fuzz/log "$corpus" "$findings"
    # A gradient here has at most 67 KB, a file as much as the input, or 1 MiB where it is gunzipped. No allocation follows
    # from what a payload or a header says, so none is large.
    local command=(build/fuzz/tests/fuzz/fuzz "--target=$target" "--seeds=$corpus" "-max_total_time=$seconds" -max_len=20000 -timeout=60
        -malloc_limit_mb=8 -print_final_stats=1 "-artifact_prefix=$findings/" "$corpus" "tests/fuzz/corpus/$target")
    echo "$target: ${command[*]}"
    "${command[@]}" >"$log" 2>&1 || ended=$?
    local executions coverage
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    coverage=$(grep -ao 'cov: [0-9]*' "$log" | tail -n 1 || true)
    if [ "$ended" -eq 0 ]; then
        echo "$target: ${executions:-0} executions, $coverage, no finding"
        return
    fi
    local finding
    finding=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    echo "$target: FINDING after ${executions:-?} executions: ${finding:-no input is to blame}; what happened is in $log"
    [ -z "$finding" ] || echo "$target: again: build/fuzz/tests/fuzz/fuzz --target=$target $finding"
    return 1
}
export -f fuzz

# xargs starts the next one as soon as one ends, and fails where one failed.
if ! printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I '{}' bash -c 'set -euo pipefail; fuzz "{}"'; then
    echo "fuzz: there are findings" >&2
    exit 1
fi
echo "fuzz: ${#targets[@]} targets, $seconds s each, no finding"
