#!/bin/sh
# The native engine under sanitizers, built beside the working tree: AddressSanitizer and UndefinedBehaviorSanitizer over
# the C++ check and over the Python tests of the engines, ThreadSanitizer over threads that share weights. All sets of
# kernels that this processor runs. `make sanitize`, or tests/bench/sanitize.sh [pytest arguments].
# Environment: PYTHON (python3) with what the tests need, CXX (g++), CMAKE (cmake).
set -eu
cd "$(dirname "$0")/../.."
root=$PWD python=${PYTHON:-python3} cxx=${CXX:-g++} cmake=${CMAKE:-cmake}
case $python in */*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
general="-g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all"

# build FOLDER FLAGS: the static library and its check, with these sanitizers.
build() {
    CXX=$cxx "$cmake" -S tests/native -B "$work/$1" -DCMAKE_BUILD_TYPE=None "-DCMAKE_CXX_FLAGS=$general $2" >/dev/null
    "$cmake" --build "$work/$1" --parallel >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
}

echo "== AddressSanitizer and UndefinedBehaviorSanitizer, C++"
both=-fsanitize=address,undefined
build both $both
"$work/both/check" streams
"$work/both/check" threads

echo "== ThreadSanitizer, C++"
build thread -fsanitize=thread
# It knows fixed layouts of memory only, which the randomness of newer kernels misses.
setarch "$(uname -m)" -R "$work/thread/check" threads

echo "== AddressSanitizer and UndefinedBehaviorSanitizer, Python"
cp -r earshot lab tests pyproject.toml "$work"
cp -r codec protocol recording server client lab "$work/earshot"
rm -f "$work"/earshot/codec/engine/native/*.so
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
# shellcheck disable=SC2046,SC2086 # lists of flags
"$cxx" -std=c++17 -fPIC -shared -fvisibility=hidden $general $both $("$python" -m pybind11 --includes) \
    "$root"/codec/engine/native/*binding.cpp "$work/both/engine/libearshot_native.a" \
    -o "$work/earshot/codec/engine/native/_native$suffix"
# shellcheck disable=SC2046,SC2086
"$cxx" -std=c++17 -fPIC -shared -fvisibility=hidden $general $both $("$python" -m pybind11 --includes) \
    "$root/codec/engine/native/integer_lm.cpp" -o "$work/earshot/codec/engine/native/_integer_lm$suffix"
cd "$work"
# AddressSanitizer keeps for a while what was freed: who measures that nothing is left would measure that.
[ $# -gt 0 ] || set -- tests/codec/engine tests/codec/lm/test_integer_lm.py tests/codec/lm/test_entropy.py \
    --deselect tests/codec/engine/native/test_engine.py::test_a_thousand_streams_leave_nothing_behind
# Python itself is not built with them: their library comes first, and what the interpreter never frees is no leak of ours.
LD_PRELOAD="$("$cxx" -print-file-name=libasan.so) $("$cxx" -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
    PYTHONPATH="$work" "$python" -m pytest -p no:cacheprovider --timeout=1800 "$@"
