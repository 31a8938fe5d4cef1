#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"

// The kernels, over whichever simd_<set>.hpp was included before this file. kernels.hpp says what they do;
// everything here has internal linkage, so that no instruction set's code can stand in for another's.

extern "C" float erff(float);

namespace pellucid {
namespace {

// GCC unrolls the loops over a group so far that the sums no longer fit in registers.
#if defined(__GNUC__) && !defined(__clang__)
#define PELLUCID_NO_UNROLLING _Pragma("GCC unroll 1")
#else
#define PELLUCID_NO_UNROLLING
#endif

using simd::Floats;
using simd::Integers;

// The part of a panel's weights that is multiplied with all rows before the next is read: half of a first-level
// cache, so that it stays there.
constexpr std::size_t block_bytes = 16 * 1024;

// ---- products ---------------------------------------------------------------------------------------------------

// sums[r][p] += over k < n, in order: input row r at k times the sixteen weights at k of panel p.
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

// A format says how many steps a panel's inputs take, and how a tile of rows and panels goes through some of them.
struct Float32 {
    static constexpr int tile_rows = simd::tile_rows, panels_of_one_row = 4;
    static constexpr int panels_of_two_rows = 2;
    static constexpr std::size_t step_bytes = panel_width * sizeof(float);

    static std::size_t steps(const Product& product) { return product.n_in; }
    static std::size_t panel_bytes(const Product& product) { return product.n_in * step_bytes; }

    template <int rows, int panels>
    static void add(Floats (&sums)[rows][panels], const Product& product, std::size_t row,
                    const std::byte* const (&panel)[panels], std::size_t begin, std::size_t end) {
        const float* weights[panels];
        for (int p = 0; p < panels; ++p) weights[p] = reinterpret_cast<const float*>(panel[p] + begin * step_bytes);
        const float* input = product.inputs + row * product.input_stride + begin;
        accumulate<rows, panels, float>(sums, input, product.input_stride, weights, panel_width, end - begin);
    }
};

// Two inputs a step; an odd last input has zero weights beside it and is taken alone, for what lies behind it in
// the input is not ours.
struct Bfloat16 {
    static constexpr int tile_rows = simd::wide_tile_rows, panels_of_one_row = 2;
    static constexpr int panels_of_two_rows = 2;
    static constexpr std::size_t step_bytes = 2 * panel_width * sizeof(std::uint16_t);

    static std::size_t steps(const Product& product) { return (product.n_in + 1) / 2; }
    static std::size_t panel_bytes(const Product& product) { return steps(product) * step_bytes; }

    template <int rows, int panels>
    static void add(Floats (&sums)[rows][panels], const Product& product, std::size_t row,
                    const std::byte* const (&panel)[panels], std::size_t begin, std::size_t end) {
        const std::size_t pairs = product.n_in / 2 < end ? product.n_in / 2 : end;
        const float* input = product.inputs + row * product.input_stride;
        for (std::size_t step = begin; step < pairs; ++step) {
            for (int p = 0; p < panels; ++p) {
                Floats first, second;
                simd::load_pairs(panel[p] + step * step_bytes, first, second);
                for (int r = 0; r < rows; ++r) {
                    const float* x = input + static_cast<std::size_t>(r) * product.input_stride + 2 * step;
                    sums[r][p] = simd::multiply_add(simd::broadcast(x[0]), first, sums[r][p]);
                    sums[r][p] = simd::multiply_add(simd::broadcast(x[1]), second, sums[r][p]);
                }
            }
        }
        for (std::size_t step = pairs < begin ? begin : pairs; step < end; ++step) {
            for (int p = 0; p < panels; ++p) {
                Floats first, nothing;
                simd::load_pairs(panel[p] + step * step_bytes, first, nothing);
                for (int r = 0; r < rows; ++r) {
                    const float* x = input + static_cast<std::size_t>(r) * product.input_stride + 2 * step;
                    sums[r][p] = simd::multiply_add(simd::broadcast(x[0]), first, sums[r][p]);
                }
            }
        }
    }
};

inline std::size_t groups_of(std::size_t n) { return (n + group_size - 1) / group_size; }

// Scales lie before a panel's weights, padded to a cache line.
inline std::size_t scales_bytes(std::size_t scales) { return (scales * panel_width * sizeof(Half) + 63) / 64 * 64; }

// Where a group's quads of inputs lie for one row of a tile.
inline const std::int8_t* group_values(const QuantizedRows& inputs, std::size_t row, std::size_t group) {
    return inputs.values + (row * inputs.groups + group) * group_size;
}

// A group a step.
struct Int8 {
    static constexpr int tile_rows = simd::wide_tile_rows, panels_of_one_row = simd::integer_panels;
    static constexpr int panels_of_two_rows = (simd::integer_panels + 1) / 2;
    static constexpr std::size_t step_bytes = panel_width * group_size;

