#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"
#include "kernels_math.hpp"

// Products of activations with packed weights, in each precision. Included by kernels_source.hpp.
namespace pellucid {
namespace {

// Without this pragma, GCC unrolls the loops over a group so far that the sums spill from registers.
#if defined(__GNUC__) && !defined(__clang__)
#define PELLUCID_NO_UNROLLING _Pragma("GCC unroll 1")
#else
#define PELLUCID_NO_UNROLLING
#endif

// Cache blocking: this much of a panel is multiplied with all rows before the next part is read. It is half of L1.
constexpr std::size_t block_bytes = 16 * 1024;

// The distance in bytes at which weights are prefetched, so that memory latency overlaps with arithmetic. Prefetching
// past the end of the weights is harmless.
constexpr std::size_t prefetch_distance(int rows) { return rows <= 2 ? 2048 : 4096; }

template <int rows>
inline void prefetch_weights(const void* weights) {
    prefetch(static_cast<const std::byte*>(weights) + prefetch_distance(rows));
}

// A format divides a panel's inputs into steps. Its `add` accumulates steps [begin, end) for a tile of rows and panels.
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
        if constexpr (rows <= 2) {
            accumulate<rows, panels, float>(sums, input, product.input_stride, weights, panel_width, end - begin);
        } else {
            for (std::size_t step = begin; step < end; ++step, ++input) {
                for (int p = 0; p < panels; ++p) prefetch_weights<rows>(weights[p]);
                accumulate<rows, panels, float>(sums, input, product.input_stride, weights, panel_width, 1);
                for (int p = 0; p < panels; ++p) weights[p] += panel_width;
            }
        }
    }
};

// Two inputs per step. An odd last input is read alone, because the next one is out of bounds.
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
                if constexpr (rows > 2) prefetch_weights<rows>(panel[p] + step * step_bytes);
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

// The size of a panel's scales, which precede its weights, padded to a cache line.
inline std::size_t scales_bytes(std::size_t scales) { return (scales * panel_width * sizeof(Half) + 63) / 64 * 64; }

constexpr std::size_t group_quads = group_size / 4;

// The address of a quad of activations.
template <class Format>
inline const std::int8_t* input_quad(const QuantizedRows& inputs, std::size_t row, std::size_t group,
                                     std::size_t quad) {
    return inputs.quads + ((row * inputs.groups + group) * group_quads + quad) * Format::quad_bytes;
}

// One group per step.
struct Int8 {
    static constexpr int tile_rows = simd::wide_tile_rows, panels_of_one_row = simd::integer_panels;
    static constexpr int panels_of_two_rows = 2;
    static constexpr std::size_t step_bytes = panel_width * group_size;
    static constexpr std::size_t quad_bytes = sizeof(simd::ByteQuad);

    static QuadTotals store_quads(std::int8_t* p, const Floats& x) { return simd::store_byte_quads(p, x); }

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
            Integers products[rows][panels];
            for (int r = 0; r < rows; ++r) {
                const std::int32_t start = inputs.starts[(row + static_cast<std::size_t>(r)) * inputs.groups + group];
                for (int p = 0; p < panels; ++p) products[r][p] = simd::broadcast(start);
            }
PELLUCID_NO_UNROLLING
            for (std::size_t quad = 0; quad < group_quads; ++quad) {
                simd::Quads quads[panels];
                for (int p = 0; p < panels; ++p) {
                    const std::byte* bytes = panel[p] + weights + quad * 4 * panel_width;
                    prefetch_weights<rows>(bytes);
                    quads[p] = simd::load_quads(bytes);
                }
                for (int r = 0; r < rows; ++r) {
                    const simd::ByteInputs x = simd::load_byte_inputs(
                        input_quad<Int8>(inputs, row + static_cast<std::size_t>(r), group, quad));
                    for (int p = 0; p < panels; ++p) products[r][p] = simd::add_products(products[r][p], quads[p], x);
                }
            }
            for (int p = 0; p < panels; ++p) {
                const Scales scales = load_scales(panel[p], group);
                for (int r = 0; r < rows; ++r) {
                    const std::size_t at = (row + static_cast<std::size_t>(r)) * inputs.groups + group;
                    sums[r][p] = add_group(sums[r][p], products[r][p], scales, inputs, at);
                }
            }
        }
    }

    struct Scales {
        Floats scale;
    };
    static Scales load_scales(const std::byte* panel, std::size_t group) {
        return {simd::load(reinterpret_cast<const Half*>(panel) + group * panel_width)};
    }

    // at: the place of the row's group in `inputs`.
    static Floats add_group(const Floats& sum, const Integers& products, const Scales& scales,
                            const QuantizedRows& inputs, std::size_t at) {
        const Floats both = simd::multiply(scales.scale, simd::broadcast(inputs.scales[at]));
        return simd::multiply_add(simd::to_floats(products), both, sum);
    }
};

