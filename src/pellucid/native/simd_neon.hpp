#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels.hpp"

// Sixteen lanes as four NEON registers; simd_portable.hpp says what each function means. Needs the dot-product
// extension (asimddp).
namespace pellucid {
namespace {
namespace simd {

struct Floats {
    float32x4_t part[4];
};

struct Integers {
    int32x4_t part[4];
};

struct Quads {
    int8x16_t part[4];
};

struct ByteInputs {
    int8x16_t value;
};
using NibbleInputs = ByteInputs;

struct ByteQuad {
    std::int8_t value[4];
};
using NibbleQuad = ByteQuad;

// There are 32 registers: 20 for the sums of five rows, 4 for weights.
inline constexpr int tile_rows = 5;
inline constexpr int wide_tile_rows = 4;
inline constexpr int integer_panels = 2;

// Applies an operation to each of the four registers.
template <class Result, class Operation>
inline Result each(Operation operation) {
    return {{operation(0), operation(1), operation(2), operation(3)}};
}

inline Floats broadcast(float x) {
    return each<Floats>([&](int) { return vdupq_n_f32(x); });
}

inline Floats load(const float* p) {
    return each<Floats>([&](int i) { return vld1q_f32(p + 4 * i); });
}

inline void store(float* p, const Floats& x) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.part[i]);
}

inline Floats load_first(const float* p, std::size_t n) {
    float lanes[panel_width] = {};
    std::memcpy(lanes, p, (n < panel_width ? n : panel_width) * sizeof(float));
    return load(lanes);
}

inline void store_first(float* p, const Floats& x, std::size_t n) {
    if (n >= panel_width) return store(p, x);
    float lanes[panel_width];
    store(lanes, x);
    std::memcpy(p, lanes, n * sizeof(float));
}

inline Floats load(const Half* p) {
    const std::uint16_t* bits = &p->bits;
    return each<Floats>([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(bits + 4 * i))); });
}

inline void store(Half* p, const Floats& x) {
    std::uint16_t* bits = &p->bits;
    for (int i = 0; i < 4; ++i) vst1_u16(bits + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.part[i])));
}

inline void load_pairs(const std::byte* p, Floats& first, Floats& second) {
    const std::uint8_t* bytes = reinterpret_cast<const std::uint8_t*>(p);
    for (int i = 0; i < 4; ++i) {
        const uint32x4_t pairs = vreinterpretq_u32_u8(vld1q_u8(bytes + 16 * i));
        first.part[i] = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
        second.part[i] = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
    }
}

inline Floats add(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return vaddq_f32(a.part[i], b.part[i]); });
}

inline Floats subtract(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return vsubq_f32(a.part[i], b.part[i]); });
}

inline Floats multiply(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return vmulq_f32(a.part[i], b.part[i]); });
}

inline Floats divide(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return vdivq_f32(a.part[i], b.part[i]); });
}

// Compares and selects, because vminq and vmaxq propagate a NaN from either argument.
inline Floats minimum(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return vbslq_f32(vcltq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
}

inline Floats maximum(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
}

inline Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
    return each<Floats>([&](int i) { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); });
}

inline Floats absolute(const Floats& a) {
    return each<Floats>([&](int i) { return vabsq_f32(a.part[i]); });
}

inline Floats round(const Floats& a) {
    return each<Floats>([&](int i) { return vrndnq_f32(a.part[i]); });
}

inline Floats power_of_two(const Floats& n) {
    return each<Floats>([&](int i) {
        const int32x4_t exponent = vaddq_s32(vcvtnq_s32_f32(n.part[i]), vdupq_n_s32(127));
        return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
    });
}

inline Floats keep_first(const Floats& a, std::size_t n) {
    const std::int32_t numbers[4] = {0, 1, 2, 3};
    const int32x4_t lane = vld1q_s32(numbers);
    return each<Floats>([&](int i) {
        const uint32x4_t kept = vcltq_s32(lane, vdupq_n_s32(static_cast<std::int32_t>(n) - 4 * i));
        return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.part[i]), kept));
    });
}

