// The kernels, written once over a vector type V. The file of each instruction set includes this
// one inside an unnamed namespace, because the linker must not merge the same code compiled for two
// processors.
//
// That file defines:
// - V (operators + - * /), WIDTH (floats in a V), load, store, set1, fma (a * b + c), min, max,
//   sum;
// - where_greater (a > b ? x : y) and pow2 (2^n, where the lowest bits of a float are the whole
//   number n in -126..127);
// - dot_halves and dot_bytes: a word of x times words of W, added to sums; a word is two bf16, or
//   four unsigned bytes times four signed ones in whole numbers; `whole` converts those sums to
//   floats;
// - round_pairs (two V as words of bf16) and store_lowest_bytes (of the bits of each float);
// - in the portable kernels alone, EARSHOT_FP16, low_fp16 and high_fp16: the floats that the halves
//   of words stand for, times 2^-102;
// - PANEL and ROWS: with panels that wide, the sums for ROWS rows stay in registers.
//
// The sum of a row never depends on the rows beside it, so that a stream gives the same bits alone
// and together with others.

#ifdef EARSHOT_FP16
constexpr Format EARSHOT_HALVES = Format::fp16;
#else
constexpr Format EARSHOT_HALVES = Format::fp32;
#endif
constexpr Size NARROW = WIDTH > LANES ? WIDTH : LANES;
// How many floats ahead of its use a weight is fetched that lies in no cache.
constexpr Size STREAM = 4096;
#ifndef EARSHOT_TALL_PANEL
constexpr Size TALL_PANEL = PANEL / 2 > NARROW ? PANEL / 2 : NARROW;
#else
constexpr Size TALL_PANEL = EARSHOT_TALL_PANEL;
#endif
constexpr int TALL_ROWS = static_cast<int>(ROWS * PANEL / TALL_PANEL);
constexpr Size WIDEST = PANEL > TALL_PANEL ? PANEL : TALL_PANEL;  // also the panels of codebooks
constexpr int MOST_ROWS = 8;  // the addresses of more rows do not fit into registers

// Fetches into the first-level cache, or into the second if the first has no space for later data.
template <int CACHE>
inline void prefetch(const float* p) {
#if defined(__GNUC__)
    __builtin_prefetch(p, 0, CACHE == 1 ? 3 : 2);
#else
    (void)p;
#endif
}

struct Place {
    Size stream, row;
};

// What is fetched during other work: for every k a line from each of some places at equal
// distances.
struct Ahead {
    const float* from;
    Size apart;
};

#include "vectors_math.h"

template <Format F>
inline V multiply_add(V x, V w, V sum) {
    if constexpr (F == Format::fp32) return fma(x, w, sum);
    if constexpr (F == Format::bf16) return dot_halves(x, w, sum);
    if constexpr (F == Format::int8) return dot_bytes(x, w, sum);
}

// Adds two floats of x, scaled, times N words of fp16.
template <int N>
inline void add_pair(float first, float second, const V* column, V* sums) {
#ifdef EARSHOT_FP16
    for (int j = 0; j < N; j++) sums[j] = fma(set1(first), low_fp16(column[j]), sums[j]);
    for (int j = 0; j < N; j++) sums[j] = fma(set1(second), high_fp16(column[j]), sums[j]);
#else
    (void)first, (void)second, (void)column, (void)sums;
#endif
}

// Multiplies R rows by a panel of N vectors; k runs through all parts. The sums are added to
// `from`, because sums of blocks round less than one long sum. LINES lines of `ahead` are fetched
// for every k. Sums of bytes start from the first row of W, and are scaled by `scales` [panel]
// times those of the part.
template <Format F, int R, int N, int LINES>
void tile(const Part* part, const Part* end, const Place* place, const float* w, Ahead ahead, const float* scales,
          const float* const* from, float* const* to) {
    V sums[R][N];
    for (int i = 0; i < R; i++)
        for (int j = 0; j < N; j++) sums[i][j] = F == Format::int8 ? load(w + j * WIDTH) : set1(0.0f);
    if constexpr (F == Format::int8) w += N * WIDTH;
    const float* const worth = part->scales;
    for (; part != end; part++) {
        const float* x[R];
        for (int i = 0; i < R; i++) x[i] = part->data + place[i].stream * part->stream + place[i].row * part->row;
        for (Size k = 0; k < part->k; k++, w += N * WIDTH, ahead.from += LANES) {
            if constexpr (R <= 2)  // weights that no cache holds are read ahead
                for (Size j = 0; j < N * WIDTH; j += LANES) prefetch<1>(w + STREAM + j);
            else
                for (int line = 0; line < LINES; line++) prefetch<2>(ahead.from + line * ahead.apart);
            V column[N];
            for (int j = 0; j < N; j++) column[j] = load(w + j * WIDTH);
            if constexpr (F == Format::fp16) {
                for (int i = 0; i < R; i++)
                    add_pair<N>(x[i][2 * k] * FP16_SCALE, x[i][2 * k + 1] * FP16_SCALE, column, sums[i]);
            } else {
                for (int i = 0; i < R; i++) {
                    const V value = set1(x[i][k]);
                    for (int j = 0; j < N; j++) sums[i][j] = multiply_add<F>(value, column[j], sums[i][j]);
                }
            }
        }
    }
    for (int i = 0; i < R; i++)
        for (int j = 0; j < N; j++) {
            V sum = sums[i][j];
            if constexpr (F == Format::int8) sum = whole(sum) * set1(worth[place[i].stream]) * load(scales + j * WIDTH);
            store(to[i] + j * WIDTH, load(from[i] + j * WIDTH) + sum);
        }
}

