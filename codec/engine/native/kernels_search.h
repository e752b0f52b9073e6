// The search for the nearest entry of a codebook; a part of kernels_body.h, like vectors_math.h.

// The terms and their order are those of `nearest` in codec/model/quantizer.py, so that ties and
// rounding fall the same way. Each lane keeps its own best entry. Indices are floats, which are
// exact up to 2^24.
[[maybe_unused]] void nearest(const Codebook& book, const float* x, Size rows, float* space, int* index) {
    const Matrix& entries = book.columns;
    const bool halves = entries.format == Format::fp16;
    const Size floats = entries.k * (halves ? 2 : 1);  // of a row
    const float* const norms = book.norms.data();
    float *dots = space, *best = dots + rows * WIDEST, *where = best + rows * LANES, *squares = where + rows * LANES;
    alignas(64) float lanes[NARROW];
    for (Size i = 0; i < NARROW; i++) lanes[i] = static_cast<float>(i);
    for (Size r = 0; r < rows; r++) {
        V square = set1(0.0f);
        for (const float* own = x + r * floats; own != x + (r + 1) * floats; own += WIDTH)
            square = fma(load(own), load(own), square);
        squares[r] = sum(square);
    }
    const Part part{x, floats, 0, entries.k};
    for (Size column = 0, width; column < entries.n; column += width) {
        width = panel_width(WIDEST, entries.n, column);
        Product product{&entries, &part, 1, rows, 1, {dots, WIDEST, 0}, {}, {}, nullptr};
        const float* w = entries.weights.data() + column * entries.k;
        const auto panel = halves ? multiply_panel<EARSHOT_HALVES> : multiply_panel<Format::fp32>;
        panel(product, &part, &part + 1, w, w + entries.k * width, entries.bias.data() + column, nullptr, 0, width, true, true);
        for (Size r = 0; r < rows; r++) {
            const V square = set1(squares[r]);
            for (Size lane = 0; lane < LANES; lane += WIDTH) {
                V least = column ? load(best + r * LANES + lane) : set1(std::numeric_limits<float>::infinity());
                V found = column ? load(where + r * LANES + lane) : load(lanes + lane);
                for (Size j = lane; j < width; j += LANES) {
                    const V twice = load(dots + r * WIDEST + j) * set1(2.0f);
                    const V distance = (square - twice) + load(norms + column + j);
                    const V here = load(lanes + lane) + set1(static_cast<float>(column + j - lane));
                    found = where_greater(least, distance, here, found);
                    least = where_greater(least, distance, distance, least);
                }
                store(best + r * LANES + lane, least);
                store(where + r * LANES + lane, found);
            }
        }
    }
    for (Size r = 0; r < rows; r++) {
        const float *least = best + r * LANES, *found = where + r * LANES;
        Size chosen = 0;
        for (Size lane = 1; lane < LANES; lane++)
            if (least[lane] < least[chosen] || (least[lane] == least[chosen] && found[lane] < found[chosen])) chosen = lane;
        index[r] = static_cast<int>(found[chosen]);
    }
}