inline float sum(const Floats& a) {
    const float32x4_t four = vaddq_f32(vaddq_f32(a.part[0], a.part[2]), vaddq_f32(a.part[1], a.part[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

inline float largest(const Floats& a) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.part[0], a.part[1]), vmaxq_f32(a.part[2], a.part[3])));
}

inline QuadTotals store_byte_quads(std::int8_t* p, const Floats& x) {
    const Integers whole = each<Integers>([&](int i) { return vcvtnq_s32_f32(x.part[i]); });
    const int16x8_t low = vcombine_s16(vqmovn_s32(whole.part[0]), vqmovn_s32(whole.part[1]));
    const int16x8_t high = vcombine_s16(vqmovn_s32(whole.part[2]), vqmovn_s32(whole.part[3]));
    vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
    const int32x4_t first = vaddq_s32(whole.part[0], whole.part[1]);
    return {vaddvq_s32(vaddq_s32(first, vaddq_s32(whole.part[2], whole.part[3]))), 0};
}

inline QuadTotals store_nibble_quads(std::int8_t* p, const Floats& x) { return store_byte_quads(p, x); }

inline Floats to_floats(const Integers& a) {
    return each<Floats>([&](int i) { return vcvtq_f32_s32(a.part[i]); });
}

inline Quads load_quads(const std::byte* p) {
    const std::int8_t* bytes = reinterpret_cast<const std::int8_t*>(p);
    return each<Quads>([&](int i) { return vld1q_s8(bytes + 16 * i); });
}

inline ByteInputs load_byte_inputs(const std::int8_t* p) {
    std::int32_t four;
    std::memcpy(&four, p, sizeof(four));
    return {vreinterpretq_s8_s32(vdupq_n_s32(four))};
}

inline NibbleInputs load_nibble_inputs(const std::int8_t* p) { return load_byte_inputs(p); }

inline Integers broadcast(std::int32_t x) {
    return each<Integers>([&](int) { return vdupq_n_s32(x); });
}

inline Integers add_products(const Integers& sums, const Quads& weights, const ByteInputs& input) {
    return each<Integers>([&](int i) { return vdotq_s32(sums.part[i], weights.part[i], input.value); });
}

using Nibbles = Quads;

inline void load_nibbles(const std::byte* p, Nibbles& first, Nibbles& second) {
    const std::uint8_t* bytes = reinterpret_cast<const std::uint8_t*>(p);
    for (int i = 0; i < 4; ++i) {
        const uint8x16_t both = vld1q_u8(bytes + 16 * i);
        first.part[i] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(0x0f)));
        second.part[i] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
    }
}

using NibbleSums = Integers;
inline constexpr std::size_t nibble_quads = 16;

inline NibbleSums add_nibble_products(const NibbleSums& sums, const Nibbles& weights, const NibbleInputs& input) {
    return add_products(sums, weights, input);
}

inline Integers widen_and_add(const Integers& total, const NibbleSums& sums) {
    return each<Integers>([&](int i) { return vaddq_s32(total.part[i], sums.part[i]); });
}

inline std::uint32_t read(const std::byte* p, std::size_t size) {
    const std::uint8_t* bytes = reinterpret_cast<const std::uint8_t*>(p);
    uint8x16_t mixed[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
    for (std::size_t i = 0; i < size; i += 64) {
        for (std::size_t j = 0; j < 4; ++j) mixed[j] = veorq_u8(mixed[j], vld1q_u8(bytes + i + 16 * j));
    }
    return vaddvq_u8(veorq_u8(veorq_u8(mixed[0], mixed[1]), veorq_u8(mixed[2], mixed[3])));
}

}  // namespace simd
}  // namespace
}  // namespace pellucid
