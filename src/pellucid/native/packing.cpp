#include "packing.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "simd_portable.hpp"

namespace pellucid {
namespace {

std::size_t group_count(std::size_t n_in) { return (n_in + group_size - 1) / group_size; }

std::size_t scales_bytes(std::size_t scales) { return (scales * panel_width * sizeof(Half) + 63) / 64 * 64; }

// Rounds a scale to float16, in which it is stored. Weights are quantized with the rounded scale. Near 2^-24, the
// smallest positive float16, the rounding error is large.
float as_stored(float x) { return simd::half_to_float(simd::float_to_half(x)); }

std::uint16_t to_bfloat16(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float from_bfloat16(std::uint16_t half) {
    const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
}

// Rounds to the nearest integer, ties to even, for |x| < 2^22. Compilers vectorize this form.
float nearest(float x) {
    constexpr float shift = 0x1.8p23f;
    return (x + shift) - shift;
}

using Group = std::array<float, group_size>;

// A panel's weights for one group of inputs: one Group per output, padded with zeros.
using Groups = std::array<Group, panel_width>;

struct Bfloat16 {
    std::uint16_t bits;
};

float as_float(float x) { return x; }
float as_float(Half x) { return simd::half_to_float(x.bits); }
float as_float(Bfloat16 x) { return from_bfloat16(x.bits); }

template <class Number>
Groups take_groups_of(const Weights& weights, std::size_t panel, std::size_t group) {
    const std::size_t first_output = panel * panel_width, first_input = group * group_size;
    const std::size_t outputs = std::min(panel_width, weights.n_out - first_output);
    const std::size_t inputs = std::min(group_size, weights.n_in - first_input);
    const Number* data = static_cast<const Number*>(weights.data) + first_output * weights.output_stride +
                         first_input * weights.input_stride;
    Groups groups{};
    if (weights.input_stride == 1) {
        for (std::size_t lane = 0; lane < outputs; ++lane) {
            const Number* row = data + lane * weights.output_stride;
            for (std::size_t i = 0; i < inputs; ++i) groups[lane][i] = as_float(row[i]);
        }
    } else {
        for (std::size_t i = 0; i < inputs; ++i) {
            const Number* column = data + i * weights.input_stride;
            for (std::size_t lane = 0; lane < outputs; ++lane) {
                groups[lane][i] = as_float(column[lane * weights.output_stride]);
            }
        }
    }
    return groups;
}

Groups take_groups(const Weights& weights, std::size_t panel, std::size_t group) {
    switch (weights.type) {
        case WeightType::float16:
            return take_groups_of<Half>(weights, panel, group);
        case WeightType::bfloat16:
            return take_groups_of<Bfloat16>(weights, panel, group);
        case WeightType::float32:
            break;
    }
    return take_groups_of<float>(weights, panel, group);
}

// Compares bit patterns, because compilers vectorize that.
bool finite(const Group& values) {
    std::uint32_t largest = 0;
    for (const float x : values) {
        std::uint32_t bits;
        std::memcpy(&bits, &x, sizeof(bits));
        largest = std::max(largest, bits & 0x7fffffffu);
    }
    return largest < 0x7f800000u;
}

struct EightBits {
    float scale;
    std::array<std::int8_t, group_size> values;
};

EightBits round_to_eight_bits(const Group& weights) {
    float largest = 0.0f;
    for (const float x : weights) largest = std::max(largest, std::fabs(x));
    EightBits rounded{};
    rounded.scale = as_stored(largest / 127.0f);
    if (rounded.scale == 0.0f) return rounded;
    for (std::size_t i = 0; i < group_size; ++i) {
        const float value = std::clamp(nearest(weights[i] / rounded.scale), -127.0f, 127.0f);
        rounded.values[i] = static_cast<std::int8_t>(value);
    }
    return rounded;
}

struct FourBits {
    float scale;
    float minimum;
    std::array<std::uint8_t, group_size> values;
};

struct Grid {
    float scale;
    float minimum;
};

float nearest_step(float x, const Grid& grid) {
    return grid.scale > 0.0f ? std::clamp(nearest((x - grid.minimum) / grid.scale), 0.0f, 15.0f) : 0.0f;
}

float squared_error(const Group& weights, std::size_t n, const Grid& grid) {
    float error = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
        const float difference = grid.minimum + grid.scale * nearest_step(weights[i], grid) - weights[i];
        error += difference * difference;
    }
    return error;
}

// Chooses the grid with the least squared error among 7 candidates, from the full range of the weights to 85% of it.
FourBits round_to_four_bits(const Group& weights, std::size_t n) {
    constexpr int candidates = 7;
    constexpr float step_inwards = 0.025f;
    const auto [lowest, highest] = std::minmax_element(weights.begin(), weights.begin() + static_cast<long>(n));
    const float middle = (*lowest + *highest) / 2, half_range = (*highest - *lowest) / 2;
    constexpr float infinity = std::numeric_limits<float>::infinity();
    Grid best{infinity, infinity};
    float least = infinity;
    for (int i = 0; i < candidates; ++i) {
        const float reach = half_range * (1.0f - step_inwards * static_cast<float>(i));
        const Grid grid{as_stored(2 * reach / 15.0f), as_stored(middle - reach)};
        const float error = squared_error(weights, n, grid);
        if (error < least) {
            least = error;
            best = grid;
        }
    }
    FourBits rounded{best.scale, best.minimum, {}};
    if (least == infinity) return rounded;  // no grid in half precision reaches these weights
    for (std::size_t i = 0; i < n; ++i) {
        rounded.values[i] = static_cast<std::uint8_t>(nearest_step(weights[i], best));
    }
    return rounded;
}

void write_half(std::byte* to, float x) {
    const std::uint16_t bits = simd::float_to_half(x);
    std::memcpy(to, &bits, sizeof(bits));
}

float read_half(const std::byte* from) {
    std::uint16_t bits;
    std::memcpy(&bits, from, sizeof(bits));
    return simd::half_to_float(bits);
}

// The byte offset of element (lane, input) in a panel. For int4, the offset of the byte that contains it.
std::size_t float32_offset(std::size_t lane, std::size_t input) { return (input * panel_width + lane) * sizeof(float); }

std::size_t bfloat16_offset(std::size_t lane, std::size_t input) {
    return ((input / 2 * panel_width + lane) * 2 + input % 2) * sizeof(std::uint16_t);
}

std::size_t int8_offset(std::size_t lane, std::size_t input) {
    return (input / 4 * panel_width + lane) * 4 + input % 4;
}

std::size_t int4_offset(std::size_t lane, std::size_t input) {
    return (input / 8 * panel_width + lane) * 4 + input % 4;
}

std::size_t scale_offset(std::size_t lane, std::size_t row) { return (row * panel_width + lane) * sizeof(Half); }

// Each function packs a group of inputs into a panel and returns true if all packed numbers are finite.
bool pack_float32(const Groups& groups, std::size_t begin, std::size_t inputs, std::byte* panel) {
    for (std::size_t i = 0; i < inputs; ++i) {
        std::array<float, panel_width> step;
        for (std::size_t lane = 0; lane < panel_width; ++lane) step[lane] = groups[lane][i];
        std::memcpy(panel + float32_offset(0, begin + i), step.data(), sizeof(step));
    }
    return std::all_of(groups.begin(), groups.end(), finite);
}

bool pack_bfloat16(const Groups& groups, std::size_t begin, std::size_t inputs, std::byte* panel) {
    std::uint16_t largest = 0;  // a finite float32 may round to infinity
    for (std::size_t i = 0; i < inputs; i += 2) {  // an odd last input is paired with zeros
        std::array<std::uint16_t, 2 * panel_width> step;
        for (std::size_t lane = 0; lane < panel_width; ++lane) {
            for (std::size_t j = 0; j < 2; ++j) {
                const std::uint16_t bits = to_bfloat16(groups[lane][i + j]);
                largest = std::max<std::uint16_t>(largest, bits & 0x7fffu);
                step[2 * lane + j] = bits;
            }
        }
        std::memcpy(panel + bfloat16_offset(0, begin + i), step.data(), sizeof(step));
    }
    return largest < 0x7f80u;
}

bool pack_int8(const Groups& groups, std::size_t group, std::byte* scales, std::byte* bytes) {
    bool all_finite = true;
    for (std::size_t lane = 0; lane < panel_width; ++lane) {
        const EightBits rounded = round_to_eight_bits(groups[lane]);
        all_finite = all_finite && finite(groups[lane]) && std::isfinite(rounded.scale);
        write_half(scales + scale_offset(lane, group), rounded.scale);
        for (std::size_t i = 0; i < group_size; ++i) {
            bytes[int8_offset(lane, group * group_size + i)] = static_cast<std::byte>(rounded.values[i]);
        }
    }
    return all_finite;
}

bool pack_int4(const Groups& groups, std::size_t group, std::size_t inputs, std::byte* scales, std::byte* bytes) {
    bool all_finite = true;
    for (std::size_t lane = 0; lane < panel_width; ++lane) {
        const FourBits rounded = round_to_four_bits(groups[lane], inputs);
        all_finite = all_finite && finite(groups[lane]) && std::isfinite(rounded.scale) &&
                     std::isfinite(rounded.minimum);
        write_half(scales + scale_offset(lane, 2 * group), rounded.scale);
        write_half(scales + scale_offset(lane, 2 * group + 1), rounded.minimum);
        for (std::size_t i = 0; i < group_size; ++i) {
            const int shift = i % 8 < 4 ? 0 : 4;
            bytes[int4_offset(lane, group * group_size + i)] |= static_cast<std::byte>(rounded.values[i] << shift);
        }
    }
    return all_finite;
}

// Packs a panel. Returns false if a weight or its scale is not finite, before or after rounding.
bool pack_panel(Precision precision, const Weights& weights, std::size_t panel, std::byte* packed) {
    bool all_finite = true;
    const std::size_t groups = group_count(weights.n_in);
    if (precision == Precision::int4 || precision == Precision::int8) {
        std::memset(packed, 0, panel_bytes(precision, weights.n_in));
    }
    for (std::size_t group = 0; group < groups; ++group) {
        const Groups values = take_groups(weights, panel, group);
        const std::size_t begin = group * group_size;
        const std::size_t inputs = std::min(group_size, weights.n_in - begin);
        switch (precision) {
            case Precision::float32:
                all_finite = pack_float32(values, begin, inputs, packed) && all_finite;
                break;
            case Precision::bfloat16:
                all_finite = pack_bfloat16(values, begin, inputs, packed) && all_finite;
                break;
            case Precision::int8:
                all_finite = pack_int8(values, group, packed, packed + scales_bytes(groups)) && all_finite;
                break;
            case Precision::int4:
                all_finite = pack_int4(values, group, inputs, packed, packed + scales_bytes(2 * groups)) && all_finite;
                break;
        }
    }
    return all_finite;
}

}  // namespace

std::size_t panel_count(std::size_t n_out) { return (n_out + panel_width - 1) / panel_width; }

std::size_t panel_bytes(Precision precision, std::size_t n_in) {
    const std::size_t groups = group_count(n_in);
    switch (precision) {
        case Precision::float32:
            return n_in * panel_width * sizeof(float);
        case Precision::bfloat16:
            return (n_in + 1) / 2 * 2 * panel_width * sizeof(std::uint16_t);
        case Precision::int8:
            return scales_bytes(groups) + groups * group_size * panel_width;
        case Precision::int4:
            return scales_bytes(2 * groups) + groups * group_size * panel_width / 2;
    }
    return 0;
}

std::size_t matrix_bytes(Precision precision, std::size_t n_out, std::size_t n_in) {
    if (n_out < 1 || n_out > largest_n_out || n_in < 1 || n_in > largest_n_in) {
        throw std::invalid_argument("a matrix of " + std::to_string(n_out) + " by " + std::to_string(n_in) +
                                    " cannot be packed: it has 1 to " + std::to_string(largest_n_out) +
                                    " outputs and 1 to " + std::to_string(largest_n_in) + " inputs");
    }
    return panel_count(n_out) * panel_bytes(precision, n_in);
}

void pack(Precision precision, const Weights& weights, std::span<std::byte> packed, ThreadPool& pool) {
    const std::size_t needed = matrix_bytes(precision, weights.n_out, weights.n_in);
    if (packed.size() != needed) {
        throw std::invalid_argument("the packed weights take " + std::to_string(needed) + " bytes, not " +
                                    std::to_string(packed.size()));
    }
    std::atomic<bool> all_finite{true};
    pool.run(panel_count(weights.n_out), 1, [&](std::size_t begin, std::size_t end, std::size_t) {
        for (std::size_t panel = begin; panel < end; ++panel) {
            std::byte* to = packed.data() + panel * panel_bytes(precision, weights.n_in);
            if (!pack_panel(precision, weights, panel, to)) all_finite = false;
        }
    });
    if (!all_finite) throw std::invalid_argument("a weight is infinite, not a number, or too large");
}

void unpack_row(Precision precision, std::span<const std::byte> packed, std::size_t n_in, std::size_t output,
                std::span<float> row) {
    const std::size_t lane = output % panel_width, groups = group_count(n_in);
    const std::byte* panel = packed.data() + output / panel_width * panel_bytes(precision, n_in);
    for (std::size_t i = 0; i < n_in; ++i) {
        switch (precision) {
            case Precision::float32:
                std::memcpy(&row[i], panel + float32_offset(lane, i), sizeof(float));
                break;
            case Precision::bfloat16: {
                std::uint16_t bits;
                std::memcpy(&bits, panel + bfloat16_offset(lane, i), sizeof(bits));
                row[i] = from_bfloat16(bits);
                break;
            }
            case Precision::int8: {
                const float scale = read_half(panel + scale_offset(lane, i / group_size));
                const auto value = static_cast<std::int8_t>(panel[scales_bytes(groups) + int8_offset(lane, i)]);
                row[i] = scale * static_cast<float>(value);
                break;
            }
            case Precision::int4: {
                const float scale = read_half(panel + scale_offset(lane, 2 * (i / group_size)));
                const float minimum = read_half(panel + scale_offset(lane, 2 * (i / group_size) + 1));
                const std::byte both = panel[scales_bytes(2 * groups) + int4_offset(lane, i)];
                const std::byte value = i % 8 < 4 ? both & std::byte{0x0f} : both >> 4;
                row[i] = minimum + scale * static_cast<float>(value);
                break;
            }
        }
    }
}

}  // namespace pellucid
