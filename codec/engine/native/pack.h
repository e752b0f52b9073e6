// Packs matrices in the formats of the kernels, and multiplies rows, converted to that format, by
// them.
#pragma once

#include <vector>

#include "kernels.h"

namespace earshot {

// Weights [k, n], and where k is cut into the parts that lie together in a row of x. `tall` is for
// products with one row per stream.
Matrix pack(const Kernels& kernels, Format format, const Floats& weights, const std::vector<Size>& cuts, Size n,
            bool tall = false);

// Row r of stream s is the k floats at data + s * stream + first + r * row. All `stream` floats of
// every stream are readable.
struct Rows {
    const float* data;
    Size stream, first, row, k;
};

// Computes y = bias + (the rows side by side) W for `count` rows of each of `streams` streams, as
// in Product.
void multiply(const Kernels& kernels, Scratch& scratch, const Matrix& matrix, const std::vector<Rows>& rows, Size streams,
              Size count, Target plain, Target elu, Target start);

}  // namespace earshot
