#!/bin/sh
# Builds the native engine with AddressSanitizer and UndefinedBehaviorSanitizer beside the working tree and runs its tests
# on that: tests/bench/sanitize.sh [pytest arguments]. Environment: PYTHON (python3), CXX (g++).
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3} cxx=${CXX:-g++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r codec server client tests pyproject.toml "$work"
rm -f "$work"/codec/engine/native/_native.*.so
flags="-g -O1 -std=c++17 -fPIC -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
flags="$flags -Wno-maybe-uninitialized $("$python" -m pybind11 --includes)"
for source in codec/engine/native/*.cpp; do
    case $source in
    *avx2.cpp) own="-mavx2 -mfma" ;;
    *avx512.cpp) own="-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma" ;;
    *) own= ;;
    esac
    # shellcheck disable=SC2086 # lists of flags
    "$cxx" $flags $own -c "$source" -o "$work/$(basename "$source" .cpp).o"
done
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
"$cxx" -shared -fsanitize=address,undefined "$work"/*.o -o "$work/codec/engine/native/_native$suffix"
cd "$work"
# Python itself is not built with them: their library comes first, and what the interpreter never frees is no leak of ours.
LD_PRELOAD="$("$cxx" -print-file-name=libasan.so) $("$cxx" -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
    PYTHONPATH="$work" "$python" -m pytest -p no:cacheprovider "${@:-tests/codec/engine}"
