#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"
#include "kernels_attention.hpp"
#include "kernels_logits.hpp"
#include "kernels_math.hpp"
#include "kernels_products.hpp"

// The kernels that kernels.hpp declares, over the simd_<set>.hpp that was included before this file. Everything here
// and in the files above has internal linkage, so that the linker cannot merge code of different instruction sets.
namespace pellucid {
namespace {

// Format: the format of the weights, Int8 or Int4. A byte cannot represent NaN, so a row with a number that is not
// finite gets NaN as its scales. Every product with it is then NaN.
template <class Format>
void quantize_for(const float* input, std::size_t n, const QuantizedRows& out, std::size_t row) {
    const Floats bound = simd::broadcast(127.0f), lower_bound = simd::broadcast(-127.0f);
    Floats invalid = simd::broadcast(0.0f);
    for (std::size_t group = 0; group < out.groups; ++group) {
        const std::size_t begin = group * group_size;
        Floats x[group_size / panel_width];
        Floats magnitude = simd::broadcast(0.0f);
        for (std::size_t i = 0; i < group_size / panel_width; ++i) {
            const std::size_t start = begin + i * panel_width;
            const std::size_t left = start < n ? n - start : 0;
            x[i] = left >= panel_width ? simd::load(input + start) : simd::load_first(input + start, left);
            magnitude = simd::maximum(simd::absolute(x[i]), magnitude);
            invalid = simd::add(invalid, invalid_lanes(x[i]));
        }
        const float largest = simd::largest(magnitude);
        const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        const std::size_t at = row * out.groups + group;
        std::int8_t* quads = out.quads + at * group_quads * Format::quad_bytes;
        QuadTotals totals{0, 0};
        for (std::size_t i = 0; i < group_size / panel_width; ++i) {
            // Clamping turns NaN, as the first argument of maximum, into -127, and values that scaling rounded above
            // 127 into 127.
            const Floats scaled = simd::multiply(x[i], simd::broadcast(inverse));
            const Floats bounded = simd::minimum(simd::maximum(scaled, lower_bound), bound);
            std::int8_t* four = quads + i * panel_width / 4 * Format::quad_bytes;
            const QuadTotals some = Format::store_quads(four, simd::round(bounded));
            totals = {totals.sum + some.sum, totals.start + some.start};
        }
        out.scales[at] = largest / 127.0f;
        out.sums[at] = totals.sum;
        out.starts[at] = totals.start;
    }
    const float check = simd::sum(invalid);
    if (check == check) return;
    for (std::size_t group = 0; group < out.groups; ++group) out.scales[row * out.groups + group] = check;
}

void quantize(const float* input, std::size_t n, Precision weights, const QuantizedRows& out, std::size_t row) {
    if (weights == Precision::int8) return quantize_for<Int8>(input, n, out, row);
    quantize_for<Int4>(input, n, out, row);
}

void layer_norm(const float* input, std::size_t n, const float* weight, const float* bias, float epsilon,
                float* output) {
    const auto take = [&](std::size_t i, const float* from) {
        return i + panel_width <= n ? simd::load(from + i) : simd::load_first(from + i, n - i);
    };
    Floats total = simd::broadcast(0.0f);
    for (std::size_t i = 0; i < n; i += panel_width) total = simd::add(total, take(i, input));
    const Floats mean = simd::broadcast(simd::sum(total) / static_cast<float>(n));
    Floats squares = simd::broadcast(0.0f);
    for (std::size_t i = 0; i < n; i += panel_width) {
        const Floats centred = simd::keep_first(simd::subtract(take(i, input), mean), n - i);
        squares = simd::multiply_add(centred, centred, squares);
    }
    const float variance = simd::sum(squares) / static_cast<float>(n);
    const float scale = 1.0f / ::sqrtf(variance + epsilon);
    for (std::size_t i = 0; i < n; i += panel_width) {
        const Floats normal = simd::multiply(simd::subtract(take(i, input), mean), simd::broadcast(scale));
        const Floats result = simd::multiply_add(normal, take(i, weight), take(i, bias));
        simd::store_first(output + i, result, n - i < panel_width ? n - i : panel_width);
    }
}

constexpr KernelTable table(const char* name) {
    constexpr std::size_t quad_bytes = Int8::quad_bytes > Int4::quad_bytes ? Int8::quad_bytes : Int4::quad_bytes;
    return {name, quad_bytes, multiply, quantize, layer_norm, append, attend, survey, group_maxima, simd::read};
}

}  // namespace
}  // namespace pellucid