    static std::size_t steps(const Product& product) { return groups_of(product.n_in); }
    static std::size_t panel_bytes(const Product& product) {
        return scales_bytes(steps(product)) + steps(product) * step_bytes;
    }

    template <int rows, int panels>
    static void add(Floats (&sums)[rows][panels], const Product& product, std::size_t row,
                    const std::byte* const (&panel)[panels], std::size_t begin, std::size_t end) {
        const QuantizedRows& inputs = product.quantized;
        for (std::size_t group = begin; group < end; ++group) {
            const std::size_t weights = scales_bytes(inputs.groups) + group * step_bytes;
            const std::int8_t* values = group_values(inputs, row, group);
            Integers products[rows][panels];
            for (int r = 0; r < rows; ++r) {
                const std::int32_t sum = inputs.sums[(row + static_cast<std::size_t>(r)) * inputs.groups + group];
                for (int p = 0; p < panels; ++p) products[r][p] = simd::start_sum(sum);
            }
PELLUCID_NO_UNROLLING
            for (std::size_t i = 0; i < group_size; i += 4) {
                simd::Quads quads[panels];
                for (int p = 0; p < panels; ++p) {
                    quads[p] = simd::load_quads(panel[p] + weights + i * panel_width);
                }
                for (int r = 0; r < rows; ++r) {
                    const std::size_t offset = static_cast<std::size_t>(r) * inputs.groups * group_size + i;
                    const simd::InputQuad x = simd::load_input_quad(values + offset);
                    for (int p = 0; p < panels; ++p) products[r][p] = simd::add_products(products[r][p], quads[p], x);
                }
            }
            for (int p = 0; p < panels; ++p) {
                const Floats scale = simd::load(reinterpret_cast<const Half*>(panel[p]) + group * panel_width);
                for (int r = 0; r < rows; ++r) {
                    const std::size_t at = (row + static_cast<std::size_t>(r)) * inputs.groups + group;
                    const Floats both = simd::multiply(scale, simd::broadcast(inputs.scales[at]));
                    sums[r][p] = simd::multiply_add(simd::to_floats(products[r][p]), both, sums[r][p]);
                }
            }
        }
    }
};

// A group a step. weight = scale * (0..15) + minimum, so a group adds
// scale * input_scale * (the integer sum) + minimum * input_scale * (the sum of its inputs).
struct Int4 {
    static constexpr int tile_rows = simd::wide_tile_rows, panels_of_one_row = simd::integer_panels;
    static constexpr int panels_of_two_rows = (simd::integer_panels + 1) / 2;
    static constexpr std::size_t step_bytes = panel_width * group_size / 2;

    static std::size_t steps(const Product& product) { return groups_of(product.n_in); }
    static std::size_t panel_bytes(const Product& product) {
        return scales_bytes(2 * steps(product)) + steps(product) * step_bytes;
    }

    template <int rows, int panels>
    static void add(Floats (&sums)[rows][panels], const Product& product, std::size_t row,
                    const std::byte* const (&panel)[panels], std::size_t begin, std::size_t end) {
        const QuantizedRows& inputs = product.quantized;
        const std::size_t run = static_cast<std::size_t>(simd::nibble_quads) * 4;  // inputs between two widenings
        for (std::size_t group = begin; group < end; ++group) {
            const std::size_t weights = scales_bytes(2 * inputs.groups) + group * step_bytes;
            const std::int8_t* values = group_values(inputs, row, group);
            Integers products[rows][panels] = {};
            for (std::size_t start = 0; start < group_size; start += run) {
                simd::NibbleSums narrow[rows][panels] = {};
PELLUCID_NO_UNROLLING
                for (std::size_t i = start; i < start + run; i += 8) {
                    simd::Nibbles first[panels], second[panels];
                    for (int p = 0; p < panels; ++p) {
                        simd::load_nibbles(panel[p] + weights + i * panel_width / 2, first[p], second[p]);
                    }
                    for (int r = 0; r < rows; ++r) {
                        const std::size_t offset = static_cast<std::size_t>(r) * inputs.groups * group_size + i;
                        const simd::InputQuad x = simd::load_input_quad(values + offset);
                        const simd::InputQuad y = simd::load_input_quad(values + offset + 4);
                        for (int p = 0; p < panels; ++p) {
                            narrow[r][p] = simd::add_nibble_products(narrow[r][p], first[p], x);
                            narrow[r][p] = simd::add_nibble_products(narrow[r][p], second[p], y);
                        }
                    }
                }
                for (int r = 0; r < rows; ++r) {
                    for (int p = 0; p < panels; ++p) products[r][p] = simd::widen_and_add(products[r][p], narrow[r][p]);
                }
            }
            for (int p = 0; p < panels; ++p) {
                const Half* scales = reinterpret_cast<const Half*>(panel[p]) + 2 * group * panel_width;
                const Floats scale = simd::load(scales), minimum = simd::load(scales + panel_width);
                for (int r = 0; r < rows; ++r) {
                    const std::size_t at = (row + static_cast<std::size_t>(r)) * inputs.groups + group;
                    const float input_scale = inputs.scales[at];
                    const Floats both = simd::multiply(scale, simd::broadcast(input_scale));
                    const Floats input_sum = simd::broadcast(input_scale * static_cast<float>(inputs.sums[at]));
                    sums[r][p] = simd::multiply_add(simd::to_floats(products[r][p]), both, sums[r][p]);
                    sums[r][p] = simd::multiply_add(minimum, input_sum, sums[r][p]);
                }
            }
        }
    }
};

// e^x for x in -87..88 and its ends beyond: 2^n times e^r with |r| <= ln 2 / 2, whose Taylor series to r^7 leaves
// less than 6e-9.
inline Floats exponential(const Floats& x) {
    const Floats bounded = simd::minimum(simd::maximum(x, simd::broadcast(-87.0f)), simd::broadcast(88.0f));
    const Floats n = simd::round(simd::multiply(bounded, simd::broadcast(1.44269504f)));
    // ln 2 in two parts, the first exact in few bits, so that n times it is exact.
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
            for (float& value : lane) value = 0.5f * value * (1.0f + erff(value * 0.70710678f));
            return simd::load(lane);
        }
        case Activation::relu:
            return simd::maximum(x, simd::broadcast(0.0f));
        case Activation::silu:
            return simd::multiply(x, sigmoid(x));
        case Activation::tanh:  // 2 sigmoid(2x) - 1
            return simd::multiply_add(simd::broadcast(2.0f), sigmoid(simd::add(x, x)), simd::broadcast(-1.0f));
    }
    return x;
}

