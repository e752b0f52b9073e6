// What a set of kernels can do, one set for each instruction set, and how they are chosen.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "memory.h"

namespace earshot {

// Weights of y = bias + x W, packed for one kernel set: panels of columns, in each the rows of W one after the other.
// Both sides are padded to LANES.
struct Matrix {
    Size k = 0, n = 0;
    Floats weights, bias;
};

// A part of x: row r of stream s is the k floats at data + s * stream + r * row.
struct Part {
    const float* data;
    Size stream, row, k;
};

// Where rows go: row r of stream s to data + s * stream + r * row. No data: nowhere.
struct Target {
    float* data = nullptr;
    Size stream = 0, row = 0;
};

// y = bias + (the parts side by side) W for `rows` rows of each of `streams` streams, written plain, through ELU, or both.
struct Product {
    const Matrix* matrix;
    const Part* parts;
    Size n_parts;
    Size streams, rows;
    Target plain, elu;
    float* partial;  // [streams * rows, panel]: sums of long products wait here between blocks of k
};

constexpr Size BLOCK = 512;  // of k: with it a panel of weights (128 KiB) stays in the second cache for all rows

struct Kernels {
    const char* name;
    Size panel;  // widest panel of a Matrix; narrower ones, at its end, are powers of two times LANES
    bool (*supported)();
    void (*multiply)(const Product&);
    // One layer of an LSTM: gates [4, n] (input, forget, cell, output) and the cell state c [n] -> c, h [n].
    void (*lstm)(const float* gates, float* c, float* h, Size n);
    // y = ELU(a + b), n floats.
    void (*add_elu)(const float* a, const float* b, float* y, Size n);
    // y[r] = bias + dot(w, x + r * row), k floats.
    void (*dot)(const float* x, Size row, const float* w, Size k, float bias, float* y, Size rows);
    // For each of `rows` rows of x [k] the first index of the entry (a column of `entries`, with its squared norm) that is
    // closest. `space` holds rows * (panel + 2 * LANES + 1) floats.
    void (*nearest)(const Matrix& entries, const float* norms, const float* x, Size rows, float* space, int* index);
};

// Width of the panel that starts at column `start` of n.
inline Size panel_width(Size most, Size n, Size start) {
    Size width = most;
    while (width > n - start) width /= 2;
    return width;
}

extern const Kernels PORTABLE;
#if defined(__x86_64__) && defined(__GNUC__)
#define EARSHOT_X86 1
extern const Kernels AVX2, AVX512;
#endif

// Names of the sets that this processor can run, fastest first; the last is always "portable".
std::vector<std::string> kernel_names();

// A set by name, or the fastest for "auto". Throws std::invalid_argument for others.
const Kernels& find_kernels(const std::string& name);

}  // namespace earshot
