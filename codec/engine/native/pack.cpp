#include "pack.h"

#include <algorithm>
#include <cmath>

#include "float_bits.h"

namespace earshot {

namespace {

// The parts of k values in a row, none longer than a block.
std::vector<Size> parts_of(Format format, Size k) {
    const Size most = block_words(format) * per_word(format);
    std::vector<Size> sizes;
    for (; k > 0; k -= sizes.back()) sizes.push_back(std::min(k, most));
    return sizes;
}

// Rounds to the nearest bf16, ties to even.
std::uint32_t bf16(float x) { return (float_bits(x) + 0x7fff + (float_bits(x) >> 16 & 1)) >> 16; }

// Returns 16 bits for a float that has no more: sign, exponent (0 for zero), ten bits of fraction.
std::uint32_t fp16(float x) {
    const std::uint32_t own = float_bits(x), sign = own >> 16 & 0x8000;
    if (!(own & 0x7fffffff)) return sign;
    return sign | static_cast<std::uint32_t>((static_cast<int>(own >> 23 & 255) - 127 - FP16_LEAST + 1) << 10) | (own >> 13 & 0x3ff);
}

bool fits_fp16(float x) {
    const std::uint32_t own = float_bits(x);
    const int exponent = static_cast<int>(own >> 23 & 255) - 127;
    return !(own & 0x7fffffff) || (!(own & 0x1fff) && exponent >= FP16_LEAST && exponent <= FP16_MOST);
}

// Writes words of weights in the order in which the kernels read them.
class Packer {
  public:
    Packer(const Floats& weights, Size n, Matrix& matrix)
        : from_(weights), n_(n), matrix_(matrix), to_(matrix.weights.data()) {}

    // Rows [row, row + k) in columns [column, column + width).
    void floats(Size row, Size k, Size column, Size width) {
        for (; k > 0; k--, row++, to_ += width) std::copy_n(from_.data() + row * n_ + column, width, to_);
    }

    void halves(Size row, Size k, Size column, Size width, std::uint32_t (*half)(float)) {
        for (; k > 0; k -= 2, row += 2)
            for (Size j = column; j < column + width; j++) put(half(at(row, j)) | half(at(row + 1, j)) << 16);
    }

    // In x, 128 stands for 0: the sums start from minus 128 times the sum of the column.
    void bytes(Size part, Size row, Size k, Size column, Size width) {
        float* const sums = to_;
        to_ += width;
        for (Size j = column; j < column + width; j++) {
            float most = 1e-30f;
            for (Size i = 0; i < k; i++) most = std::max(most, std::abs(at(row + i, j)));
            matrix_.scales.data()[part * n_ + j] = most / 127.0f;
        }
        std::vector<std::int32_t> totals(static_cast<std::size_t>(width), 0);
        for (Size i = 0; i < k; i += 4)
            for (Size j = column; j < column + width; j++) {
                unsigned char four[4];
                for (Size b = 0; b < 4; b++) {
                    const float scale = matrix_.scales.data()[part * n_ + j];
                    const auto byte = static_cast<std::int8_t>(std::lrint(at(row + i + b, j) / scale));
                    totals[static_cast<std::size_t>(j - column)] += byte;
                    four[b] = static_cast<unsigned char>(byte);
                }
                put(four[0] | std::uint32_t{four[1]} << 8 | std::uint32_t{four[2]} << 16 | std::uint32_t{four[3]} << 24);
            }
        for (Size j = 0; j < width; j++) {
            const std::int32_t start = -128 * totals[static_cast<std::size_t>(j)];
            std::memcpy(sums + j, &start, sizeof start);
        }
    }

  private:
    float at(Size row, Size column) const { return from_.data()[row * n_ + column]; }
    void put(std::uint32_t word) { std::memcpy(to_++, &word, sizeof word); }

    const Floats& from_;
    Size n_;
    Matrix& matrix_;
    float* to_;
};

// Converts the memory that rows lie in to bf16.
const float* round_all(const Kernels& kernels, Scratch& scratch, const Rows& rows, Size streams) {
    float* words = scratch.take(streams * rows.stream / 2);
    kernels.round(rows.data, streams * rows.stream, words);
    return words;
}

// Converts one part of every stream's row to bytes, with a scale for each.
Part quantise_part(const Kernels& kernels, Scratch& scratch, const float* data, Size stream, Size k, Size streams) {
    float *words = scratch.take(streams * k / 4), *scales = scratch.take(streams);
    for (Size s = 0; s < streams; s++) scales[s] = kernels.quantise(data + s * stream, k, words + s * k / 4);
    return {words, k / 4, 0, k / 4, scales};
}

}  // namespace

Matrix pack(const Kernels& kernels, Format format, const Floats& weights, const std::vector<Size>& cuts, Size n, bool tall) {
    if (format == Format::fp16 && !std::all_of(weights.data(), weights.data() + weights.size(), fits_fp16)) format = Format::fp32;
    std::vector<Size> parts;
    for (Size cut : cuts)
        for (Size part : parts_of(format, cut)) parts.push_back(part);
    const auto count = static_cast<Size>(parts.size());
    Size k = 0;
    for (Size part : parts) k += part / per_word(format) + (format == Format::int8);
    Matrix matrix{format, tall, k, n, Floats(k * n), Floats(n), Floats(format == Format::int8 ? count * n : 0)};
    Packer packer(weights, n, matrix);
    for (Size column = 0, width; column < n; column += width) {
        width = panel_width(tall ? kernels.tall_panel : kernels.panel, n, column);
        Size row = 0;
        for (Size part = 0; part < count; row += parts[static_cast<std::size_t>(part++)]) {
            const Size own = parts[static_cast<std::size_t>(part)];
            switch (format) {
                case Format::fp32: packer.floats(row, own, column, width); break;
                case Format::bf16: packer.halves(row, own, column, width, bf16); break;
                case Format::fp16: packer.halves(row, own, column, width, fp16); break;
                case Format::int8: packer.bytes(part, row, own, column, width); break;
            }
        }
    }
    return matrix;
}

void multiply(const Kernels& kernels, Scratch& scratch, const Matrix& matrix, const std::vector<Rows>& rows, Size streams,
              Size count, Target plain, Target elu, Target start) {
    const Scratch::Mark mark = scratch.mark();
    const Size words = per_word(matrix.format);
    std::vector<Part> parts;
    const float *memory = nullptr, *own = nullptr;
    for (const Rows& row : rows) {
        if (matrix.format == Format::bf16 && row.data != memory) own = round_all(kernels, scratch, row, streams);
        if (matrix.format == Format::fp32 || matrix.format == Format::fp16) own = row.data;
        memory = row.data;
        Size first = row.first;
        for (Size k : parts_of(matrix.format, row.k)) {
            if (matrix.format == Format::int8)
                parts.push_back(quantise_part(kernels, scratch, memory + first, row.stream, k, streams));
            else if (matrix.format == Format::fp16)
                parts.push_back({own + first, row.stream, row.row, k / words});
            else
                parts.push_back({own + first / words, row.stream / words, row.row / words, k / words});
            first += k;
        }
    }
    float* partial = parts.size() > 1 ? scratch.take(streams * count * std::max(kernels.panel, kernels.tall_panel)) : nullptr;
    float* turned = matrix.tall ? scratch.take(streams * matrix.k * (matrix.format == Format::fp16 ? 2 : 1)) : nullptr;
    kernels.multiply({&matrix, parts.data(), static_cast<Size>(parts.size()), streams, count, plain, elu, start, partial, turned});
    scratch.back_to(mark);
}

}  // namespace earshot
