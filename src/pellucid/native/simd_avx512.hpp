#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels.hpp"

// Sixteen lanes as one AVX-512 register; simd_portable.hpp says what each function means. Needs AVX-512 F, BW, DQ,
// VL and VNNI.
namespace pellucid {
namespace {
namespace simd {

struct Floats {
    __m512 lanes;
};

struct Integers {
    __m512i lanes;
};

struct Quads {
    __m512i lanes;
};

struct ByteInputs {
    __m512i value;
};
using NibbleInputs = ByteInputs;

struct ByteQuad {
    std::int8_t value[4];
};
using NibbleQuad = ByteQuad;

// There are 32 registers, and the sums of a row take one. Twelve independent sums hide the multiply-add latency.
inline constexpr int tile_rows = 12;
inline constexpr int wide_tile_rows = 8;
inline constexpr int integer_panels = 4;

inline Floats broadcast(float x) { return {_mm512_set1_ps(x)}; }

inline Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }

inline void store(float* p, const Floats& x) { _mm512_storeu_ps(p, x.lanes); }

inline __mmask16 first_lanes(std::size_t n) {
    return static_cast<__mmask16>(n >= panel_width ? 0xffffu : (1u << n) - 1u);
}

inline Floats load_first(const float* p, std::size_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }

inline void store_first(float* p, const Floats& x, std::size_t n) {
    _mm512_mask_storeu_ps(p, first_lanes(n), x.lanes);
}

inline Floats load(const Half* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}

inline void store(Half* p, const Floats& x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x.lanes, _MM_FROUND_TO_NEAREST_INT));
}

inline __m512i load_bytes(const std::byte* p) { return _mm512_loadu_si512(p); }

inline void load_pairs(const std::byte* p, Floats& first, Floats& second) {
    const __m512i pairs = load_bytes(p);
    first = {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16))};
    second = {_mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}

inline Floats add(const Floats& a, const Floats& b) { return {_mm512_add_ps(a.lanes, b.lanes)}; }
inline Floats subtract(const Floats& a, const Floats& b) { return {_mm512_sub_ps(a.lanes, b.lanes)}; }
inline Floats multiply(const Floats& a, const Floats& b) { return {_mm512_mul_ps(a.lanes, b.lanes)}; }
inline Floats divide(const Floats& a, const Floats& b) { return {_mm512_div_ps(a.lanes, b.lanes)}; }
inline Floats minimum(const Floats& a, const Floats& b) { return {_mm512_min_ps(a.lanes, b.lanes)}; }
inline Floats maximum(const Floats& a, const Floats& b) { return {_mm512_max_ps(a.lanes, b.lanes)}; }

inline Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
    return {_mm512_fmadd_ps(a.lanes, b.lanes, c.lanes)};
}

inline Floats absolute(const Floats& a) { return {_mm512_abs_ps(a.lanes)}; }

inline Floats round(const Floats& a) {
    return {_mm512_roundscale_ps(a.lanes, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

inline Floats power_of_two(const Floats& n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n.lanes), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
}

inline Floats keep_first(const Floats& a, std::size_t n) {
    return {_mm512_maskz_mov_ps(first_lanes(n), a.lanes)};
}

inline float sum(const Floats& a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.lanes), _mm512_extractf32x8_ps(a.lanes, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

inline float largest(const Floats& a) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a.lanes), _mm512_extractf32x8_ps(a.lanes, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

inline QuadTotals store_byte_quads(std::int8_t* p, const Floats& x) {
    const __m512i whole = _mm512_cvtps_epi32(x.lanes);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(whole));
    const std::int32_t sum = _mm512_reduce_add_epi32(whole);
    return {sum, -128 * sum};
}

inline QuadTotals store_nibble_quads(std::int8_t* p, const Floats& x) { return store_byte_quads(p, x); }

inline Floats to_floats(const Integers& a) { return {_mm512_cvtepi32_ps(a.lanes)}; }

// vpdpbusd multiplies unsigned by signed bytes. 128 is added to the weights, and the accumulator's initial value
// compensates for it.
inline Quads load_quads(const std::byte* p) {
    return {_mm512_xor_si512(load_bytes(p), _mm512_set1_epi8(-128))};
}

inline ByteInputs load_byte_inputs(const std::int8_t* p) {
    std::int32_t four;
    std::memcpy(&four, p, sizeof(four));
    return {_mm512_set1_epi32(four)};
}

inline NibbleInputs load_nibble_inputs(const std::int8_t* p) { return load_byte_inputs(p); }

inline Integers broadcast(std::int32_t x) { return {_mm512_set1_epi32(x)}; }

inline Integers add_products(const Integers& sums, const Quads& weights, const ByteInputs& input) {
    return {_mm512_dpbusd_epi32(sums.lanes, weights.lanes, input.value)};
}

struct Nibbles {
    __m512i lanes;
};

inline void load_nibbles(const std::byte* p, Nibbles& first, Nibbles& second) {
    const __m512i both = load_bytes(p);
    const __m512i mask = _mm512_set1_epi8(0x0f);
    first = {_mm512_and_si512(both, mask)};
    second = {_mm512_and_si512(_mm512_srli_epi16(both, 4), mask)};
}

using NibbleSums = Integers;
inline constexpr std::size_t nibble_quads = 16;

inline NibbleSums add_nibble_products(const NibbleSums& sums, const Nibbles& weights, const NibbleInputs& input) {
    return {_mm512_dpbusd_epi32(sums.lanes, weights.lanes, input.value)};
}

inline Integers widen_and_add(const Integers& total, const NibbleSums& sums) {
    return {_mm512_add_epi32(total.lanes, sums.lanes)};
}

inline std::uint32_t read(const std::byte* p, std::size_t size) {
    __m512i mixed[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    std::size_t i = 0;
    for (; i + 128 <= size; i += 128) {
        for (std::size_t j = 0; j < 2; ++j) mixed[j] = _mm512_xor_si512(mixed[j], load_bytes(p + i + 64 * j));
    }
    if (i < size) mixed[0] = _mm512_xor_si512(mixed[0], load_bytes(p + i));
    return static_cast<std::uint32_t>(_mm512_reduce_or_epi32(_mm512_xor_si512(mixed[0], mixed[1])));
}

}  // namespace simd
}  // namespace
}  // namespace pellucid
