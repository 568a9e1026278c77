#!/usr/bin/env bash
# Runs each fuzz target for some seconds and prints how many inputs it tried: fuzz/run.sh [SECONDS [TARGET...]]
#
# Stable Rust: the flags are those that `cargo fuzz -s none` passes. Needs a C++ compiler for libFuzzer. What is found stays in
# target/fuzz/artifacts, what was learnt in target/fuzz/corpus; fuzz/seeds is where each new start begins. To try one input again:
# target/fuzz/<host>/release/<target> <file>
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=${*:-$(basename -s .rs fuzz/targets/*.rs)}
host=$(rustc -vV | sed -n 's/^host: //p')

# With --target, build scripts and macros are not instrumented.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0" \
    cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target "$host" --target-dir target/fuzz

for target in $targets; do
    work=target/fuzz/corpus/$target
    log=target/fuzz/$target.log
    mkdir -p "$work" target/fuzz/artifacts
    # 128 KiB is the usual frame_max: longer inputs only repeat.
    if ! "target/fuzz/$host/release/$target" "$work" "fuzz/seeds/$target" -max_total_time="$seconds" -max_len=131072 \
        -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="target/fuzz/artifacts/$target-" 2>"$log"; then
        grep -A 2 -m 1 -E 'panicked|ERROR: libFuzzer' "$log" >&2 || tail -40 "$log" >&2
        echo "$target: FAILED, the input is in target/fuzz/artifacts" >&2
        exit 1
    fi
    awk -v target="$target" '
        /cov:/ { for (i = 1; i < NF; i++) if ($i == "cov:") edges = $(i + 1) }
        /number_of_executed_units/ { executions = $2 }
        /average_exec_per_sec/ { rate = $2 }
        END { printf "%s: %d executions, %d/s, %d edges covered, no failure\n", target, executions, rate, edges }' "$log"
done
