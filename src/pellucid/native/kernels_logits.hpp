#pragma once

#include "kernels_math.hpp"

// Passes over a row of logits; see kernels_source.hpp.
namespace pellucid {
namespace {

constexpr float infinity = __builtin_inff();

// Vectors whose exponentials are added up in single precision before they join the sum in double.
constexpr std::size_t vectors_in_a_run = 32;

LogitsSurvey survey(const float* logits, std::size_t n) {
    const std::size_t whole = n / panel_width * panel_width;
    const Floats nothing = simd::broadcast(0.0f);
    // Nothing times an infinity or a NaN is NaN, and stays so in a sum.
    Floats invalid = nothing, best = simd::broadcast(-infinity);
    for (std::size_t i = 0; i < whole; i += panel_width) {
        const Floats x = simd::load(logits + i);
        invalid = simd::multiply_add(x, nothing, invalid);
        best = simd::maximum(x, best);
    }
    float check = simd::sum(invalid), largest = simd::largest(best);
    for (std::size_t i = whole; i < n; ++i) {
        check += logits[i] * 0.0f;
        largest = logits[i] > largest ? logits[i] : largest;
    }
    const bool finite = check == check;
    if (!(largest > -infinity && largest < infinity)) return {finite, static_cast<double>(largest)};

    const Floats shift = simd::broadcast(largest);
    double total = 0.0;
    for (std::size_t start = 0; start < n; start += vectors_in_a_run * panel_width) {
        const std::size_t end = n - start < vectors_in_a_run * panel_width ? n : start + vectors_in_a_run * panel_width;
        Floats sum = nothing;
        for (std::size_t i = start; i < end; i += panel_width) {
            const std::size_t left = n - i;
            const Floats x = left >= panel_width ? simd::load(logits + i) : simd::load_first(logits + i, left);
            const Floats weight = exponential(simd::subtract(x, shift));
            sum = simd::add(sum, left >= panel_width ? weight : simd::keep_first(weight, left));
        }
        total += static_cast<double>(simd::sum(sum));
    }
    return {finite, static_cast<double>(largest) + ::log(total)};
}

void column_maxima(const float* values, std::size_t rows, std::size_t width, float* maxima) {
    const std::size_t whole = width / panel_width * panel_width;
    for (std::size_t i = 0; i < whole; i += panel_width) {
        Floats best = simd::load(values + i);
        for (std::size_t row = 1; row < rows; ++row) best = simd::maximum(simd::load(values + row * width + i), best);
        simd::store(maxima + i, best);
    }
    for (std::size_t i = whole; i < width; ++i) {
        maxima[i] = values[i];
        for (std::size_t row = 1; row < rows; ++row) {
            const float value = values[row * width + i];
            maxima[i] = value > maxima[i] ? value : maxima[i];
        }
    }
}

}  // namespace
}  // namespace pellucid
