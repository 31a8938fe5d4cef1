#pragma once

#include "kernels_math.hpp"

// Passes over a row of logits. Included by kernels_source.hpp.
namespace pellucid {
namespace {

constexpr float infinity = __builtin_huge_valf();  // the one spelling that MSVC shares

// Computes the maximum of each lane over values [start, end), at most one run.
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

// Returns the sum of e^(x - largest) over values [start, end). Adds NaN to `invalid` for each value that is not finite.
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
    double total = 0.0;  // the sum of e^(x - largest) so far
    for (std::size_t start = 0; start < n; start += run_length) {
        // Both passes over a run find it in L1.
        const std::size_t end = n - start < run_length ? n : start + run_length;
        float found[panel_width];
        lane_maxima(logits, start, end, found);
        float* here = maxima + start / run_length * panel_width;
        for (std::size_t lane = 0; lane < panel_width; ++lane) here[lane] = found[lane];
        const float largest_here = largest_of(found);
        if (largest_here > largest) {
            const double step = static_cast<double>(largest) - static_cast<double>(largest_here);
            total *= largest > -infinity ? ::exp(step) : 0.0;
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
        float* here = maxima + start / run_length * panel_width;
        for (std::size_t lane = 0; lane < panel_width; ++lane) here[lane] = found[lane];
    }
}

}  // namespace
}  // namespace pellucid