using Tile = void (*)(const Part*, const Part*, const Place*, const float*, Ahead, const float*, const float* const*,
                      float* const*);

// Fewer columns leave registers for more rows.
constexpr int rows_for(Size width) {
    const Size rows = ROWS * PANEL / width;
    return static_cast<int>(rows < MOST_ROWS ? rows : MOST_ROWS);
}

template <Format F, Size WIDE, int R = rows_for(WIDE)>
Tile tile_for(int rows, Size lines) {
    if constexpr (R == 1)
        return tile<F, 1, WIDE / WIDTH, 0>;
    else if (rows != R)
        return tile_for<F, WIDE, R - 1>(rows, lines);
    else
        return lines == 2 ? tile<F, R, WIDE / WIDTH, 2> : lines == 1 ? tile<F, R, WIDE / WIDTH, 1> : tile<F, R, WIDE / WIDTH, 0>;
}

template <Format F>
Tile choose(Size width, int rows, Size lines) {
    if constexpr (WIDEST >= 4 * NARROW)
        if (width == 4 * NARROW) return tile_for<F, 4 * NARROW>(rows, lines);
    if constexpr (WIDEST >= 2 * NARROW)
        if (width == 2 * NARROW) return tile_for<F, 2 * NARROW>(rows, lines);
    return tile_for<F, NARROW>(rows, lines);
}

float* at(const Target& target, Place place) {
    return target.data + place.stream * target.stream + place.row * target.row;
}

// Computes one panel of a product over the parts [part, end). Rows are cut into tiles that are as
// even as possible. While the last tiles use these weights, those of `next` are fetched into the
// cache: at most two lines for every k of a tile, and two only if it has enough rows to hide them.
// A single tile cannot hide them, and the processor does better by itself.
template <Format F>
void multiply_panel(const Product& product, const Part* part, const Part* end, const float* w, const float* next_w,
                    const float* bias, const float* scales, Size column, Size width, bool first, bool last) {
    const Size all = product.streams * product.rows, most = rows_for(width), tiles = (all + most - 1) / most;
    const Size shares = width / LANES, lines = (shares + tiles - 1) / tiles, apart = (next_w - w) / shares;
    Size fetched = lines > 2 || (lines == 2 && all < 5 * tiles) ? shares : 0;
    const bool to_elu = last && product.elu.data, to_plain = last && product.plain.data;
    alignas(64) float rest[MOST_ROWS * WIDEST];
    Size done = 0;
    Place next{0, 0};
    for (Size t = 0; t < tiles; t++) {
        const int rows = static_cast<int>((all - done + tiles - t - 1) / (tiles - t));
        Place place[MOST_ROWS];
        const float* from[MOST_ROWS];
        float* to[MOST_ROWS];
        for (int i = 0; i < rows; i++) {
            place[i] = next;
            if (++next.row == product.rows) next = {next.stream + 1, 0};
            float* const partial = product.partial + (done + i) * WIDEST;
            from[i] = !first ? partial : product.start.data ? at(product.start, place[i]) + column : bias;
            to[i] = !last ? partial : to_plain ? at(product.plain, place[i]) + column : rest + i * WIDEST;
        }
        const Size more = std::min(Size{2}, (shares - fetched) / (tiles - t));
        choose<F>(width, rows, more)(part, end, place, w, {next_w + fetched * apart, apart}, scales, from, to);
        fetched += more;
        if (to_elu)
            for (int i = 0; i < rows; i++) {
                float* y = at(product.elu, place[i]) + column;
                for (Size j = 0; j < width; j += WIDTH) store(y + j, elu(load(to[i] + j)));
            }
        done += rows;
    }
}

