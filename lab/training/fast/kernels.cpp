// Forward and backward passes of the codec's convolutions and LSTM for training on CPUs that multiply bfloat16.
//
// All sound lies time-major, [batch, time, channel], in bfloat16 with zero rows where a layer pads. The window that a
// convolution looks at is then one contiguous piece of memory, and every layer is a product of overlapping rows with a
// matrix: nothing is unfolded, reordered or copied. Sums are float32. Biases, activations and their derivatives are
// applied to a tile of sums before it is written.
#include <ATen/Parallel.h>
#include <torch/extension.h>

#include <immintrin.h>
#include <malloc.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using bf16 = uint16_t;

constexpr int64_t kTile = 16;       // rows and columns of a tile of sums
constexpr int64_t kDepth = 32;      // bfloat16 values that one instruction sums over
constexpr int64_t kRows = 2 * kTile;  // rows of a block

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

inline float wide(bf16 x) {
    uint32_t bits = uint32_t(x) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}

inline bf16 narrow(float x) {  // to the nearest, halves to even; NaN stays NaN
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return bf16((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

inline __m512 wide16(const bf16* x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)x)), 16));
}

inline __m512 wide16(const bf16* x, __mmask16 m) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, x)), 16));
}

inline __m256i narrow16(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

inline __m512 exp16(__m512 x) {  // within 2 ulp of float32
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(88.0f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

enum Activation { kNone = 0, kElu = 1, kLeaky = 2 };
constexpr float kSlope = 0.2f;

inline __m512 activate(__m512 x, int kind) {
    __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LE_OQ);
    if (kind == kElu) return _mm512_mask_sub_ps(x, negative, exp16(x), _mm512_set1_ps(1.0f));
    if (kind == kLeaky) return _mm512_mask_mul_ps(x, negative, x, _mm512_set1_ps(kSlope));
    return x;
}

// The derivative, from the activated value.
inline __m512 derivative(__m512 y, int kind) {
    const __m512 one = _mm512_set1_ps(1.0f);
    __mmask16 negative = _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_LE_OQ);
    if (kind == kElu) return _mm512_mask_add_ps(one, negative, y, one);
    if (kind == kLeaky) return _mm512_mask_mov_ps(one, negative, _mm512_set1_ps(kSlope));
    return one;
}

// -- products of a block ---------------------------------------------------------------------------------

#if defined(__AMX_BF16__)
struct alignas(64) TileConfig {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

struct Tiles {  // of this thread, as long as it lives
    Tiles() {
        static const TileConfig config;
        static const long allowed = syscall(SYS_arch_prctl, 0x1023, 18);
        (void)allowed;
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

// sums [32, 32] of row pitch `pitch` = (or +=) rows of `a`, `lda` apart, times packed weights [depth / 2, 16, 2] and
// those `next` values further on. `tall` and `broad`: whether there is a second tile of rows, of columns.
inline void multiply(const bf16* a, int64_t lda, const bf16* w, int64_t next, int64_t depth, float* sums, int64_t pitch,
                     bool add, bool tall, bool broad) {
    const int64_t bytes = pitch * 4;
    float *s01 = sums + kTile, *s10 = sums + kTile * pitch, *s11 = s10 + kTile;
    const bf16* a1 = a + kTile * lda;
    if (add) {
        _tile_loadd(0, sums, bytes);
        if (broad) _tile_loadd(1, s01, bytes);
        if (tall) _tile_loadd(2, s10, bytes);
        if (tall && broad) _tile_loadd(3, s11, bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    if (tall && broad) {
        for (int64_t k = 0; k < depth; k += kDepth) {
            _tile_loadd(4, a + k, lda * 2);
            _tile_loadd(6, w + k * kTile, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, w + next + k * kTile, 64);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, a1 + k, lda * 2);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    } else if (tall) {
        for (int64_t k = 0; k < depth; k += kDepth) {
            _tile_loadd(4, a + k, lda * 2);
            _tile_loadd(6, w + k * kTile, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, a1 + k, lda * 2);
            _tile_dpbf16ps(2, 5, 6);
        }
    } else {
        for (int64_t k = 0; k < depth; k += kDepth) {
            _tile_loadd(4, a + k, lda * 2);
            _tile_loadd(6, w + k * kTile, 64);
            _tile_dpbf16ps(0, 4, 6);
            if (broad) {
                _tile_loadd(7, w + next + k * kTile, 64);
                _tile_dpbf16ps(1, 4, 7);
            }
        }
    }
    _tile_stored(0, sums, bytes);
    if (broad) _tile_stored(1, s01, bytes);
    if (tall) _tile_stored(2, s10, bytes);
    if (tall && broad) _tile_stored(3, s11, bytes);
}
#else
struct Tiles {
    ~Tiles() {}
};

template <int kCount, int kWide>
inline void part(const bf16* a, int64_t lda, const bf16* w, int64_t next, int64_t depth, float* sums, int64_t pitch,
                 bool add) {
    __m512 s[kCount][kWide];
    for (int i = 0; i < kCount; i++)
        for (int j = 0; j < kWide; j++)
            s[i][j] = add ? _mm512_loadu_ps(sums + i * pitch + j * kTile) : _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; k += 2) {
        __m512bh b[kWide];
        for (int j = 0; j < kWide; j++) b[j] = (__m512bh)_mm512_loadu_si512(w + j * next + k * kTile);
        for (int i = 0; i < kCount; i++) {
            int32_t pair;
            std::memcpy(&pair, a + i * lda + k, 4);
            const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
            for (int j = 0; j < kWide; j++) s[i][j] = _mm512_dpbf16_ps(s[i][j], x, b[j]);
        }
    }
    for (int i = 0; i < kCount; i++)
        for (int j = 0; j < kWide; j++) _mm512_storeu_ps(sums + i * pitch + j * kTile, s[i][j]);
}

inline void multiply(const bf16* a, int64_t lda, const bf16* w, int64_t next, int64_t depth, float* sums, int64_t pitch,
                     bool add, bool tall, bool broad) {
    for (int64_t i = 0; i < (tall ? 32 : 16); i += 8) {
        if (broad) part<8, 2>(a + i * lda, lda, w, next, depth, sums + i * pitch, pitch, add);
        else part<8, 1>(a + i * lda, lda, w, next, depth, sums + i * pitch, pitch, add);
    }
}
#endif

// -- layouts ---------------------------------------------------------------------------------------------

const bf16* data(const at::Tensor& t) { return reinterpret_cast<const bf16*>(t.data_ptr()); }
bf16* mutable_data(const at::Tensor& t) { return reinterpret_cast<bf16*>(t.data_ptr()); }

// A float32 matrix of each tap, [taps, k, l, m, n] of any strides, with rows (k, l) and columns (m, n) -> bfloat16 [taps,
// columns / 16, rows / 2, 16, 2], rows and columns filled up with zeros to whole tiles. `turn`: k and taps run backwards.
at::Tensor pack(const at::Tensor& x, bool turn) {
    TORCH_CHECK(x.dim() == 5 && x.scalar_type() == at::kFloat, "pack wants float32 [taps, k, l, m, n]");
    const auto size = x.sizes(), stride = x.strides();
    const int64_t K = size[1] * size[2], N = size[3] * size[4];
    const int64_t depth = up(K, kDepth), blocks = up(N, kTile) / kTile;
    auto packed = at::zeros({size[0], blocks, depth / 2, kTile, 2}, at::kBFloat16);
    const float* from = x.data_ptr<float>();
    bf16* to = mutable_data(packed);
    for (int64_t t = 0; t < size[0]; t++)
        for (int64_t k = 0; k < size[1]; k++)
            for (int64_t m = 0; m < size[3]; m++) {
                const int64_t tap = turn ? size[0] - 1 - t : t, outer = turn ? size[1] - 1 - k : k;
                const float* part = from + tap * stride[0] + outer * stride[1] + m * stride[3];
                for (int64_t l = 0; l < size[2]; l++) {
                    const int64_t row = k * size[2] + l;
                    bf16* line = to + (t * blocks * depth + row / 2 * 2) * kTile + (row & 1);
                    const float* values = part + l * stride[2];
                    for (int64_t n = 0; n < size[4]; n++) {
                        const int64_t column = m * size[4] + n;
                        line[column / kTile * depth * kTile + column % kTile * 2] = narrow(values[n * stride[4]]);
                    }
                }
            }
    return packed;
}

// Where rows lie: the first value of batch 0, group 0, how far batches and groups are apart, and rows.
struct Place {
    int64_t at, batch, group, row;
};

Place place(const std::vector<int64_t>& p) { return {p[0], p[1], p[2], p[3]}; }

// What a product reads: rows, packed weights [taps, ...], and how far the rows of one tap are from those of the next.
struct Source {
    const bf16* rows;
    Place where;
    const bf16* weights;
    int64_t depth, taps, tap;
};

using SourceArgument = std::tuple<at::Tensor, std::vector<int64_t>, at::Tensor, int64_t, int64_t>;

// out = what(sum of products + bias), row by row. `raw` gets the sums as they are, `out` the activated ones. With
// `slope_of` (activated values) the sums are multiplied by the activation's derivative instead, after `pull` times the
// sign of slope_of - goal has been added where there is a `goal`, which lies as slope_of does; `plus` is added last. `raw`
// may be float32.
void product(const std::vector<SourceArgument>& sources, std::vector<int64_t> counts, int64_t N,
             const c10::optional<at::Tensor>& bias, int64_t activation,
             const c10::optional<at::Tensor>& out, const std::vector<int64_t>& out_at,
             const c10::optional<at::Tensor>& raw, const std::vector<int64_t>& raw_at,
             const c10::optional<at::Tensor>& slope_of, const std::vector<int64_t>& slope_at,
             const c10::optional<at::Tensor>& plus, const std::vector<int64_t>& plus_at,
             const c10::optional<at::Tensor>& goal, double pull) {
    const int64_t B = counts[0], F = counts[1], T = counts[2], pitch = up(N, kTile);
    std::vector<Source> from;
    for (auto& [rows, where, weights, depth, tap] : sources)
        from.push_back({data(rows), place(where), data(weights), depth, weights.dim() == 5 ? weights.size(0) : 1, tap});
    std::vector<float> biases(pitch, 0.0f);
    if (bias) std::copy_n(bias->data_ptr<float>(), N, biases.begin());
    const Place o = out ? place(out_at) : Place{}, r = raw ? place(raw_at) : Place{};
    const Place s = slope_of ? place(slope_at) : Place{}, p = plus ? place(plus_at) : Place{};
    const bool raw_wide = raw && raw->scalar_type() == at::kFloat;
    float* raw_floats = raw_wide ? raw->data_ptr<float>() : nullptr;
    bf16 *raw_rows = raw && !raw_wide ? mutable_data(*raw) : nullptr, *out_rows = out ? mutable_data(*out) : nullptr;
    const bf16 *slope_rows = slope_of ? data(*slope_of) : nullptr, *plus_rows = plus ? data(*plus) : nullptr;
    const bf16* goal_rows = goal ? data(*goal) : nullptr;
    const __m512 strength = _mm512_set1_ps(float(pull));
    const int64_t blocks = up(T, kRows) / kRows, jobs = B * F * blocks;
    at::parallel_for(0, jobs, std::max<int64_t>(1, 8192 / (N + 1)), [&](int64_t begin, int64_t end) {
        Tiles tiles;
        std::vector<float> scratch(kRows * pitch + 16);
        float* sums = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
        for (int64_t job = begin; job < end; job++) {
            const int64_t b = job / (F * blocks), f = job / blocks % F, t = job % blocks * kRows;
            const int64_t count = std::min(kRows, T - t);
            const bool tall = count > kTile;
            for (int64_t n = 0; n < pitch; n += 2 * kTile) {
                bool add = false;
                for (auto& source : from) {
                    const int64_t depth = up(source.depth, kDepth), next = depth * kTile;
                    const Place& w = source.where;
                    const bf16* rows = source.rows + w.at + b * w.batch + f * w.group + t * w.row;
                    for (int64_t i = 0; i < source.taps; i++) {
                        multiply(rows + i * source.tap, w.row, source.weights + (i * pitch + n) * depth, next, depth,
                                 sums + n, pitch, add, tall, n + kTile < pitch);
                        add = true;
                    }
                }
            }
            const bf16* slopes = slope_rows ? slope_rows + s.at + b * s.batch + f * s.group + t * s.row : nullptr;
            const bf16* goals = goal_rows ? goal_rows + (slopes - slope_rows) : nullptr;
            const bf16* added = plus_rows ? plus_rows + p.at + b * p.batch + f * p.group + t * p.row : nullptr;
            const int64_t raw_from = r.at + b * r.batch + f * r.group + t * r.row;
            bf16* to = out_rows ? out_rows + o.at + b * o.batch + f * o.group + t * o.row : nullptr;
            for (int64_t i = 0; i < count; i++) {
                for (int64_t n = 0; n < N; n += kTile) {
                    const __mmask16 mask = N - n >= kTile ? 0xffff : (1u << (N - n)) - 1;
                    __m512 x = _mm512_add_ps(_mm512_load_ps(sums + i * pitch + n), _mm512_loadu_ps(biases.data() + n));
                    if (slopes) {
                        const __m512 y = wide16(slopes + i * s.row + n, mask);
                        if (goals) {
                            const __m512 over = _mm512_sub_ps(y, wide16(goals + i * s.row + n, mask));
                            const __mmask16 more = _mm512_cmp_ps_mask(over, _mm512_setzero_ps(), _CMP_GT_OQ);
                            const __mmask16 less = _mm512_cmp_ps_mask(over, _mm512_setzero_ps(), _CMP_LT_OQ);
                            x = _mm512_mask_add_ps(x, more, x, strength);
                            x = _mm512_mask_sub_ps(x, less, x, strength);
                        }
                        x = _mm512_mul_ps(x, derivative(y, activation));
                    }
                    if (added) x = _mm512_add_ps(x, wide16(added + i * p.row + n, mask));
                    if (raw_floats) _mm512_mask_storeu_ps(raw_floats + raw_from + i * r.row + n, mask, x);
                    if (raw_rows) _mm256_mask_storeu_epi16(raw_rows + raw_from + i * r.row + n, mask, narrow16(x));
                    if (to) {
                        if (!slopes) x = activate(x, activation);
                        _mm256_mask_storeu_epi16(to + i * o.row + n, mask, narrow16(x));
                    }
                }
            }
        }
    });
}

// 16 rows of 16 values, `from` apart -> their transpose, rows `to` apart.
inline void transpose16(const bf16* x, int64_t from, bf16* y, int64_t to) {
    __m256i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm256_loadu_si256((const __m256i*)(x + i * from));
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm256_unpacklo_epi16(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_epi16(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm256_unpacklo_epi32(b[i + j], b[i + 2 + j]);
            a[i + 2 * j + 1] = _mm256_unpackhi_epi32(b[i + j], b[i + 2 + j]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            b[i + 2 * j] = _mm256_unpacklo_epi64(a[i + j], a[i + 4 + j]);
            b[i + 2 * j + 1] = _mm256_unpackhi_epi64(a[i + j], a[i + 4 + j]);
        }
    for (int j = 0; j < 8; j++) {
        _mm256_storeu_si256((__m256i*)(y + j * to), _mm256_permute2x128_si256(b[j], b[8 + j], 0x20));
        _mm256_storeu_si256((__m256i*)(y + (8 + j) * to), _mm256_permute2x128_si256(b[j], b[8 + j], 0x31));
    }
}

// Sums over all rows of (window of x) times (row of g): float32 [taps, K, N], and of g alone, [N]. The windows are K
// values long and x_at.row apart; `tap` is how far those of one tap are from those of the next.
std::tuple<at::Tensor, at::Tensor> weights_gradient(const at::Tensor& x, const std::vector<int64_t>& x_at,
                                                    const at::Tensor& g, const std::vector<int64_t>& g_at,
                                                    std::vector<int64_t> counts, int64_t K, int64_t N, int64_t taps,
                                                    int64_t tap) {
    const int64_t B = counts[0], F = counts[1], T = counts[2], pitch = up(N, kTile), tall = up(K, kTile);
    const Place xa = place(x_at), ga = place(g_at);
    const int64_t lda = xa.row, shifts = (K + lda - 1) / lda;
    // A chunk of rows: enough of them that sums are rarely moved, few enough that the chunk stays in the cache.
    const int64_t most = std::clamp<int64_t>(up(32768 / std::max(lda, N), kDepth), 2 * kDepth, 512);
    const int64_t chunk = std::min(most, up(T, kDepth)), chunks = (T + chunk - 1) / chunk, jobs = B * F * chunks;
    const bool whole = lda % kTile == 0;  // each tile of rows of the transposed x is of one shift
    const int64_t parts = std::min<int64_t>(at::get_num_threads(), jobs);
    const int64_t wide_x = chunk + up(shifts, kDepth) + kDepth;
    auto all = at::zeros({parts, taps * tall * pitch}, at::kFloat);
    auto biases = at::zeros({parts, pitch}, at::kFloat);
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
        Tiles tiles;
        std::vector<bf16> xt(up(std::max(lda, kTile), kTile) * wide_x + 64), windows(whole ? 0 : tall * (chunk + kDepth));
        std::vector<bf16> gp(chunk * pitch + 64);
        for (int64_t q = begin; q < end; q++) {
            float* sums = all.data_ptr<float>() + q * taps * tall * pitch;
            float* bias = biases.data_ptr<float>() + q * pitch;
            for (int64_t job = q * jobs / parts; job < (q + 1) * jobs / parts; job++) {
                const int64_t b = job / (F * chunks), f = job / chunks % F, t = job % chunks * chunk;
                const int64_t count = std::min(chunk, T - t), depth = up(count, kDepth);
                // g, pairs of rows beside each other: [N / 16, depth / 2, 16, 2]
                const bf16* rows = data(g) + ga.at + b * ga.batch + f * ga.group + t * ga.row;
                for (int64_t n = 0; n < pitch; n += kTile) {
                    const __mmask16 mask = N - n >= kTile ? 0xffff : (1u << (N - n)) - 1;
                    __m512 sum = _mm512_loadu_ps(bias + n);
                    bf16* to = gp.data() + n * depth;
                    for (int64_t i = 0; i < depth; i += 2, to += 2 * kTile) {
                        const __m256i zero = _mm256_setzero_si256();
                        const __m256i lo = i < count ? _mm256_maskz_loadu_epi16(mask, rows + i * ga.row + n) : zero;
                        const __m256i hi =
                            i + 1 < count ? _mm256_maskz_loadu_epi16(mask, rows + (i + 1) * ga.row + n) : zero;
                        const __m512i l = _mm512_cvtepu16_epi32(lo), h = _mm512_slli_epi32(_mm512_cvtepu16_epi32(hi), 16);
                        _mm512_storeu_si512(to, _mm512_or_si512(l, h));
                        sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(l, 16)));
                        sum = _mm512_add_ps(sum, _mm512_castsi512_ps(h));
                    }
                    _mm512_storeu_ps(bias + n, sum);
                }
                for (int64_t k = 0; k < taps; k++) {
                    const bf16* from = data(x) + xa.at + b * xa.batch + f * xa.group + t * lda + k * tap;
                    const int64_t length = depth + shifts - 1;
                    if (lda >= kTile || lda == 8) {
                        for (int64_t i = 0; i < length; i += kTile)
                            for (int64_t c = 0; c < lda; c += kTile)
                                transpose16(from + i * lda + c, lda, xt.data() + c * wide_x + i, wide_x);
                    } else {
                        for (int64_t c = 0; c < lda; c++)
                            for (int64_t i = 0; i < length; i++) xt[c * wide_x + i] = from[i * lda + c];
                    }
                    const bf16* left = xt.data();
                    int64_t ld = wide_x;
                    if (!whole) {
                        left = windows.data();
                        ld = chunk + kDepth;
                        for (int64_t r = 0; r < K; r++)
                            std::memcpy(windows.data() + r * ld, xt.data() + r % lda * wide_x + r / lda, depth * 2);
                    }
                    for (int64_t r = 0; r < tall; r += kRows) {
                        // Two tiles of rows of one shift, or the last ones.
                        const bool two = r + kTile < tall && (!whole || (r + kTile) / lda == r / lda);
                        for (int64_t half = 0; half < (two ? 1 : 2) && r + half * kTile < tall; half++) {
                            const int64_t row = r + half * kTile;
                            const bf16* a = whole ? left + row % lda * ld + row / lda : left + row * ld;
                            for (int64_t n = 0; n < pitch; n += 2 * kTile)
                                multiply(a, ld, gp.data() + n * depth, depth * kTile, depth,
                                         sums + (k * tall + row) * pitch + n, pitch, true, two, n + kTile < pitch);
                        }
                    }
                }
            }
        }
    });
    auto sum = (parts == 1 ? all[0] : all.sum(0)).view({taps, tall, pitch}).narrow(1, 0, K).narrow(2, 0, N);
    return {sum, (parts == 1 ? biases[0] : biases.sum(0)).narrow(0, 0, N)};
}

// Rows [B, F, T, C] -> bfloat16 rows at `at` of `out`, activated.
void place_rows(const at::Tensor& x, const at::Tensor& out, const std::vector<int64_t>& out_at, int64_t activation) {
    const int64_t B = x.size(0), F = x.size(1), count = x.size(2) * x.size(3);
    const Place o = place(out_at);
    auto from = x.to(at::kFloat).contiguous();
    const float* rows = from.data_ptr<float>();
    for (int64_t g = 0; g < B * F; g++) {
        bf16* to = mutable_data(out) + o.at + g / F * o.batch + g % F * o.group;
        const float* row = rows + g * count;
        for (int64_t i = 0; i < count; i += kTile) {
            const __mmask16 mask = count - i >= kTile ? 0xffff : (1u << (count - i)) - 1;
            const __m512 y = activate(_mm512_maskz_loadu_ps(mask, row + i), activation);
            _mm256_mask_storeu_epi16(to + i, mask, narrow16(y));
        }
    }
}

// Sums of |a - b| and of |b| over the first `count` values.
std::tuple<double, double> differences(const at::Tensor& a, const at::Tensor& b, int64_t count) {
    const int64_t piece = 1 << 14, pieces = (count + piece - 1) / piece;
    std::vector<double> apart(pieces), size(pieces);
    at::parallel_for(0, pieces, 8, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; p++) {
            __m512 d = _mm512_setzero_ps(), s = _mm512_setzero_ps();
            const int64_t last = std::min(count, (p + 1) * piece);
            for (int64_t i = p * piece; i < last; i += kTile) {
                const __mmask16 mask = last - i >= kTile ? 0xffff : (1u << (last - i)) - 1;
                const __m512 x = wide16(data(a) + i, mask), y = wide16(data(b) + i, mask);
                d = _mm512_add_ps(d, _mm512_abs_ps(_mm512_sub_ps(x, y)));
                s = _mm512_add_ps(s, _mm512_abs_ps(y));
            }
            apart[p] = _mm512_reduce_add_ps(d);
            size[p] = _mm512_reduce_add_ps(s);
        }
    });
    double d = 0, s = 0;
    for (int64_t p = 0; p < pieces; p++) {
        d += apart[p];
        s += size[p];
    }
    return {d, s};
}

// -- LSTM ------------------------------------------------------------------------------------------------

inline __m512 sigmoid16(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(one, _mm512_add_ps(one, exp16(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

inline __m512 tanh16(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), two = _mm512_set1_ps(2.0f);
    return _mm512_fmsub_ps(two, sigmoid16(_mm512_mul_ps(two, x)), one);
}

// One layer over [T, B] steps from zero. `gates` float32 [T, B, 4 H] holds what the input and the biases give and
// becomes the activated gates i, f, g, o. `cells` float32 and `hidden` bfloat16 are [T + 1, B, H] with the zeros that it
// begins on. `weights` is the packed [H, 4 H] matrix.
void lstm(const at::Tensor& gates, const at::Tensor& cells, const at::Tensor& hidden, const at::Tensor& weights,
          int64_t T, int64_t B, int64_t H) {
    Tiles tiles;
    const int64_t pitch = 4 * H, padded = up(B, kTile);
    float *g = gates.data_ptr<float>(), *c = cells.data_ptr<float>();
    bf16* h = mutable_data(hidden);
    auto scratch = at::empty({padded * pitch}, at::kFloat);
    float* sums = scratch.data_ptr<float>();
    for (int64_t t = 0; t < T; t++) {
        for (int64_t m = 0; m < padded; m += kRows)
            for (int64_t n = 0; n < pitch; n += 2 * kTile)
                multiply(h + (t * B + m) * H, H, data(weights) + n * H, H * kTile, H, sums + m * pitch + n, pitch, false,
                         m + kTile < padded, true);
        for (int64_t b = 0; b < B; b++) {
            float* row = g + (t * B + b) * pitch;
            const float *extra = sums + b * pitch, *before = c + (t * B + b) * H;
            float* cell = c + ((t + 1) * B + b) * H;
            bf16* out = h + ((t + 1) * B + b) * H;
            for (int64_t n = 0; n < H; n += kTile) {
                auto sum = [&](int64_t k) {
                    return _mm512_add_ps(_mm512_loadu_ps(row + k * H + n), _mm512_loadu_ps(extra + k * H + n));
                };
                const __m512 i = sigmoid16(sum(0)), f = sigmoid16(sum(1)), u = tanh16(sum(2)), o = sigmoid16(sum(3));
                const __m512 now = _mm512_fmadd_ps(f, _mm512_loadu_ps(before + n), _mm512_mul_ps(i, u));
                _mm512_storeu_ps(row + n, i);
                _mm512_storeu_ps(row + H + n, f);
                _mm512_storeu_ps(row + 2 * H + n, u);
                _mm512_storeu_ps(row + 3 * H + n, o);
                _mm512_storeu_ps(cell + n, now);
                _mm256_storeu_si256((__m256i*)(out + n), narrow16(_mm512_mul_ps(o, tanh16(now))));
            }
        }
    }
}

// The gradient of the gates before their activation, bfloat16 [T, B, 4 H] (with room for whole tiles after it), from
// that of the hidden states, float32 [T, B, H]. `weights` is the packed [4 H, H] matrix.
void lstm_backward(const at::Tensor& gates, const at::Tensor& cells, const at::Tensor& gradient, const at::Tensor& out,
                   const at::Tensor& weights, int64_t T, int64_t B, int64_t H) {
    Tiles tiles;
    const int64_t pitch = 4 * H, padded = up(B, kTile);
    const float *g = gates.data_ptr<float>(), *c = cells.data_ptr<float>(), *d = gradient.data_ptr<float>();
    bf16* o = mutable_data(out);
    auto scratch = at::zeros({padded * H + B * H}, at::kFloat);
    float *back = scratch.data_ptr<float>(), *cell = back + padded * H;
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int64_t t = T - 1; t >= 0; t--) {
        for (int64_t b = 0; b < B; b++) {
            const float *row = g + (t * B + b) * pitch, *before = c + (t * B + b) * H, *now = c + ((t + 1) * B + b) * H;
            bf16* to = o + (t * B + b) * pitch;
            for (int64_t n = 0; n < H; n += kTile) {
                const __m512 i = _mm512_loadu_ps(row + n), f = _mm512_loadu_ps(row + H + n);
                const __m512 u = _mm512_loadu_ps(row + 2 * H + n), q = _mm512_loadu_ps(row + 3 * H + n);
                const __m512 dh = _mm512_add_ps(_mm512_loadu_ps(d + (t * B + b) * H + n), _mm512_loadu_ps(back + b * H + n));
                const __m512 level = tanh16(_mm512_loadu_ps(now + n));
                __m512 dc = _mm512_mul_ps(_mm512_mul_ps(dh, q), _mm512_fnmadd_ps(level, level, one));
                dc = _mm512_add_ps(dc, _mm512_loadu_ps(cell + b * H + n));
                auto slope = [&](__m512 s) { return _mm512_mul_ps(s, _mm512_sub_ps(one, s)); };
                auto put = [&](int64_t k, __m512 v) {
                    _mm256_storeu_si256((__m256i*)(to + k * H + n), narrow16(v));
                };
                put(0, _mm512_mul_ps(_mm512_mul_ps(dc, u), slope(i)));
                put(1, _mm512_mul_ps(_mm512_mul_ps(dc, _mm512_loadu_ps(before + n)), slope(f)));
                put(2, _mm512_mul_ps(_mm512_mul_ps(dc, i), _mm512_fnmadd_ps(u, u, one)));
                put(3, _mm512_mul_ps(_mm512_mul_ps(dh, level), slope(q)));
                _mm512_storeu_ps(cell + b * H + n, _mm512_mul_ps(dc, f));
            }
        }
        for (int64_t m = 0; m < padded; m += kRows)
            for (int64_t n = 0; n < H; n += 2 * kTile)
                multiply(o + (t * B + m) * pitch, pitch, data(weights) + n * pitch, pitch * kTile, pitch,
                         back + m * H + n, H, false, m + kTile < padded, n + kTile < H);
    }
}

// Memory that one step gives back serves the next one: fresh pages from the system cost a third of a step.
void keep_memory() {
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, -1);
    mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("keep_memory", &keep_memory);
    m.def("pack", &pack);
    m.def("product", &product);
    m.def("weights_gradient", &weights_gradient);
    m.def("place_rows", &place_rows);
    m.def("differences", &differences);
    m.def("lstm", &lstm);
    m.def("lstm_backward", &lstm_backward);
}
