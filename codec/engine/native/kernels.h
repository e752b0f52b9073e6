// The interface of a set of kernels, one set for each instruction set, and how sets are chosen.
#pragma once

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "memory.h"

namespace earshot {

// What a word (32 bits) of x and of W holds: a float, two bf16 or four bytes, from rows of W that
// follow each other. With fp16, which the portable kernels alone have, W holds two floats whose
// values are exact in so few bits, x stays as with fp32, and so do the results, bit by bit.
enum class Format { fp32, bf16, int8, fp16 };

constexpr Size per_word(Format format) { return format == Format::fp32 ? 1 : format == Format::int8 ? 4 : 2; }

// The exponent of a weight in fp16 has five bits: from 2^-24, the least that IEEE's format has, to
// 2^6. It stands for itself in the five lowest bits of a float's exponent, so that a weight is read
// as 2^-102 times its value, and x is multiplied by 2^102 to make up for it.
constexpr int FP16_LEAST = -24, FP16_MOST = 6;
constexpr float FP16_SCALE = 0x1p102f;

// Weights of y = bias + x W, packed for one kernel set: panels of columns, each with the rows of W
// one after the other. Both sides are padded to LANES, and so is every part of x.
struct Matrix {
    Format format = Format::fp32;
    bool tall = false;  // in panels of `tall_panel`, for products with one row for each stream
    Size k = 0, n = 0;  // words, columns; with int8 a word more per part, which its sums start from
    Floats weights, bias;
    Floats scales;  // [parts, n]: what an int8 weight of 1 stands for
};

// A part of x: row r of stream s is the k words at data + s * stream + r * row. With int8 there is
// one row per stream, and every part has scales of its own: what 1 stands for in stream s.
struct Part {
    const float* data;
    Size stream, row, k;
    const float* scales = nullptr;
};

// Where rows go: row r of stream s goes to data + s * stream + r * row, or nowhere without data.
struct Target {
    float* data = nullptr;
    Size stream = 0, row = 0;
};

// y = bias + (the parts side by side) W for `rows` rows of each of `streams` streams, written
// plain, through ELU, or both. If `start` has data, it replaces the bias (not for a tall matrix).
struct Product {
    const Matrix* matrix;
    const Part* parts;
    Size n_parts;
    Size streams, rows;
    Target plain, elu, start;
    float* partial;  // [streams * rows, panel]: sums of long products wait here between blocks of k
    float* turned = nullptr;  // [streams, matrix->k]: memory for a tall matrix
};

// A codebook of `size` entries.
struct Codebook {
    Size size = 0, width = 0;
    Floats entries;      // [size, width]
    Matrix columns;      // the same, packed
    Floats norms;        // squared; infinite for columns of padding
    float longest = 0;   // the largest norm
};

// Words of k, so that a panel of weights (160 KiB) stays in the second-level cache for all rows.
constexpr Size BLOCK = 640;
// With fp16 the sums are those of fp32.
constexpr Size block_words(Format format) { return format == Format::fp16 ? BLOCK / 2 : BLOCK; }

struct Kernels {
    const char* name;
    Size panel;  // widest panel; narrower ones, at the end of a Matrix, are 2^i * LANES wide
    Size tall_panel;
    // Whether the processor multiplies bf16. That is faster than fp32, and `nearest` uses it too.
    bool bf16;
    bool (*supported)();
    void (*multiply)(const Product&);
    // One layer of an LSTM: from gates [4, n] (input, forget, cell, output) and the cell state c
    // [n] to c and h [n].
    void (*lstm)(const float* gates, float* c, float* h, Size n);
    // y = ELU(a + b), n floats.
    void (*add_elu)(const float* a, const float* b, float* y, Size n);
    // Blocks of `block` floats lie in a row. For each pair p of them, y[2 p] = x[2 p] - x[2 p + 1]
    // and y[2 p + 1] = x[2 p + 2] - x[2 p + 1].
    void (*changes)(const float* x, Size block, Size pairs, float* y);
    // y[r] = bias + dot(w, x + r * row), k floats.
    void (*dot)(const float* x, Size row, const float* w, Size k, float bias, float* y, Size rows);
    // Finds for each of `rows` rows of x [width] the first index of the closest entry. `space`
    // holds, for every row, width + 4 * LANES + the padded size of the codebook or the panel,
    // whichever is larger.
    void (*nearest)(const Codebook& book, const float* x, Size rows, float* space, int* index);
    // Converts n floats (whole vectors) to bf16, two in a word.
    void (*round)(const float* x, Size n, float* words);
    // Converts n floats (whole vectors) to bytes, four in a word; 128 stands for 0. Returns what a
    // difference of 1 stands for.
    float (*quantise)(const float* x, Size n, float* words);
};

// Returns the width of the panel that starts at column `start` of n.
inline Size panel_width(Size most, Size n, Size start) {
    Size width = most;
    while (width > n - start) width /= 2;
    return width;
}

extern const Kernels PORTABLE;
#if defined(__x86_64__) && defined(__GNUC__)
#define EARSHOT_X86 1
extern const Kernels AVX2, AVX512;
#if defined(__clang__) || __GNUC__ >= 11
#define EARSHOT_BF16 1
extern const Kernels AVX512_BF16;
#endif
#endif

// Returns the names of the sets that this processor can run, fastest first; the last is "portable".
std::vector<std::string> kernel_names();

// Returns a set by name, or the fastest for "auto". Throws std::invalid_argument for other names.
const Kernels& find_kernels(const std::string& name);

}  // namespace earshot
