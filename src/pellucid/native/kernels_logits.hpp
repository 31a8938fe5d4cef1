#pragma once

#include "kernels_math.hpp"

// Passes over a row of logits; see kernels_source.hpp.
namespace pellucid {
namespace {

constexpr float infinity = __builtin_huge_valf();  // MSVC has this name too, and no other for it

// The largest of each lane's values from `start` to `end`, which are at most a run.
inline void lane_maxima(const float* values, std::size_t start, std::size_t end, float (&maxima)[panel_width]) {
    Floats best = simd::broadcast(-infinity);
    std::size_t i = start;
    for (; i + panel_width <= end; i += panel_width) best = simd::maximum(simd::load(values + i), best);
    simd::store(maxima, best);
    for (std::size_t lane = 0; i + lane < end; ++lane) {
        maxima[lane] = values[i + lane] > maxima[lane] ? values[i + lane] : maxima[lane];
    }
}

inline float largest_of(const float (&maxima)[panel_width]) { return simd::largest(simd::load(maxima)); }

// The sum of e^(x - largest) over x from `start` to `end`. Adds to `invalid` a NaN for each that is not finite.
inline float sum_of_exponentials(const float* values, std::size_t start, std::size_t end, float largest,
                                 Floats& invalid) {
    const Floats nothing = simd::broadcast(0.0f), shift = simd::broadcast(largest);
    Floats sum = nothing;
    std::size_t i = start;
    for (; i + panel_width <= end; i += panel_width) {
        const Floats x = simd::load(values + i);
        invalid = simd::add(invalid, invalid_lanes(x));
        sum = simd::add(sum, exponential(simd::subtract(x, shift)));
    }
    if (i < end) {
        const Floats x = simd::load_first(values + i, end - i);
        invalid = simd::add(invalid, invalid_lanes(x));
        sum = simd::add(sum, simd::keep_first(exponential(simd::subtract(x, shift)), end - i));
    }
    return simd::sum(sum);
}

LogitsSurvey survey(const float* logits, std::size_t n, float* maxima) {
    Floats invalid = simd::broadcast(0.0f);
    float largest = -infinity;
    double total = 0.0;  // of the exponentials so far, each less `largest`
    for (std::size_t start = 0; start < n; start += run_length) {
        // A run is looked at twice while it is at hand.
        const std::size_t end = n - start < run_length ? n : start + run_length;
        float found[panel_width];
        lane_maxima(logits, start, end, found);
        for (std::size_t lane = 0; lane < panel_width; ++lane) maxima[start / run_length * panel_width + lane] = found[lane];
        const float largest_here = largest_of(found);
        if (largest_here > largest) {
            total *= largest > -infinity ? ::exp(static_cast<double>(largest) - static_cast<double>(largest_here)) : 0.0;
            largest = largest_here;
        }
        const float shift = largest > -infinity ? largest : 0.0f;
        total += static_cast<double>(sum_of_exponentials(logits, start, end, shift, invalid));
    }
    const float check = simd::sum(invalid);
    const bool counts = largest > -infinity && largest < infinity;
    return {check == check, counts ? static_cast<double>(largest) + ::log(total) : static_cast<double>(largest)};
}

void group_maxima(const float* values, std::size_t n, float* maxima) {
    for (std::size_t start = 0; start < n; start += run_length) {
        float found[panel_width];
        lane_maxima(values, start, n - start < run_length ? n : start + run_length, found);
        for (std::size_t lane = 0; lane < panel_width; ++lane) maxima[start / run_length * panel_width + lane] = found[lane];
    }
}

}  // namespace
}  // namespace pellucid