// Bias, activation and what the output holds already, for one row's sixteen sums.
inline void finish(const Product& product, std::size_t row, std::size_t panel, const Floats& sum) {
    const std::size_t first = panel * panel_width;
    const std::size_t left = product.n_out - first;
    const std::size_t n = left < panel_width ? left : panel_width;
    float* output = product.output + row * product.output_stride + first;
    Floats value = sum;
    if (product.bias != nullptr) value = simd::add(value, simd::load_first(product.bias + first, n));
    value = activate(product.activation, value);
    if (product.accumulate) value = simd::add(simd::load_first(output, n), value);
    simd::store_first(output, value, n);
}

template <class Format, int rows, int panels>
inline void whole_tile(const Product& product, std::size_t row, std::size_t first_panel) {
    const std::byte* panel[panels];
    for (int p = 0; p < panels; ++p) {
        panel[p] = product.weights + (first_panel + static_cast<std::size_t>(p)) * Format::panel_bytes(product);
    }
    Floats sums[rows][panels] = {};
    Format::template add<rows, panels>(sums, product, row, panel, 0, Format::steps(product));
    for (int r = 0; r < rows; ++r) {
        for (int p = 0; p < panels; ++p) {
            finish(product, row + static_cast<std::size_t>(r), first_panel + static_cast<std::size_t>(p), sums[r][p]);
        }
    }
}

// One or two rows leave registers for several panels, whose chains of sums hide each other's latency.
template <class Format, int rows, int panels>
inline void few_rows(const Product& product, std::size_t first, std::size_t last) {
    std::size_t panel = first;
    for (; panel + panels <= last; panel += panels) whole_tile<Format, rows, panels>(product, 0, panel);
    for (; panel < last; ++panel) whole_tile<Format, rows, 1>(product, 0, panel);
}

// Continues the sums of rows [row, row + count) of a tile over steps [begin, end); count is at most `rows`.
template <class Format, int rows>
inline void partial_tile(const Product& product, std::size_t row, std::size_t count, const std::byte* panel,
                         std::size_t begin, std::size_t end, float* partial_sums) {
    if constexpr (rows > 1) {
        if (count < static_cast<std::size_t>(rows)) {
            partial_tile<Format, rows - 1>(product, row, count, panel, begin, end, partial_sums);
            return;
        }
    }
    (void)count;
    Floats sums[rows][1];
    float* partial = partial_sums + row * panel_width;
    for (int r = 0; r < rows; ++r) sums[r][0] = simd::load(partial + static_cast<std::size_t>(r) * panel_width);
    const std::byte* const one_panel[1] = {panel};
    Format::template add<rows, 1>(sums, product, row, one_panel, begin, end);
    for (int r = 0; r < rows; ++r) simd::store(partial + static_cast<std::size_t>(r) * panel_width, sums[r][0]);
}

