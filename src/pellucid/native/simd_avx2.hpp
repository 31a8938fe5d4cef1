#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels.hpp"

// Sixteen lanes as two AVX2 registers; simd_portable.hpp says what each function means. Needs AVX2, FMA and F16C;
// with PELLUCID_AVX_VNNI also AVX-VNNI.
namespace pellucid {
namespace {
namespace simd {

struct Floats {
    __m256 low, high;
};

struct Integers {
    __m256i low, high;
};

struct Quads {
    __m256i low, high;
};

// There are 16 registers: 12 for the sums of six rows, 2 for weights, 1 for an input.
inline constexpr int tile_rows = 6;
inline constexpr int wide_tile_rows = 4;
#if defined(PELLUCID_AVX_VNNI)
inline constexpr int integer_panels = 2;
#else
inline constexpr int integer_panels = 1;
#endif

inline Floats broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }

inline Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }

inline void store(float* p, const Floats& x) {
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
}

inline __m256i first_lanes(std::size_t n, int offset) {
    const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(offset));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}

inline Floats load_first(const float* p, std::size_t n) {
    if (n >= panel_width) return load(p);
    return {_mm256_maskload_ps(p, first_lanes(n, 0)), _mm256_maskload_ps(p + 8, first_lanes(n, 8))};
}

// A masked store is much slower than a plain one, and is rarely needed.
inline void store_first(float* p, const Floats& x, std::size_t n) {
    if (n >= panel_width) return store(p, x);
    _mm256_maskstore_ps(p, first_lanes(n, 0), x.low);
    _mm256_maskstore_ps(p + 8, first_lanes(n, 8), x.high);
}

inline Floats load(const Half* p) {
    const __m128i* halves = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}

inline void store(Half* p, const Floats& x) {
    __m128i* halves = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(halves, _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
}

inline __m256i load_bytes(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

inline void load_pairs(const std::byte* p, Floats& first, Floats& second) {
    const __m256i low = load_bytes(p), high = load_bytes(p + 32);
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    first = {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
    second = {_mm256_castsi256_ps(_mm256_and_si256(low, upper)), _mm256_castsi256_ps(_mm256_and_si256(high, upper))};
}

inline Floats add(const Floats& a, const Floats& b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}

inline Floats subtract(const Floats& a, const Floats& b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}

inline Floats multiply(const Floats& a, const Floats& b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}

inline Floats divide(const Floats& a, const Floats& b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}

inline Floats minimum(const Floats& a, const Floats& b) {
    return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}

inline Floats maximum(const Floats& a, const Floats& b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}

inline Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

inline Floats absolute(const Floats& a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}

inline Floats round(const Floats& a) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.low, nearest), _mm256_round_ps(a.high, nearest)};
}

