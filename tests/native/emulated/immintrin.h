#pragma once

// The AVX-512, AVX-VNNI and AMX intrinsics that the kernels use, in plain C++ after Intel's Intrinsics Guide, so that
// the engine test runs those kernels on a processor with AVX2 only. This header comes before the compiler's own, which
// it includes for everything else.

#include_next <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "tiles.hpp"

namespace emulated {

struct Floats {
    float lane[16];
};

struct Integers {
    std::int32_t lane[16];
};

using Mask = std::uint16_t;

template <class To, class From>
To reinterpret(const From& from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

template <class Vector, class Operation>
Vector each(Operation operation) {
    Vector result;
    for (int i = 0; i < 16; ++i) result.lane[i] = operation(i);
    return result;
}

inline Floats set1_ps(float x) {
    return each<Floats>([&](int) { return x; });
}
inline Integers set1_epi32(int x) {
    return each<Integers>([&](int) { return x; });
}
inline Integers set1_epi8(int x) { return set1_epi32(static_cast<int>(0x01010101u * (static_cast<unsigned>(x) & 0xffu))); }

template <class Vector>
Vector load(const void* p) {
    Vector result;
    std::memcpy(&result, p, sizeof(result));
    return result;
}
inline void store_si512(void* p, const Integers& x) { std::memcpy(p, &x, sizeof(x)); }
inline void storeu_ps(float* p, const Floats& x) { std::memcpy(p, &x, sizeof(x)); }

inline bool in(Mask mask, int lane) { return ((mask >> lane) & 1) != 0; }
inline Floats maskz_loadu_ps(Mask mask, const float* p) {
    return each<Floats>([&](int i) { return in(mask, i) ? p[i] : 0.0f; });
}
inline void mask_storeu_ps(float* p, Mask mask, const Floats& x) {
    for (int i = 0; i < 16; ++i) {
        if (in(mask, i)) p[i] = x.lane[i];
    }
}
inline Floats maskz_mov_ps(Mask mask, const Floats& x) {
    return each<Floats>([&](int i) { return in(mask, i) ? x.lane[i] : 0.0f; });
}

inline Floats add_ps(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline Floats sub_ps(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline Floats mul_ps(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline Floats div_ps(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline Floats min_ps(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Floats max_ps(const Floats& a, const Floats& b) {
    return each<Floats>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Floats fmadd_ps(const Floats& a, const Floats& b, const Floats& c) {
    return each<Floats>([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
inline Floats abs_ps(const Floats& a) {
    return each<Floats>([&](int i) { return std::fabs(a.lane[i]); });
}
inline Floats roundscale_ps(const Floats& a, int) {
    return each<Floats>([&](int i) { return std::nearbyint(a.lane[i]); });
}
inline Integers cvtps_epi32(const Floats& a) {
    return each<Integers>([&](int i) { return static_cast<std::int32_t>(std::nearbyint(a.lane[i])); });
}
inline Floats cvtepi32_ps(const Integers& a) {
    return each<Floats>([&](int i) { return static_cast<float>(a.lane[i]); });
}

inline __m256 half_of(const Floats& a, int half) { return _mm256_loadu_ps(a.lane + 8 * half); }
inline Floats cvtph_ps(__m256i halves) {
    Floats result;
    _mm256_storeu_ps(result.lane, _mm256_cvtph_ps(_mm256_castsi256_si128(halves)));
    _mm256_storeu_ps(result.lane + 8, _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)));
    return result;
}
inline __m256i cvtps_ph(const Floats& a, int) {
    return _mm256_setr_m128i(_mm256_cvtps_ph(half_of(a, 0), 0), _mm256_cvtps_ph(half_of(a, 1), 0));
}
inline __m128i cvtepi32_epi8(const Integers& a) {
    std::int8_t bytes[16];
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<std::int8_t>(a.lane[i]);
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}
inline std::int32_t reduce_add_epi32(const Integers& a) {
    std::int32_t sum = 0;
    for (const std::int32_t lane : a.lane) sum += lane;
    return sum;
}
inline std::int32_t reduce_or_epi32(const Integers& a) {
    std::int32_t all = 0;
    for (const std::int32_t lane : a.lane) all |= lane;
    return all;
}

inline Integers add_epi32(const Integers& a, const Integers& b) {
    return each<Integers>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline Integers and_si512(const Integers& a, const Integers& b) {
    return each<Integers>([&](int i) { return a.lane[i] & b.lane[i]; });
}
inline Integers xor_si512(const Integers& a, const Integers& b) {
    return each<Integers>([&](int i) { return a.lane[i] ^ b.lane[i]; });
}
inline Integers slli_epi32(const Integers& a, int count) {
    return each<Integers>([&](int i) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.lane[i]) << count); });
}
inline Integers srli_epi16(const Integers& a, int count) {
    return each<Integers>([&](int i) {
        const auto both = static_cast<std::uint32_t>(a.lane[i]);
        return static_cast<std::int32_t>(((both & 0xffffu) >> count) | ((both >> (16 + count)) << 16));
    });
}

// Per lane: the sum plus four products of an unsigned byte of a and a signed byte of b.
inline std::int32_t dpbusd(std::int32_t sum, std::int32_t a, std::int32_t b) {
    std::uint8_t unsigned_bytes[4];
    std::int8_t signed_bytes[4];
    std::memcpy(unsigned_bytes, &a, 4);
    std::memcpy(signed_bytes, &b, 4);
    for (int i = 0; i < 4; ++i) sum += unsigned_bytes[i] * signed_bytes[i];
    return sum;
}
inline Integers dpbusd_epi32(const Integers& sums, const Integers& a, const Integers& b) {
    return each<Integers>([&](int i) { return dpbusd(sums.lane[i], a.lane[i], b.lane[i]); });
}
inline __m256i dpbusd_avx_epi32(__m256i sums, __m256i a, __m256i b) {
    std::int32_t s[8], x[8], y[8];
    std::memcpy(s, &sums, 32);
    std::memcpy(x, &a, 32);
    std::memcpy(y, &b, 32);
    for (int i = 0; i < 8; ++i) s[i] = dpbusd(s[i], x[i], y[i]);
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s));
}

}  // namespace emulated

#define __m512 emulated::Floats
#define __m512i emulated::Integers
#define __mmask16 emulated::Mask
#define _mm512_set1_ps emulated::set1_ps
#define _mm512_set1_epi32 emulated::set1_epi32
#define _mm512_set1_epi8 emulated::set1_epi8
#define _mm512_setzero_si512() emulated::set1_epi32(0)
#define _mm512_loadu_ps emulated::load<emulated::Floats>
#define _mm512_loadu_si512 emulated::load<emulated::Integers>
#define _mm512_load_si512 emulated::load<emulated::Integers>
#define _mm512_store_si512 emulated::store_si512
#define _mm512_storeu_ps emulated::storeu_ps
#define _mm512_maskz_loadu_ps emulated::maskz_loadu_ps
#define _mm512_mask_storeu_ps emulated::mask_storeu_ps
#define _mm512_maskz_mov_ps emulated::maskz_mov_ps
#define _mm512_add_ps emulated::add_ps
#define _mm512_sub_ps emulated::sub_ps
#define _mm512_mul_ps emulated::mul_ps
#define _mm512_div_ps emulated::div_ps
#define _mm512_min_ps emulated::min_ps
#define _mm512_max_ps emulated::max_ps
#define _mm512_fmadd_ps emulated::fmadd_ps
#define _mm512_abs_ps emulated::abs_ps
#define _mm512_roundscale_ps emulated::roundscale_ps
#define _mm512_cvtps_epi32 emulated::cvtps_epi32
#define _mm512_cvtepi32_ps emulated::cvtepi32_ps
#define _mm512_cvtph_ps emulated::cvtph_ps
#define _mm512_cvtps_ph emulated::cvtps_ph
#define _mm512_cvtepi32_epi8 emulated::cvtepi32_epi8
#define _mm512_castsi512_ps emulated::reinterpret<emulated::Floats>
#define _mm512_castps512_ps256(a) emulated::half_of(a, 0)
#define _mm512_extractf32x8_ps(a, half) emulated::half_of(a, half)
#define _mm512_reduce_add_epi32 emulated::reduce_add_epi32
#define _mm512_reduce_or_epi32 emulated::reduce_or_epi32
#define _mm512_add_epi32 emulated::add_epi32
#define _mm512_and_si512 emulated::and_si512
#define _mm512_xor_si512 emulated::xor_si512
#define _mm512_slli_epi32 emulated::slli_epi32
#define _mm512_srli_epi16 emulated::srli_epi16
#define _mm512_dpbusd_epi32 emulated::dpbusd_epi32
#define _mm256_dpbusd_avx_epi32 emulated::dpbusd_avx_epi32
