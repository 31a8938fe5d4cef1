#include "cpu_features.hpp"

#include <array>
#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#define PELLUCID_X86 1
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace pellucid {
namespace {

#if defined(PELLUCID_X86)

struct Registers {
    std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    Registers r;
#if defined(_MSC_VER)
    std::array<int, 4> out{};
    __cpuid(out.data(), 0);
    if (static_cast<std::uint32_t>(out[0]) < leaf) return r;
    __cpuidex(out.data(), static_cast<int>(leaf), static_cast<int>(subleaf));
    r = {static_cast<std::uint32_t>(out[0]), static_cast<std::uint32_t>(out[1]), static_cast<std::uint32_t>(out[2]),
         static_cast<std::uint32_t>(out[3])};
#else
    __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
    return r;
}

// Which register files the operating system saves on a context switch (XCR0).
std::uint64_t saved_state() {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    std::uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<std::uint64_t>(high) << 32) | low;
#endif
}

// Requests permission to use AMX tiles, for all threads of the process. Linux kills a process that uses them without.
bool may_use_tiles() {
#if defined(__linux__)
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

constexpr bool bit(std::uint32_t word, int index) { return ((word >> index) & 1u) != 0; }

std::vector<std::string> detect() {
    const Registers one = cpuid(1, 0);
    const Registers seven = cpuid(7, 0);
    const Registers seven_one = cpuid(7, 1);
    constexpr int osxsave = 27;
    const std::uint64_t state = bit(one.ecx, osxsave) ? saved_state() : 0;
    const bool avx_state = (state & 0x6) == 0x6;          // XMM and YMM
    const bool avx512_state = (state & 0xe6) == 0xe6;     // and the opmasks and ZMM
    constexpr std::uint64_t tiles = 0x60000;              // tile configuration and data
    const bool amx_state = (state & tiles) == tiles && bit(seven.edx, 24) && may_use_tiles();

    struct Feature {
        const char* name;
        bool present;
    };
    const std::array<Feature, 14> table{{
        {"sse4_2", bit(one.ecx, 20)},
        {"f16c", avx_state && bit(one.ecx, 29)},
        {"fma", avx_state && bit(one.ecx, 12)},
        {"avx2", avx_state && bit(seven.ebx, 5)},
        {"avx_vnni", avx_state && bit(seven_one.eax, 4)},
        {"avx512f", avx512_state && bit(seven.ebx, 16)},
        {"avx512dq", avx512_state && bit(seven.ebx, 17)},
        {"avx512bw", avx512_state && bit(seven.ebx, 30)},
        {"avx512vl", avx512_state && bit(seven.ebx, 31)},
        {"avx512_vnni", avx512_state && bit(seven.ecx, 11)},
        {"avx512_bf16", avx512_state && bit(seven_one.eax, 5)},
        {"amx_tile", amx_state && bit(seven.edx, 24)},
        {"amx_int8", amx_state && bit(seven.edx, 25)},
        {"amx_bf16", amx_state && bit(seven.edx, 22)},
    }};
    std::vector<std::string> found;
    for (const Feature& feature : table) {
        if (feature.present) found.emplace_back(feature.name);
    }
    return found;
}

#elif defined(__aarch64__) && defined(__linux__)

std::vector<std::string> detect() {
    const unsigned long first = getauxval(AT_HWCAP);
    const unsigned long second = getauxval(AT_HWCAP2);
    std::vector<std::string> found;
    if (first & HWCAP_ASIMD) found.emplace_back("asimd");
    if (first & HWCAP_ASIMDHP) found.emplace_back("asimdhp");
    if (first & HWCAP_ASIMDDP) found.emplace_back("asimddp");
#ifdef HWCAP2_I8MM
    if (second & HWCAP2_I8MM) found.emplace_back("i8mm");
#endif
#ifdef HWCAP2_BF16
    if (second & HWCAP2_BF16) found.emplace_back("bf16");
#endif
    (void)second;
    return found;
}

#elif defined(__aarch64__) && defined(__APPLE__)

std::vector<std::string> detect() {
    struct Feature {
        const char* name;
        const char* key;
    };
    constexpr std::array<Feature, 4> table{{
        {"asimdhp", "hw.optional.arm.FEAT_FP16"},
        {"asimddp", "hw.optional.arm.FEAT_DotProd"},
        {"i8mm", "hw.optional.arm.FEAT_I8MM"},
        {"bf16", "hw.optional.arm.FEAT_BF16"},
    }};
    std::vector<std::string> found{"asimd"};
    for (const Feature& feature : table) {
        int present = 0;
        std::size_t size = sizeof(present);
        if (sysctlbyname(feature.key, &present, &size, nullptr, 0) == 0 && present != 0) {
            found.emplace_back(feature.name);
        }
    }
    return found;
}

#else

std::vector<std::string> detect() { return {}; }

#endif

}  // namespace

std::vector<std::string> cpu_features() { return detect(); }

}  // namespace pellucid
