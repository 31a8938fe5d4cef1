#pragma once

#include <cstddef>

#include "kernels.hpp"
#include "kernels_math.hpp"

// The key/value cache and attention over it. Included by kernels_source.hpp.
namespace pellucid {
namespace {

// Clamps finite numbers to the range of float16. Infinities become NaN, so that they reach the logits.
inline Floats storable(const Floats& x, const float*) { return x; }
inline Floats storable(const Floats& x, const Half*) {
    const Floats bounded = simd::minimum(simd::maximum(x, simd::broadcast(-65504.0f)), simd::broadcast(65504.0f));
    return simd::add(bounded, invalid_lanes(x));
}

template <class Number>
void append_as(const HeadCache& cache, std::size_t position, const float* key, const float* value) {
    std::byte* page = cache.pages[position / page_positions];
    const std::size_t slot = position % page_positions;
    Number* keys = reinterpret_cast<Number*>(page + cache.key_offset) + slot;
    Number* values = reinterpret_cast<Number*>(page + cache.value_offset) + slot * cache.padded_head_dim;
    for (std::size_t d = 0; d < cache.head_dim; d += panel_width) {
        const std::size_t n = cache.head_dim - d < panel_width ? cache.head_dim - d : panel_width;
        Number converted[panel_width];
        simd::store(converted, storable(simd::load_first(key + d, n), converted));
        for (std::size_t i = 0; i < n; ++i) keys[(d + i) * page_positions] = converted[i];
        simd::store(values + d, storable(simd::load_first(value + d, n), values));
    }
}

void append(const HeadCache& cache, std::size_t position, const float* key, const float* value) {
    if (cache.half) return append_as<Half>(cache, position, key, value);
    append_as<float>(cache, position, key, value);
}

template <class Number>
inline const Number* keys_of(const HeadCache& cache, std::size_t page) {
    return reinterpret_cast<const Number*>(cache.pages[page] + cache.key_offset);
}

template <class Number>
inline const Number* values_of(const HeadCache& cache, std::size_t page) {
    return reinterpret_cast<const Number*>(cache.pages[page] + cache.value_offset);
}

// Computes scores[r][position] for `pages` pages, starting at `first_page`.
template <int rows, int pages, class Number>
inline void score_pages(const Attention& a, std::size_t first_page) {
    const Number* keys[pages];
    for (int p = 0; p < pages; ++p) keys[p] = keys_of<Number>(a.cache, first_page + static_cast<std::size_t>(p));
    Floats sums[rows][pages] = {};
    accumulate<rows, pages, Number>(sums, a.query, a.query_stride, keys, page_positions, a.cache.head_dim);
    const Floats scale = simd::broadcast(a.scale);
    for (int r = 0; r < rows; ++r) {
        float* scores = a.scores + static_cast<std::size_t>(r) * a.scores_stride + first_page * page_positions;
        for (int p = 0; p < pages; ++p) simd::store(scores + p * 16, simd::multiply(sums[r][p], scale));
    }
}

// Replaces the first `seen` scores with e^(score - largest), sets the others up to `end` to zero, and returns the sum.
inline float exponentiate(float* scores, std::size_t seen, std::size_t end) {
    const std::size_t padded = (seen + panel_width - 1) / panel_width * panel_width;
    for (std::size_t i = seen; i < padded; ++i) scores[i] = scores[seen - 1];
    Floats best = simd::load(scores);
    for (std::size_t i = panel_width; i < padded; i += panel_width) best = simd::maximum(simd::load(scores + i), best);
    const Floats largest = simd::broadcast(simd::largest(best));
    Floats total = simd::broadcast(0.0f);
    for (std::size_t i = 0; i < padded; i += panel_width) {
        const Floats weight = exponential(simd::subtract(simd::load(scores + i), largest));
        const Floats kept = simd::keep_first(weight, seen - i < panel_width ? seen - i : panel_width);
        simd::store(scores + i, kept);
        total = simd::add(total, kept);
    }
    for (std::size_t i = padded; i < end; ++i) scores[i] = 0.0f;
    return simd::sum(total);
}

// With one row, the sum over values is bound by memory latency, since pages are not adjacent. Pages are prefetched.
constexpr std::size_t pages_ahead = 2;

template <class Number>
inline void prefetch_values(const HeadCache& cache, std::size_t page, std::size_t first_block, std::size_t blocks) {
    const Number* values = values_of<Number>(cache, page) + first_block * panel_width;
    for (std::size_t position = 0; position < page_positions; ++position) {
        const auto* line = reinterpret_cast<const std::byte*>(values + position * cache.padded_head_dim);
        for (std::size_t i = 0; i < blocks * panel_width * sizeof(Number); i += 64) prefetch(line + i);
    }
}

// Computes output[r] for `blocks` blocks of 16 channels, starting at `first_block`.
template <int rows, int blocks, class Number>
inline void sum_values(const Attention& a, const float (&inverse)[rows], std::size_t seen, std::size_t first_block) {
    Floats sums[rows][blocks] = {};
    for (std::size_t start = 0; start < seen; start += page_positions) {
        if (rows == 1 && start + pages_ahead * page_positions < seen) {
            prefetch_values<Number>(a.cache, start / page_positions + pages_ahead, first_block, blocks);
        }
        const Number* values[blocks];
        for (int b = 0; b < blocks; ++b) {
            values[b] = values_of<Number>(a.cache, start / page_positions) +
                        (first_block + static_cast<std::size_t>(b)) * panel_width;
        }
        const std::size_t count = seen - start < page_positions ? seen - start : page_positions;
        accumulate<rows, blocks, Number>(sums, a.scores + start, a.scores_stride, values, a.cache.padded_head_dim,
                                         count);
    }
    for (int b = 0; b < blocks; ++b) {
        const std::size_t channel = (first_block + static_cast<std::size_t>(b)) * panel_width;
        const std::size_t left = a.cache.head_dim - channel;
        for (int r = 0; r < rows; ++r) {
            float* output = a.output + static_cast<std::size_t>(r) * a.output_stride + channel;
            const Floats mean = simd::multiply(sums[r][b], simd::broadcast(inverse[r]));
            simd::store_first(output, mean, left < panel_width ? left : panel_width);
        }
    }
}

template <int rows, class Number>
void attend_rows(const Attention& a) {
    const std::size_t seen = a.first_position + static_cast<std::size_t>(rows);  // positions for the last row
    const std::size_t pages = (seen + page_positions - 1) / page_positions;
    constexpr int at_once = rows == 1 ? 4 : 1;
    std::size_t page = 0;
    for (; page + at_once <= pages; page += at_once) score_pages<rows, at_once, Number>(a, page);
    for (; page < pages; ++page) score_pages<rows, 1, Number>(a, page);

    float inverse[rows];
    for (int r = 0; r < rows; ++r) {
        float* scores = a.scores + static_cast<std::size_t>(r) * a.scores_stride;
        inverse[r] = 1.0f / exponentiate(scores, a.first_position + static_cast<std::size_t>(r) + 1,
                                         pages * page_positions);
    }

    const std::size_t blocks = a.cache.padded_head_dim / panel_width;
    std::size_t block = 0;
    for (; block + at_once <= blocks; block += at_once) sum_values<rows, at_once, Number>(a, inverse, seen, block);
    for (; block < blocks; ++block) sum_values<rows, 1, Number>(a, inverse, seen, block);
}

template <class Number>
void attend_as(const Attention& attention) {
    static_assert(query_block == 4);
    switch (attention.rows) {
        case 1:
            return attend_rows<1, Number>(attention);
        case 2:
            return attend_rows<2, Number>(attention);
        case 3:
            return attend_rows<3, Number>(attention);
        default:
            return attend_rows<4, Number>(attention);
    }
}

void attend(const Attention& attention) {
    if (attention.cache.half) return attend_as<Half>(attention);
    attend_as<float>(attention);
}

}  // namespace
}  // namespace pellucid