// Multiplies R rows, which lie word by word as [k, R], by a panel of N vectors. Each weight is used
// for a moment only and, with so many rows in registers, seldom twice. `worth` [R] scales sums of
// bytes.
template <Format F, int R, int N>
void tall_tile(const float* x, Size k, const float* w, const float* scales, const float* worth, const float* const* from,
               float* const* to) {
    V sums[R][N];
    for (int i = 0; i < R; i++)
        for (int j = 0; j < N; j++) sums[i][j] = F == Format::int8 ? load(w + j * WIDTH) : set1(0.0f);
    if constexpr (F == Format::int8) w += N * WIDTH;
    for (; k > 0; k--, w += N * WIDTH, x += F == Format::fp16 ? 2 * R : R) {
        for (Size j = 0; j < N * WIDTH; j += LANES) prefetch<R <= 2 ? 1 : 2>(w + STREAM + j);  // few rows: soon used
        V column[N];
        for (int j = 0; j < N; j++) column[j] = load(w + j * WIDTH);
        if constexpr (F == Format::fp16) {
            for (int i = 0; i < R; i++) add_pair<N>(x[i], x[R + i], column, sums[i]);
        } else {
            for (int i = 0; i < R; i++) {
                const V value = set1(x[i]);
                for (int j = 0; j < N; j++) sums[i][j] = multiply_add<F>(value, column[j], sums[i][j]);
            }
        }
    }
    for (int i = 0; i < R; i++)
        for (int j = 0; j < N; j++) {
            V sum = sums[i][j];
            if constexpr (F == Format::int8) sum = whole(sum) * set1(worth[i]) * load(scales + j * WIDTH);
            store(to[i] + j * WIDTH, load(from[i] + j * WIDTH) + sum);
        }
}

using TallTile = void (*)(const float*, Size, const float*, const float*, const float*, const float* const*, float* const*);

template <Format F, Size WIDE, int R = TALL_ROWS>
TallTile tall_tile_for(int rows) {
    if constexpr (R == 1)
        return tall_tile<F, 1, WIDE / WIDTH>;
    else
        return rows == R ? tall_tile<F, R, WIDE / WIDTH> : tall_tile_for<F, WIDE, R - 1>(rows);
}

// Arranges the rows of a tile word by word; with fp16 float by float, scaled.
template <Format F>
void turn(const Part* part, const Part* end, Size first, Size rows, float* to) {
    constexpr Size FLOATS = F == Format::fp16 ? 2 : 1;
    for (; part != end; to += FLOATS * rows * part->k, part++)
        for (Size i = 0; i < rows; i++) {
            const float* x = part->data + (first + i) * part->stream;
            for (Size k = 0; k < FLOATS * part->k; k++) to[k * rows + i] = F == Format::fp16 ? x[k] * FP16_SCALE : x[k];
        }
}

// Computes one row per stream. Most of the time goes into reading the weights, used once per
// stream.
template <Format F>
void multiply_tall(const Product& product) {
    const Matrix& matrix = *product.matrix;
    const Part* const end = product.parts + product.n_parts;
    constexpr Size FLOATS = F == Format::fp16 ? 2 : 1;
    const Size streams = product.streams, tiles = (streams + TALL_ROWS - 1) / TALL_ROWS;
    for (Size t = 0; t < tiles; t++) {
        const Size row = t * streams / tiles;
        turn<F>(product.parts, end, row, (t + 1) * streams / tiles - row, product.turned + row * matrix.k * FLOATS);
    }
    for (Size column = 0, width; column < matrix.n; column += width) {
        width = panel_width(TALL_PANEL, matrix.n, column);
        const float* w = matrix.weights.data() + column * matrix.k;
        const float* const bias = matrix.bias.data() + column;
        Size done = 0;
        for (const Part *part = product.parts, *upto; part != end; part = upto) {
            Size k = part->k;
            upto = part + 1;
            if constexpr (F != Format::int8)
                for (; upto != end && k + upto->k <= block_words(F); upto++) k += upto->k;
            const float* const scales =
                F == Format::int8 ? matrix.scales.data() + (part - product.parts) * matrix.n + column : nullptr;
            for (Size t = 0; t < tiles; t++) {
                const Size row = t * streams / tiles, rows = (t + 1) * streams / tiles - row;
                const float* from[TALL_ROWS];
                float* to[TALL_ROWS];
                alignas(64) float rest[TALL_ROWS * TALL_PANEL];
                for (Size i = 0; i < rows; i++) {
                    float* const partial = product.partial + (row + i) * WIDEST;
                    from[i] = part == product.parts ? bias : partial;
                    to[i] = upto != end ? partial
                            : product.plain.data ? at(product.plain, {row + i, 0}) + column : rest + i * TALL_PANEL;
                }
                const auto tile = width == TALL_PANEL ? tall_tile_for<F, TALL_PANEL>(static_cast<int>(rows))
                                                      : tall_tile_for<F, NARROW>(static_cast<int>(rows));
                const float* const x = product.turned + (row * matrix.k + done * rows) * FLOATS;
                tile(x, k, w, scales, F == Format::int8 ? part->scales + row : nullptr, from, to);
                if (upto == end && product.elu.data)
                    for (Size i = 0; i < rows; i++) {
                        float* y = at(product.elu, {row + i, 0}) + column;
                        for (Size j = 0; j < width; j += WIDTH) store(y + j, elu(load(to[i] + j)));
                    }
            }
            done += k;
            w += (k + (F == Format::int8)) * width;
        }
    }
}

