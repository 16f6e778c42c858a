#!/usr/bin/env bash
# Fuzzes the targets one after the other: fuzz/run.sh [SECONDS_PER_TARGET] [TARGET...]
#
# 60 seconds and all targets unless told otherwise; RUNS=N ends each after N executions if that is sooner, SEED=N
# tries the same inputs each time. What is found goes to target/fuzz/corpus, the seeds are fuzz/corpus. Exit code: 0
# when nothing broke, 1 when a target did, 2 when it was called wrongly, 3 when a tool is not there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
[[ $seconds =~ ^[0-9]+$ ]] || { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
shift || true
runs=${RUNS:--1}
seed=${SEED:-0} # 0 is another one each time
all=()
for file in fuzz/bin/*.rs; do all+=("$(basename "$file" .rs)"); done
chosen=("$@")
[[ $# -gt 0 ]] || chosen=("${all[@]}")
for target in "${chosen[@]}"; do
    [[ " ${all[*]} " == *" $target "* ]] || { echo "there is no target $target; there are ${all[*]}" >&2; exit 2; }
done

missing=0
need() { echo "fuzzing needs $1: $2" >&2; missing=1; }
command -v cargo-fuzz >/dev/null || need 'cargo-fuzz' 'cargo install cargo-fuzz --locked'
toolchain=${FUZZ_TOOLCHAIN:-nightly}
cargo "+$toolchain" --version >/dev/null 2>&1 || need "a $toolchain toolchain" "rustup toolchain install $toolchain --profile minimal"
[[ $missing == 0 ]] || exit 3

# There is no unsafe code here for a sanitizer to look at; without one a build is smaller and a run twice as quick.
# Overflow checks and debug assertions are on.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
where=${CARGO_TARGET_DIR:-target}/fuzz
cargo "+$toolchain" fuzz build --fuzz-dir fuzz --sanitizer none --features libfuzzer --target-dir "$where" >&2
host=$(rustc "+$toolchain" -vV | sed -n 's/^host: //p')

stat() { sed -n "s/^stat::$1: *//p" "$2" | tail -1; }
row() { printf '%-14s %12s %9s %9s %9s %9s %8s\n' "$@"; }
table=$(row target executions per-second coverage features new-files crashes)
broken=()
for target in "${chosen[@]}"; do
    mkdir -p "$where/corpus/$target" "$where/crashes/$target"
    log=$where/$target.log
    before=$(find "$where/corpus/$target" -type f | wc -l)
    dictionary=fuzz/dictionaries/$target.dict
    # A script of choices does not get deeper by being longer.
    case $target in retained | session | share | tree) length=256 ;; *) length=1024 ;; esac
    options=(-max_total_time="$seconds" -runs="$runs" -seed="$seed" -timeout=10 -max_len=$length -print_final_stats=1
        -artifact_prefix="$where/crashes/$target/")
    [[ ! -f $dictionary ]] || options+=(-dict="$dictionary")
    printf '%s: %s s\n' "$target" "$seconds" >&2
    crashes=0
    "$where/$host/release/$target" "$where/corpus/$target" "fuzz/corpus/$target" "${options[@]}" >"$log" 2>&1 || crashes=1
    if [[ $crashes == 1 ]]; then
        broken+=("$target")
        grep -a -m1 -A3 'panicked at\|ERROR: libFuzzer' "$log" >&2 || true
        grep -a 'Test unit written to' "$log" >&2 || true
    fi
    after=$(find "$where/corpus/$target" -type f | wc -l)
    last=$(grep -a -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -1 || true)
    read -r _ coverage _ features <<<"${last:-cov: 0 ft: 0}"
    line=$(row "$target" "$(stat number_of_executed_units "$log")" "$(stat average_exec_per_sec "$log")" \
        "$coverage" "$features" "$((after - before))" "$crashes")
    printf '%s\n' "$line" >&2
    table+=$'\n'$line
done

printf '\n%s\n' "$table"
[[ ${#broken[@]} == 0 ]] || { printf 'BROKEN: %s; logs and inputs are in %s\n' "${broken[*]}" "$where" >&2; exit 1; }