template <class Format>
void multiply_panels(const Product& product, std::size_t first, std::size_t last, float* partial_sums) {
    if (product.rows == 1) return few_rows<Format, 1, Format::panels_of_one_row>(product, first, last);
    if (product.rows == 2) return few_rows<Format, 2, Format::panels_of_two_rows>(product, first, last);
    constexpr auto tile = static_cast<std::size_t>(Format::tile_rows);
    constexpr std::size_t block_steps = block_bytes / Format::step_bytes;
    const std::size_t steps = Format::steps(product);
    for (std::size_t panel = first; panel < last; ++panel) {
        const std::byte* weights = product.weights + panel * Format::panel_bytes(product);
        for (std::size_t i = 0; i < product.rows * panel_width; ++i) partial_sums[i] = 0.0f;
        for (std::size_t begin = 0; begin < steps; begin += block_steps) {
            const std::size_t end = begin + block_steps < steps ? begin + block_steps : steps;
            for (std::size_t row = 0; row < product.rows; row += tile) {
                const std::size_t count = product.rows - row < tile ? product.rows - row : tile;
                partial_tile<Format, Format::tile_rows>(product, row, count, weights, begin, end, partial_sums);
            }
        }
        for (std::size_t row = 0; row < product.rows; ++row) {
            finish(product, row, panel, simd::load(partial_sums + row * panel_width));
        }
    }
}

void multiply(const Product& product, std::size_t first, std::size_t last, float* partial_sums) {
    switch (product.precision) {
        case Precision::float32:
            return multiply_panels<Float32>(product, first, last, partial_sums);
        case Precision::bfloat16:
            return multiply_panels<Bfloat16>(product, first, last, partial_sums);
        case Precision::int8:
            return multiply_panels<Int8>(product, first, last, partial_sums);
        case Precision::int4:
            return multiply_panels<Int4>(product, first, last, partial_sums);
    }
}

// ---- rows of activations ----------------------------------------------------------------------------------------

void quantize(const float* input, std::size_t n, const QuantizedRows& out, std::size_t row) {
    const Floats bound = simd::broadcast(127.0f), lower_bound = simd::broadcast(-127.0f);
    for (std::size_t group = 0; group < out.groups; ++group) {
        const std::size_t begin = group * group_size;
        Floats x[group_size / panel_width];
        Floats magnitude = simd::broadcast(0.0f);
        for (std::size_t i = 0; i < group_size / panel_width; ++i) {
            const std::size_t start = begin + i * panel_width;
            const std::size_t left = start < n ? n - start : 0;
            x[i] = left >= panel_width ? simd::load(input + start) : simd::load_first(input + start, left);
            magnitude = simd::maximum(simd::absolute(x[i]), magnitude);
        }
        const float largest = simd::largest(magnitude);
        const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        const std::size_t at = row * out.groups + group;
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < group_size / panel_width; ++i) {
            // Bounded first: what is not finite must still be a byte, and rounding may end above 127.
            const Floats scaled = simd::multiply(x[i], simd::broadcast(inverse));
            const Floats bounded = simd::minimum(simd::maximum(scaled, lower_bound), bound);
            sum += simd::store_bytes(out.values + at * group_size + i * panel_width, simd::round(bounded));
        }
        out.scales[at] = largest / 127.0f;
        out.sums[at] = sum;
    }
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
    const float scale = 1.0f / __builtin_sqrtf(variance + epsilon);
    for (std::size_t i = 0; i < n; i += panel_width) {
        const Floats normal = simd::multiply(simd::subtract(take(i, input), mean), simd::broadcast(scale));
        const Floats result = simd::multiply_add(normal, take(i, weight), take(i, bias));
        simd::store_first(output + i, result, n - i < panel_width ? n - i : panel_width);
    }
}

// ---- attention --------------------------------------------------------------------------------------------------


// Numbers beyond what 16 bits hold become the largest they hold: an infinity would make the whole row NaN.
inline Floats storable(const Floats& x, const float*) { return x; }
inline Floats storable(const Floats& x, const Half*) {
    return simd::minimum(simd::maximum(x, simd::broadcast(-65504.0f)), simd::broadcast(65504.0f));
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

// scores[r][position] for `pages` pages from `first_page` on.
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

// Turns the first `seen` scores into e^(score - largest), sets the rest up to `end` to zero, and returns the sum.
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

// output[r] for `blocks` blocks of sixteen channels from `first_block` on.
template <int rows, int blocks, class Number>
inline void sum_values(const Attention& a, const float (&inverse)[rows], std::size_t seen, std::size_t first_block) {
    Floats sums[rows][blocks] = {};
    for (std::size_t start = 0; start < seen; start += page_positions) {
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
    const std::size_t seen = a.first_position + static_cast<std::size_t>(rows);  // by the last row
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

constexpr KernelTable table(const char* name) {
    return {name, multiply, quantize, layer_norm, append, attend, simd::read};
}

}  // namespace
}  // namespace pellucid