template <Format F>
void multiply_in(const Product& product) {
    if (product.matrix->tall) return multiply_tall<F>(product);
    const Matrix& matrix = *product.matrix;
    const Part* const end = product.parts + product.n_parts;
    for (Size column = 0, width; column < matrix.n; column += width) {
        width = panel_width(PANEL, matrix.n, column);
        const float* w = matrix.weights.data() + column * matrix.k;
        const float *bias = matrix.bias.data() + column, *scales = nullptr;
        for (const Part *part = product.parts, *upto; part != end; part = upto) {
            Size k = part->k + (F == Format::int8);
            upto = part + 1;
            if constexpr (F == Format::int8) {
                scales = matrix.scales.data() + (part - product.parts) * matrix.n + column;
            } else {
                for (; upto != end && k + upto->k <= block_words(F); upto++) k += upto->k;
            }
            multiply_panel<F>(product, part, upto, w, w + k * width, bias, scales, column, width, part == product.parts,
                              upto == end);
            w += k * width;
        }
    }
}

void multiply(const Product& product) {
#ifdef EARSHOT_FP16
    if (product.matrix->format == Format::fp16) return multiply_in<Format::fp16>(product);
#endif
    switch (product.matrix->format) {
        case Format::fp32: return multiply_in<Format::fp32>(product);
        case Format::bf16: return multiply_in<Format::bf16>(product);
        case Format::int8: return multiply_in<Format::int8>(product);
        case Format::fp16: break;
    }
}

void round(const float* x, Size n, float* words) {
    for (Size i = 0; i < n; i += 2 * WIDTH) store(words + i / 2, round_pairs(load(x + i), load(x + i + WIDTH)));
}

float quantise(const float* x, Size n, float* words) {
    V most = set1(1e-30f);
    for (Size i = 0; i < n; i += WIDTH) most = max(most, max(load(x + i), set1(0.0f) - load(x + i)));
    alignas(64) float lanes[WIDTH];
    store(lanes, most);
    float largest = 0.0f;
    for (float lane : lanes) largest = lane > largest ? lane : largest;
    const V inverse = set1(127.0f / largest), shift = set1(12582912.0f + 128.0f);  // as in `exponential`: whole numbers
    auto* const bytes = reinterpret_cast<unsigned char*>(words);
    for (Size i = 0; i < n; i += WIDTH) store_lowest_bytes(bytes + i, fma(load(x + i), inverse, shift));
    return largest / 127.0f;
}

void lstm(const float* gates, float* c, float* h, Size n) {
    for (Size i = 0; i < n; i += WIDTH) {
        const V in = sigmoid(load(gates + i)), forget = sigmoid(load(gates + n + i));
        const V cell = tanh(load(gates + 2 * n + i)), out = sigmoid(load(gates + 3 * n + i));
        const V moved = fma(forget, load(c + i), in * cell);
        store(c + i, moved);
        store(h + i, without_tiny(out * tanh(moved)));
    }
}

void add_elu(const float* a, const float* b, float* y, Size n) {
    for (Size i = 0; i < n; i += WIDTH) store(y + i, elu(load(a + i) + load(b + i)));
}

void changes(const float* x, Size block, Size pairs, float* y) {
    for (; pairs > 0; pairs--, x += 2 * block, y += 2 * block)
        for (Size i = 0; i < block; i += WIDTH) {
            const V middle = load(x + block + i);
            store(y + i, load(x + i) - middle);
            store(y + block + i, load(x + 2 * block + i) - middle);
        }
}

void dot(const float* x, Size row, const float* w, Size k, float bias, float* y, Size rows) {
    constexpr int TOGETHER = 4;
    Size r = 0;
    for (; r + TOGETHER <= rows; r += TOGETHER, x += TOGETHER * row) {
        V sums[TOGETHER];
        for (V& one : sums) one = set1(0.0f);
        for (Size i = 0; i < k; i += WIDTH) {
            const V weights = load(w + i);
            for (int j = 0; j < TOGETHER; j++) sums[j] = fma(load(x + j * row + i), weights, sums[j]);
        }
        for (int j = 0; j < TOGETHER; j++) y[r + j] = sum(sums[j]) + bias;
    }
    for (; r < rows; r++, x += row) {
        V sums = set1(0.0f);
        for (Size i = 0; i < k; i += WIDTH) sums = fma(load(x + i), load(w + i), sums);
        y[r] = sum(sums) + bias;
    }
}

#include "kernels_search.h"
