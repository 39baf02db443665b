#!/usr/bin/env bash
# Every figure of the checkers, of reading and of recording, as one table with the machine's name; then the same histories
# under other people's checkers, and instruction counts, where valgrind is installed. Some ten minutes on an idle machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

machine="$(uname -sr), $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(nproc) processors"
echo "Measured on $machine, $(rustc --version | cut -d' ' -f1-2), load $(cut -d' ' -f1 /proc/loadavg) at the beginning"
echo
echo "| figure | value |"
echo "|---|---|"
row() { awk '/^figure / { printf "| %s | %s %s |\n", $2, $3, $4 }'; }

# `nothing` matches no benchmark of criterion's: figures only.
for bench in engines models locks stream; do
    cargo bench -q -p splitbrain-checkers --bench "$bench" -- nothing 2>/dev/null | row
done
# Criterion's own words: a name, then its rate in elements, which are events.
cargo bench -q -p splitbrain-core --bench lines 2>/dev/null | awk '
    /time:/ && $1 != "time:" { name = $0; sub(/ +time:.*/, "", name) }
    !/time:|thrpt:|outliers|%|high|low/ && NF { name = $0 }
    /thrpt:/ { print "| " name " | " $4 " " $5 " |" }'
cargo bench -q -p splitbrain-runner --bench recorder 2>/dev/null | row
cargo bench -q -p splitbrain-runner --bench turns 2>/dev/null | row

bench=$(cargo bench -q -p splitbrain-checkers --bench engines --no-run --message-format=json 2>/dev/null |
    grep -o '"executable":"[^"]*"' | tail -1 | cut -d'"' -f4)
for shape in 10000-by-20 100000-by-5 1000000-by-10 1000-by-20-crashes 10000-by-10-crashes; do
    SPLITBRAIN_SHAPE=$shape "$bench" --bench | grep peak | row
done
if command -v valgrind >/dev/null; then
    for shape in 10000-by-20 1000-by-50 10000-by-10-crashes; do
        counts=$(SPLITBRAIN_SHAPE=$shape valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null \
            "$bench" --bench 2>&1 >/dev/null | awk '/I +refs/ { print $NF }')
        echo "| $shape, making it included | $counts instructions |"
    done
fi

# A peer that is not done after a minute, or wants more than 4 GB, is undecided.
cargo build -q --release --manifest-path checkers/benches/peers/Cargo.toml
target=$(cargo metadata --format-version 1 --no-deps --manifest-path checkers/benches/peers/Cargo.toml |
    grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)
for shape in "20 3" "100 5" "1000 5" "10000 20" "1000 50"; do
    for checker in ours todc stateright; do
        if ! (ulimit -v 4194304 && timeout 60 "$target/release/splitbrain-peers" $checker $shape 2>/dev/null) | row; then
            echo "| $checker-${shape/ /-by-} | undecided |"
        fi
    done
done
