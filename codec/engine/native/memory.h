// Aligned memory: buffers that own it, and scratch that a step borrows and gives back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace earshot {

using Size = std::ptrdiff_t;

constexpr Size LANES = 16;
// Rows of channels are padded to a multiple of this with zeros (their weights are zero too), so
// that every kernel set works in whole vectors, and all sets keep the same state.

inline Size padded(Size n) { return (n + LANES - 1) / LANES * LANES; }

inline std::size_t bytes(Size floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

// Zeroed floats, aligned to a cache line.
class Floats {
  public:
    Floats() = default;
    explicit Floats(Size size) : size_(size) {
        if (size > 0) {
            data_ = {static_cast<float*>(::operator new(bytes(), alignment())), Free{alignment()}};
            large_pages();
            clear();
        }
    }
    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }
    Size size() const { return size_; }
    std::size_t bytes() const { return earshot::bytes(size_); }
    void clear() {
        if (size_ > 0) std::memset(data_.get(), 0, bytes());
    }

  private:
    static constexpr std::size_t LINE = 64, PAGE = std::size_t{1} << 21;
#ifdef __linux__
    static constexpr bool HUGE_PAGES = true;
#else
    static constexpr bool HUGE_PAGES = false;  // there, the alignment would only leave holes
#endif
    struct Free {
        std::align_val_t alignment;
        void operator()(float* data) const { ::operator delete(data, alignment); }
    };
    std::align_val_t alignment() const { return std::align_val_t{HUGE_PAGES && bytes() >= PAGE ? PAGE : LINE}; }

    // A single stream reads every weight once per frame; with small pages it would also wait for
    // the translation of their addresses.
    void large_pages() const {
#ifdef __linux__
        if (bytes() >= PAGE) madvise(data_.get(), bytes(), MADV_HUGEPAGE);
#endif
    }

    std::unique_ptr<float, Free> data_{nullptr, Free{std::align_val_t{LINE}}};
    Size size_ = 0;
};

// Memory that a step takes piece by piece and gives back all at once. It grows in the first steps
// only.
class Scratch {
  public:
    struct Mark {
        std::size_t block = 0;
        Size used = 0;
    };

    float* take(Size size) {
        size = padded(size) + LANES;
        while (now_.block < blocks_.size() && now_.used + size > blocks_[now_.block].size()) now_ = {now_.block + 1, 0};
        if (now_.block == blocks_.size()) blocks_.emplace_back(size > LEAST ? size : LEAST);
        float* taken = blocks_[now_.block].data() + now_.used;
        now_.used += size;
        return taken;
    }

    Mark mark() const { return now_; }
    void back_to(Mark mark) { now_ = mark; }

    // Takes everything back. Several blocks are replaced by one of their total size.
    void reset() {
        if (blocks_.size() > 1) {
            Size total = 0;
            for (const Floats& block : blocks_) total += block.size();
            blocks_.clear();
            blocks_.emplace_back(total);
        }
        now_ = {};
    }

  private:
    static constexpr Size LEAST = 1 << 16;
    std::vector<Floats> blocks_;
    Mark now_;
};

}  // namespace earshot
