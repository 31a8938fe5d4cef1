#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels.hpp"

// A vector of 16 lanes in plain C++. It defines the interface that every simd_<set>.hpp provides.
namespace pellucid {
namespace {
namespace simd {

struct Floats {
    float lane[panel_width];
};

struct Integers {
    std::int32_t lane[panel_width];
};

// Signed 8-bit weights, [16 outputs][4 inputs].
struct Quads {
    std::int8_t value[4 * panel_width];
};

// Four consecutive inputs, in memory and in a register, for products with Quads and with Nibbles.
struct ByteQuad {
    std::int8_t value[4];
};
using NibbleQuad = ByteQuad;
using ByteInputs = ByteQuad;
using NibbleInputs = ByteQuad;

// The number of rows per tile of a product, limited by the number of registers. wide_tile_rows is for precisions whose
// weights or intermediate values take more than one register.
inline constexpr int tile_rows = 4;
inline constexpr int wide_tile_rows = 4;

// The number of panels per tile in an integer product with one row, enough to hide the latency of the sums.
inline constexpr int integer_panels = 1;

inline Floats broadcast(float x) {
    Floats r;
    for (float& lane : r.lane) lane = x;
    return r;
}

inline Floats load(const float* p) {
    Floats r;
    std::memcpy(r.lane, p, sizeof(r.lane));
    return r;
}

inline void store(float* p, const Floats& x) { std::memcpy(p, x.lane, sizeof(x.lane)); }

// Loads and stores of the first n lanes only; the others are zero.
inline Floats load_first(const float* p, std::size_t n) {
    Floats r{};
    for (std::size_t i = 0; i < n; ++i) r.lane[i] = p[i];
    return r;
}

inline void store_first(float* p, const Floats& x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) p[i] = x.lane[i];
}

inline float half_to_float(std::uint16_t bits) {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    const std::uint32_t magnitude = bits & 0x7fffu;
    // After the shift the exponent is too small by 127 - 15. Multiplying by 2^112 corrects it, also for subnormals.
    std::uint32_t shifted = magnitude << 13;
    float value;
    std::memcpy(&value, &shifted, sizeof(value));
    value *= 0x1p112f;
    std::uint32_t result;
    std::memcpy(&result, &value, sizeof(result));
    if (magnitude >= 0x7c00u) result |= 0x7f800000u;
    result |= sign;
    std::memcpy(&value, &result, sizeof(value));
    return value;
}

inline std::uint16_t float_to_half(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
    if (bits >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
    if (bits < 0x38800000u) {  // subnormal: adding 0.5 lets the hardware round at the right bit
        float magnitude;
        std::memcpy(&magnitude, &bits, sizeof(magnitude));
        magnitude += 0.5f;
        std::memcpy(&bits, &magnitude, sizeof(bits));
        return static_cast<std::uint16_t>(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + ((bits >> 13) & 1u);  // to nearest, ties to even
    return static_cast<std::uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

inline Floats load(const Half* p) {
    Floats r;
    for (std::size_t i = 0; i < panel_width; ++i) r.lane[i] = half_to_float(p[i].bits);
    return r;
}

inline void store(Half* p, const Floats& x) {
    for (std::size_t i = 0; i < panel_width; ++i) p[i].bits = float_to_half(x.lane[i]);
}

// Loads 16 pairs of bfloat16: `first` gets the first of each pair, `second` the second.
inline void load_pairs(const std::byte* p, Floats& first, Floats& second) {
    for (std::size_t i = 0; i < panel_width; ++i) {
        std::uint32_t pair;
        std::memcpy(&pair, p + 4 * i, sizeof(pair));
        const std::uint32_t low = pair << 16, high = pair & 0xffff0000u;
        std::memcpy(&first.lane[i], &low, sizeof(low));
        std::memcpy(&second.lane[i], &high, sizeof(high));
    }
}

#define PELLUCID_LANEWISE(name, expression)                                      \
    inline Floats name(const Floats& a, const Floats& b) {                       \
        Floats r;                                                                \
        for (std::size_t i = 0; i < panel_width; ++i) {                          \
            const float x = a.lane[i], y = b.lane[i];                            \
            r.lane[i] = expression;                                              \
        }                                                                        \
        return r;                                                                \
    }
PELLUCID_LANEWISE(add, x + y)
PELLUCID_LANEWISE(subtract, x - y)
PELLUCID_LANEWISE(multiply, x * y)
PELLUCID_LANEWISE(divide, x / y)
// If either argument is NaN, the result is the second one, as in the x86 instructions.
PELLUCID_LANEWISE(minimum, x < y ? x : y)
PELLUCID_LANEWISE(maximum, x > y ? x : y)
#undef PELLUCID_LANEWISE

// a * b + c, fused if the processor has the instruction.
inline Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
    Floats r;
    for (std::size_t i = 0; i < panel_width; ++i) r.lane[i] = a.lane[i] * b.lane[i] + c.lane[i];
    return r;
}

inline Floats absolute(const Floats& a) {
    Floats r;
    for (std::size_t i = 0; i < panel_width; ++i) r.lane[i] = a.lane[i] < 0.0f ? -a.lane[i] : a.lane[i];
    return r;
}

// Rounds to the nearest integer, ties to even; |x| < 2^22.
inline Floats round(const Floats& a) {
    constexpr float shift = 0x1.8p23f;
    Floats r;
    for (std::size_t i = 0; i < panel_width; ++i) {
        const float moved = a.lane[i] + shift;
        r.lane[i] = moved - shift;
    }
    return r;
}

// 2^n for integer n in -126..127; some finite number for NaN.
inline Floats power_of_two(const Floats& n) {
    Floats r;
    for (std::size_t i = 0; i < panel_width; ++i) {
        const float whole = n.lane[i] == n.lane[i] ? n.lane[i] : 0.0f;
        const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<std::int32_t>(whole) + 127) << 23;
        std::memcpy(&r.lane[i], &bits, sizeof(bits));
    }
    return r;
}

// Keeps the first n lanes and sets the others to zero.
inline Floats keep_first(const Floats& a, std::size_t n) {
    Floats r{};
    for (std::size_t i = 0; i < panel_width && i < n; ++i) r.lane[i] = a.lane[i];
    return r;
}

// Horizontal reductions, by halves. The order is the same for all instruction sets.
inline float sum(const Floats& a) {
    Floats r = a;
    for (std::size_t half = panel_width / 2; half > 0; half /= 2) {
        for (std::size_t i = 0; i < half; ++i) r.lane[i] += r.lane[i + half];
    }
    return r.lane[0];
}

inline float largest(const Floats& a) {
    float r = a.lane[0];
    for (std::size_t i = 1; i < panel_width; ++i) r = a.lane[i] > r ? a.lane[i] : r;
    return r;
}

// Stores 16 integers in -127..127 as four quads.
inline QuadTotals store_byte_quads(std::int8_t* p, const Floats& x) {
    QuadTotals totals{0, 0};
    for (std::size_t i = 0; i < panel_width; ++i) {
        p[i] = static_cast<std::int8_t>(x.lane[i]);
        totals.sum += p[i];
    }
    return totals;
}

inline QuadTotals store_nibble_quads(std::int8_t* p, const Floats& x) { return store_byte_quads(p, x); }

inline Floats to_floats(const Integers& a) {
    Floats r;
    for (std::size_t i = 0; i < panel_width; ++i) r.lane[i] = static_cast<float>(a.lane[i]);
    return r;
}

inline Quads load_quads(const std::byte* p) {
    Quads r;
    std::memcpy(r.value, p, sizeof(r.value));
    return r;
}

inline ByteInputs load_byte_inputs(const std::int8_t* p) {
    ByteInputs r;
    std::memcpy(r.value, p, sizeof(r.value));
    return r;
}

inline NibbleInputs load_nibble_inputs(const std::int8_t* p) { return load_byte_inputs(p); }

inline Integers broadcast(std::int32_t x) {
    Integers r;
    for (std::int32_t& lane : r.lane) lane = x;
    return r;
}

inline Integers add_products(const Integers& sums, const Quads& weights, const ByteInputs& input) {
    Integers r;
    for (std::size_t i = 0; i < panel_width; ++i) {
        std::int32_t s = sums.lane[i];
        for (std::size_t j = 0; j < 4; ++j) s += weights.value[4 * i + j] * input.value[j];
        r.lane[i] = s;
    }
    return r;
}

// 4-bit weights, 0..15. 64 bytes are 16 outputs by 8 inputs, with the first four inputs in the low nibbles.
using Nibbles = Quads;

inline void load_nibbles(const std::byte* p, Nibbles& first, Nibbles& second) {
    for (std::size_t i = 0; i < 4 * panel_width; ++i) {
        const auto both = static_cast<std::uint8_t>(p[i]);
        first.value[i] = static_cast<std::int8_t>(both & 0x0f);
        second.value[i] = static_cast<std::int8_t>(both >> 4);
    }
}

// A sum of products with nibbles. The type may be 16 bits wide: after at most `nibble_quads` quads the sum is widened.
using NibbleSums = Integers;
inline constexpr std::size_t nibble_quads = 8;

inline NibbleSums add_nibble_products(const NibbleSums& sums, const Nibbles& weights, const NibbleInputs& input) {
    return add_products(sums, weights, input);
}

inline Integers widen_and_add(const Integers& total, const NibbleSums& sums) {
    Integers r;
    for (std::size_t i = 0; i < panel_width; ++i) r.lane[i] = total.lane[i] + sums.lane[i];
    return r;
}

inline std::uint32_t read(const std::byte* p, std::size_t size) {
    std::uint64_t mixed = 0;
    for (std::size_t i = 0; i < size; i += sizeof(mixed)) {
        std::uint64_t word;
        std::memcpy(&word, p + i, sizeof(word));
        mixed ^= word;
    }
    return static_cast<std::uint32_t>(mixed ^ (mixed >> 32));
}

}  // namespace simd
}  // namespace
}  // namespace pellucid
