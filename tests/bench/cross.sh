#!/bin/sh
# The native engine for 64-bit ARM: compiled by Debian's cross compiler, run under qemu, and compared with what the portable
# kernels give on this processor. `make cross`. Speed under qemu means nothing.
# Debian packages: cmake g++ g++-aarch64-linux-gnu qemu-user.
set -eu
cd "$(dirname "$0")/../.."
for tool in cmake g++ aarch64-linux-gnu-g++ aarch64-linux-gnu-objdump qemu-aarch64; do
    command -v $tool >/dev/null || {
        echo "There is no $tool here: sudo apt-get install --no-install-recommends cmake g++ g++-aarch64-linux-gnu qemu-user" >&2
        exit 1
    }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build FOLDER CMAKE-ARGUMENTS...
build() {
    folder=$1
    shift
    cmake -S tests/native -B "$work/$folder" "$@" >/dev/null
    cmake --build "$work/$folder" --parallel >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
}

build here
build arm -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
"$work/here/check" save "$work/results"
arm="qemu-aarch64 -L /usr/aarch64-linux-gnu $work/arm/check"
echo "== results of this processor and of ARM"
$arm compare "$work/results"
echo "== streams and threads on ARM"
$arm streams
$arm threads
echo "== vector instructions of the kernels: fused multiply-adds (fmla), multiplications (fmul), additions (fadd)"
for file in "$work"/arm/engine/CMakeFiles/earshot_native.dir/kernels_*.o; do
    aarch64-linux-gnu-objdump -d "$file" | awk -v file="$(basename "$file" .cpp.o)" '
        $3 ~ /^(fmla|fmls|fmul|fadd)$/ && $4 ~ /\.4s/ { count[$3]++ }
        END { for (name in count) printf "%s %s %d\n", file, name, count[name] }' | sort
done