// One group per step. weight = scale * (0..15) + minimum, so a group contributes
// scale * input_scale * (the integer sum) + minimum * input_scale * (the sum of its inputs).
struct Int4 {
    static constexpr int tile_rows = simd::wide_tile_rows, panels_of_one_row = simd::integer_panels;
    static constexpr int panels_of_two_rows = (simd::integer_panels + 1) / 2;
    static constexpr std::size_t step_bytes = panel_width * group_size / 2;
    static constexpr std::size_t quad_bytes = sizeof(simd::NibbleQuad);

    static QuadTotals store_quads(std::int8_t* p, const Floats& x) { return simd::store_nibble_quads(p, x); }

    static std::size_t steps(const Product& product) { return groups_of(product.n_in); }
    static std::size_t panel_bytes(const Product& product) {
        return scales_bytes(2 * steps(product)) + steps(product) * step_bytes;
    }

    template <int rows, int panels>
    static void add(Floats (&sums)[rows][panels], const Product& product, std::size_t row,
                    const std::byte* const (&panel)[panels], std::size_t begin, std::size_t end) {
        const QuantizedRows& inputs = product.quantized;
        for (std::size_t group = begin; group < end; ++group) {
            const std::size_t weights = scales_bytes(2 * inputs.groups) + group * step_bytes;
            Integers products[rows][panels] = {};
            for (std::size_t first_quad = 0; first_quad < group_quads; first_quad += simd::nibble_quads) {
                simd::NibbleSums narrow[rows][panels] = {};
PELLUCID_NO_UNROLLING
                for (std::size_t quad = first_quad; quad < first_quad + simd::nibble_quads; quad += 2) {
                    simd::Nibbles first[panels], second[panels];
                    for (int p = 0; p < panels; ++p) {
                        const std::byte* bytes = panel[p] + weights + quad * 2 * panel_width;
                        prefetch_weights<rows>(bytes);
                        simd::load_nibbles(bytes, first[p], second[p]);
                    }
                    for (int r = 0; r < rows; ++r) {
                        const std::int8_t* inputs_at =
                            input_quad<Int4>(inputs, row + static_cast<std::size_t>(r), group, quad);
                        const simd::NibbleInputs x = simd::load_nibble_inputs(inputs_at);
                        const simd::NibbleInputs y = simd::load_nibble_inputs(inputs_at + quad_bytes);
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
                const Scales scales = load_scales(panel[p], group);
                for (int r = 0; r < rows; ++r) {
                    const std::size_t at = (row + static_cast<std::size_t>(r)) * inputs.groups + group;
                    sums[r][p] = add_group(sums[r][p], products[r][p], scales, inputs, at);
                }
            }
        }
    }

    struct Scales {
        Floats scale, minimum;
    };
    static Scales load_scales(const std::byte* panel, std::size_t group) {
        const Half* scales = reinterpret_cast<const Half*>(panel) + 2 * group * panel_width;
        return {simd::load(scales), simd::load(scales + panel_width)};
    }

    // at: the place of the row's group in `inputs`.
    static Floats add_group(const Floats& sum, const Integers& products, const Scales& scales,
                            const QuantizedRows& inputs, std::size_t at) {
        const float input_scale = inputs.scales[at];
        const Floats both = simd::multiply(scales.scale, simd::broadcast(input_scale));
        const Floats input_sum = simd::broadcast(input_scale * static_cast<float>(inputs.sums[at]));
        const Floats scaled = simd::multiply_add(simd::to_floats(products), both, sum);
        return simd::multiply_add(scales.minimum, input_sum, scaled);
    }
};

// Applies bias, activation and `accumulate` to one row's 16 sums, and stores them.
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

// With one or two rows, registers suffice for several panels. Their independent sums hide the multiply-add latency.
template <class Format, int rows, int panels>
inline void few_rows(const Product& product, std::size_t first, std::size_t last) {
    std::size_t panel = first;
    for (; panel + panels <= last; panel += panels) whole_tile<Format, rows, panels>(product, 0, panel);
    for (; panel < last; ++panel) whole_tile<Format, rows, 1>(product, 0, panel);
}

// Continues the sums of rows [row, row + count) of a tile over steps [begin, end); count is at most `rows`.
template <class Format, int rows>
inline void partial_tile(const Product& product, std::size_t row, std::size_t count, const std::byte* panel,
                         std::size_t begin, std::size_t end, float* partial) {
    if constexpr (rows > 1) {
        if (count < static_cast<std::size_t>(rows)) {
            partial_tile<Format, rows - 1>(product, row, count, panel, begin, end, partial);
            return;
        }
    }
    (void)count;
    Floats sums[rows][1];
    for (int r = 0; r < rows; ++r) sums[r][0] = simd::load(partial + static_cast<std::size_t>(r) * panel_width);
    const std::byte* const one_panel[1] = {panel};
    Format::template add<rows, 1>(sums, product, row, one_panel, begin, end);
    for (int r = 0; r < rows; ++r) simd::store(partial + static_cast<std::size_t>(r) * panel_width, sums[r][0]);
}

// Rows [first_row, last_row), at most rows_of_block, of panels [first, last), at most panels_of_block.
template <class Format>
void multiply_block(const Product& product, std::size_t first, std::size_t last, std::size_t first_row,
                    std::size_t last_row, float* partial_sums) {
    constexpr auto tile = static_cast<std::size_t>(Format::tile_rows);
    constexpr std::size_t block_steps = block_bytes / Format::step_bytes;
    const std::size_t rows = last_row - first_row, steps = Format::steps(product);
    for (std::size_t i = 0; i < (last - first) * rows * panel_width; ++i) partial_sums[i] = 0.0f;
    for (std::size_t begin = 0; begin < steps; begin += block_steps) {
        const std::size_t end = begin + block_steps < steps ? begin + block_steps : steps;
        for (std::size_t panel = first; panel < last; ++panel) {
            const std::byte* weights = product.weights + panel * Format::panel_bytes(product);
            float* partial = partial_sums + (panel - first) * rows * panel_width;
            for (std::size_t row = first_row; row < last_row; row += tile, partial += tile * panel_width) {
                const std::size_t count = last_row - row < tile ? last_row - row : tile;
                partial_tile<Format, Format::tile_rows>(product, row, count, weights, begin, end, partial);
            }
        }
    }
    for (std::size_t panel = first; panel < last; ++panel) {
        for (std::size_t row = first_row; row < last_row; ++row, partial_sums += panel_width) {
            finish(product, row, panel, simd::load(partial_sums));
        }
    }
}

template <class Format>
void multiply_panels(const Product& product, std::size_t first, std::size_t last, float* partial_sums) {
    if (product.rows == 1) return few_rows<Format, 1, Format::panels_of_one_row>(product, first, last);
    if (product.rows == 2) return few_rows<Format, 2, Format::panels_of_two_rows>(product, first, last);
    for (std::size_t row = 0; row < product.rows; row += rows_of_block) {
        const std::size_t end = row + rows_of_block < product.rows ? row + rows_of_block : product.rows;
        for (std::size_t panel = first; panel < last; panel += panels_of_block) {
            const std::size_t past = panel + panels_of_block < last ? panel + panels_of_block : last;
            multiply_block<Format>(product, panel, past, row, end, partial_sums);
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

}  // namespace
}  // namespace pellucid
