#pragma once

// The C header, not <cmath>: C functions are not emitted in this object file; see kernels.hpp.
#include <math.h>

#include <cstddef>

#include "kernels.hpp"

// Functions that the kernels share. Included by kernels_source.hpp.
namespace pellucid {
namespace {

using simd::Floats;
using simd::Integers;

// Returns NaN in each lane that is not finite and zero in the others: 0 times an infinity or a NaN is NaN.
inline Floats invalid_lanes(const Floats& x) { return simd::multiply(x, simd::broadcast(0.0f)); }

// Prefetches the cache line at p.
inline void prefetch([[maybe_unused]] const std::byte* p) {
#if defined(__GNUC__)
    __builtin_prefetch(p);
#endif
}

// sums[r][p] += the sum over k < n, in order, of input[r][k] times the 16 weights of panel p at k.
template <int rows, int panels, class Weight>
inline void accumulate(Floats (&sums)[rows][panels], const float* input, std::size_t input_stride,
                       const Weight* const (&weights)[panels], std::size_t weight_stride, std::size_t n) {
    for (std::size_t k = 0; k < n; ++k) {
        Floats weight[panels];
        for (int p = 0; p < panels; ++p) weight[p] = simd::load(weights[p] + k * weight_stride);
        for (int r = 0; r < rows; ++r) {
            const Floats x = simd::broadcast(input[static_cast<std::size_t>(r) * input_stride + k]);
            for (int p = 0; p < panels; ++p) sums[r][p] = simd::multiply_add(x, weight[p], sums[r][p]);
        }
    }
}

// e^x, with x clamped to -87..88. NaN stays NaN, because minimum and maximum return a NaN in their second argument.
// Computed as 2^n * e^r with |r| <= ln 2 / 2; the Taylor series of e^r to r^7 has an error below 6e-9.
inline Floats exponential(const Floats& x) {
    const Floats bounded = simd::minimum(simd::broadcast(88.0f), simd::maximum(simd::broadcast(-87.0f), x));
    const Floats n = simd::round(simd::multiply(bounded, simd::broadcast(1.44269504f)));
    // ln 2 is split in two parts. The first has few significant bits, so that n times it is exact.
    Floats r = simd::multiply_add(n, simd::broadcast(-0.693359375f), bounded);
    r = simd::multiply_add(n, simd::broadcast(2.12194440e-4f), r);
    constexpr float coefficients[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f};
    Floats series = simd::broadcast(1.0f / 5040);
    for (const float coefficient : coefficients) {
        series = simd::multiply_add(series, r, simd::broadcast(coefficient));
    }
    return simd::multiply(series, simd::power_of_two(n));
}

// 1 / (1 + e^-x)
inline Floats sigmoid(const Floats& x) {
    const Floats one = simd::broadcast(1.0f);
    const Floats decay = exponential(simd::subtract(simd::broadcast(0.0f), x));
    return simd::divide(one, simd::add(one, decay));
}

inline Floats activate(Activation activation, const Floats& x) {
    switch (activation) {
        case Activation::none:
            return x;
        case Activation::gelu_new: {
            // x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 x^3), which is x * sigmoid(2u).
            const Floats square = simd::multiply(x, x);
            const Floats factor =
                simd::multiply_add(square, simd::broadcast(0.0713548162726f), simd::broadcast(1.59576912161f));
            return simd::multiply(x, sigmoid(simd::multiply(x, factor)));
        }
        case Activation::gelu: {
            float lane[panel_width];
            simd::store(lane, x);
            for (float& value : lane) value = 0.5f * value * (1.0f + ::erff(value * 0.70710678f));
            return simd::load(lane);
        }
        case Activation::relu:
            return simd::maximum(simd::broadcast(0.0f), x);  // with this order of arguments NaN stays NaN
        case Activation::silu:
            return simd::multiply(x, sigmoid(x));
        case Activation::tanh:  // 2 sigmoid(2x) - 1
            return simd::multiply_add(simd::broadcast(2.0f), sigmoid(simd::add(x, x)), simd::broadcast(-1.0f));
    }
    return x;
}

}  // namespace
}  // namespace pellucid
