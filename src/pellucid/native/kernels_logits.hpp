#pragma once

#include "kernels_math.hpp"

// Passes over a row of logits; see kernels_source.hpp.
namespace pellucid {
namespace {

constexpr float infinity = __builtin_inff();

// Vectors that are looked at together, twice while they are at hand: for their largest, then for their exponentials,
// which are added up in single precision before they join the sum in double.
constexpr std::size_t vectors_in_a_run = 32;

LogitsSurvey survey(const float* logits, std::size_t n) {
    const Floats nothing = simd::broadcast(0.0f);
    Floats invalid = nothing;
    float largest = -infinity;
    double total = 0.0;  // of the exponentials so far, each less `largest`
    for (std::size_t start = 0; start < n; start += vectors_in_a_run * panel_width) {
        const std::size_t end = n - start < vectors_in_a_run * panel_width ? n : start + vectors_in_a_run * panel_width;
        const std::size_t whole = start + (end - start) / panel_width * panel_width;
        Floats best = simd::broadcast(-infinity);
        for (std::size_t i = start; i < whole; i += panel_width) {
            const Floats x = simd::load(logits + i);
            // Nothing times an infinity or a NaN is NaN, and stays so in a sum.
            invalid = simd::multiply_add(x, nothing, invalid);
            best = simd::maximum(x, best);
        }
        float largest_here = simd::largest(best);
        if (whole < end) {
            invalid = simd::multiply_add(simd::load_first(logits + whole, end - whole), nothing, invalid);
            for (std::size_t i = whole; i < end; ++i) largest_here = logits[i] > largest_here ? logits[i] : largest_here;
        }
        if (largest_here > largest) {
            total *= largest > -infinity ? ::exp(static_cast<double>(largest) - static_cast<double>(largest_here)) : 0.0;
            largest = largest_here;
        }
        const Floats shift = simd::broadcast(largest > -infinity ? largest : 0.0f);
        Floats sum = nothing;
        for (std::size_t i = start; i < whole; i += panel_width) {
            sum = simd::add(sum, exponential(simd::subtract(simd::load(logits + i), shift)));
        }
        if (whole < end) {
            const Floats weight = exponential(simd::subtract(simd::load_first(logits + whole, end - whole), shift));
            sum = simd::add(sum, simd::keep_first(weight, end - whole));
        }
        total += static_cast<double>(simd::sum(sum));
    }
    const float check = simd::sum(invalid);
    const bool counts = largest > -infinity && largest < infinity;
    return {check == check, counts ? static_cast<double>(largest) + ::log(total) : static_cast<double>(largest)};
}

void column_maxima(const float* values, std::size_t rows, std::size_t width, float* maxima) {
    constexpr std::size_t vectors = 4;  // side by side, so that a row is read by whole cache lines in turn
    std::size_t i = 0;
    for (; i + vectors * panel_width <= width; i += vectors * panel_width) {
        Floats best[vectors];
        for (std::size_t v = 0; v < vectors; ++v) best[v] = simd::load(values + i + v * panel_width);
        for (std::size_t row = 1; row < rows; ++row) {
            const float* from = values + row * width + i;
            for (std::size_t v = 0; v < vectors; ++v) {
                best[v] = simd::maximum(simd::load(from + v * panel_width), best[v]);
            }
        }
        for (std::size_t v = 0; v < vectors; ++v) simd::store(maxima + i + v * panel_width, best[v]);
    }
    for (; i < width; ++i) {
        maxima[i] = values[i];
        for (std::size_t row = 1; row < rows; ++row) {
            const float value = values[row * width + i];
            maxima[i] = value > maxima[i] ? value : maxima[i];
        }
    }
}

}  // namespace
}  // namespace pellucid