inline __m256 power_of_two(__m256 n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

inline Floats power_of_two(const Floats& n) { return {power_of_two(n.low), power_of_two(n.high)}; }

inline Floats keep_first(const Floats& a, std::size_t n) {
    return {_mm256_and_ps(a.low, _mm256_castsi256_ps(first_lanes(n, 0))),
            _mm256_and_ps(a.high, _mm256_castsi256_ps(first_lanes(n, 8)))};
}

inline float sum(const Floats& a) {
    const __m256 eight = _mm256_add_ps(a.low, a.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

inline float largest(const Floats& a) {
    const __m256 eight = _mm256_max_ps(a.low, a.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

inline __m128i to_bytes(const Floats& x) {
    const __m256i low = _mm256_cvtps_epi32(x.low), high = _mm256_cvtps_epi32(x.high);
    // Pack instructions work within 128-bit halves, so the order of the words is 0-3, 8-11, 4-7, 12-15.
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

inline std::int32_t sum_unsigned(__m128i bytes) {
    const __m128i halves = _mm_sad_epu8(bytes, _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_unpackhi_epi64(halves, halves)));
}

inline std::int32_t sum_signed(__m128i bytes) {
    return sum_unsigned(_mm_xor_si128(bytes, _mm_set1_epi8(-128))) - 128 * static_cast<std::int32_t>(panel_width);
}

inline Floats to_floats(const Integers& a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }

inline __m256i broadcast_quad(const std::int8_t* p) {
    std::int32_t four;
    std::memcpy(&four, p, sizeof(four));
    return _mm256_set1_epi32(four);
}

inline Integers broadcast(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }

struct NibbleQuad {
    std::int8_t value[4];
};

struct NibbleInputs {
    __m256i value;
};

inline QuadTotals store_nibble_quads(std::int8_t* p, const Floats& x) {
    const __m128i bytes = to_bytes(x);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
    return {sum_signed(bytes), 0};
}

inline NibbleInputs load_nibble_inputs(const std::int8_t* p) { return {broadcast_quad(p)}; }

struct Nibbles {
    __m256i low, high;
};

inline void load_nibbles(const std::byte* p, Nibbles& first, Nibbles& second) {
    const __m256i low = load_bytes(p), high = load_bytes(p + 32);
    const __m256i mask = _mm256_set1_epi8(0x0f);
    first = {_mm256_and_si256(low, mask), _mm256_and_si256(high, mask)};
    second = {_mm256_and_si256(_mm256_srli_epi16(low, 4), mask), _mm256_and_si256(_mm256_srli_epi16(high, 4), mask)};
}

#if defined(PELLUCID_AVX_VNNI)

// vpdpbusd multiplies unsigned by signed bytes. 128 is added to the weights, and the accumulator's initial value
// compensates for it.
using ByteQuad = NibbleQuad;
using ByteInputs = NibbleInputs;

inline QuadTotals store_byte_quads(std::int8_t* p, const Floats& x) {
    const std::int32_t sum = store_nibble_quads(p, x).sum;
    return {sum, -128 * sum};
}

inline Quads load_quads(const std::byte* p) {
    const __m256i flip = _mm256_set1_epi8(-128);
    return {_mm256_xor_si256(load_bytes(p), flip), _mm256_xor_si256(load_bytes(p + 32), flip)};
}

inline ByteInputs load_byte_inputs(const std::int8_t* p) { return load_nibble_inputs(p); }

inline Integers add_products(const Integers& sums, const Quads& weights, const ByteInputs& input) {
    return {_mm256_dpbusd_avx_epi32(sums.low, weights.low, input.value),
            _mm256_dpbusd_avx_epi32(sums.high, weights.high, input.value)};
}

using NibbleSums = Integers;
inline constexpr std::size_t nibble_quads = 16;

inline NibbleSums add_nibble_products(const NibbleSums& sums, const Nibbles& weights, const NibbleInputs& input) {
    return {_mm256_dpbusd_avx_epi32(sums.low, weights.low, input.value),
            _mm256_dpbusd_avx_epi32(sums.high, weights.high, input.value)};
}

inline Integers widen_and_add(const Integers& total, const NibbleSums& sums) {
    return {_mm256_add_epi32(total.low, sums.low), _mm256_add_epi32(total.high, sums.high)};
}

#else

// vpmaddubsw multiplies unsigned by signed bytes and adds neighbours in 16 bits, with saturation. A quad therefore
// stores its inputs' magnitudes and signs (0 or -1). |x| is multiplied by w ^ sign, which is w for x >= 0 and -w - 1
// for x < 0. The latter is |x| too small, and the accumulator's initial value compensates for it. The sum of two
// products is at most 2 * 127 * 128 = 32,512, so nothing saturates and sums are exact. (vpsignb needs no compensation,
// but competes with vpmaddubsw and vpmaddwd for execution ports. An xor can use twice as many ports.)
struct ByteQuad {
    std::int8_t magnitude[4], sign[4];
};

struct ByteInputs {
    __m256i magnitude, sign;
};

inline QuadTotals store_byte_quads(std::int8_t* p, const Floats& x) {
    const __m128i bytes = to_bytes(x), magnitudes = _mm_abs_epi8(bytes);
    const __m128i signs = _mm_cmpgt_epi8(_mm_setzero_si128(), bytes);
    __m128i* quads = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(quads, _mm_unpacklo_epi32(magnitudes, signs));
    _mm_storeu_si128(quads + 1, _mm_unpackhi_epi32(magnitudes, signs));
    const std::int32_t sum = sum_signed(bytes);
    return {sum, (sum_unsigned(magnitudes) - sum) / 2};
}

inline Quads load_quads(const std::byte* p) { return {load_bytes(p), load_bytes(p + 32)}; }

inline ByteInputs load_byte_inputs(const std::int8_t* p) { return {broadcast_quad(p), broadcast_quad(p + 4)}; }

// Keeps GCC from reassociating the sums, which would spill registers.
inline __m256i in_order(__m256i sum) {
#if defined(__GNUC__)
    asm("" : "+x"(sum));
#endif
    return sum;
}

inline __m256i add_products(__m256i sums, __m256i weights, const ByteInputs& input) {
    const __m256i pairs = _mm256_maddubs_epi16(input.magnitude, _mm256_xor_si256(weights, input.sign));
    return in_order(_mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
}

inline Integers add_products(const Integers& sums, const Quads& weights, const ByteInputs& input) {
    return {add_products(sums.low, weights.low, input), add_products(sums.high, weights.high, input)};
}

// The sum of two products with nibbles is at most 2 * 15 * 127 = 3,810. Eight such sums fit in 16 bits.
struct NibbleSums {
    __m256i low, high;
};
inline constexpr std::size_t nibble_quads = 8;

inline NibbleSums add_nibble_products(const NibbleSums& sums, const Nibbles& weights, const NibbleInputs& input) {
    return {in_order(_mm256_add_epi16(sums.low, _mm256_maddubs_epi16(weights.low, input.value))),
            in_order(_mm256_add_epi16(sums.high, _mm256_maddubs_epi16(weights.high, input.value)))};
}

inline Integers widen_and_add(const Integers& total, const NibbleSums& sums) {
    const __m256i ones = _mm256_set1_epi16(1);
    return {_mm256_add_epi32(total.low, _mm256_madd_epi16(sums.low, ones)),
            _mm256_add_epi32(total.high, _mm256_madd_epi16(sums.high, ones))};
}

#endif

inline std::uint32_t read(const std::byte* p, std::size_t size) {
    __m256i mixed[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    std::size_t i = 0;
    for (; i + 128 <= size; i += 128) {
        for (std::size_t j = 0; j < 4; ++j) mixed[j] = _mm256_xor_si256(mixed[j], load_bytes(p + i + 32 * j));
    }
    for (; i < size; i += 32) mixed[0] = _mm256_xor_si256(mixed[0], load_bytes(p + i));
    const __m256i all = _mm256_xor_si256(_mm256_xor_si256(mixed[0], mixed[1]), _mm256_xor_si256(mixed[2], mixed[3]));
    return static_cast<std::uint32_t>(_mm256_extract_epi32(all, 0) ^ _mm256_extract_epi32(all, 7));
}

}  // namespace simd
}  // namespace
}  // namespace pellucid
