#include "runtime.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>

#include "cpu_features.hpp"

namespace pellucid {
namespace {

struct InstructionSet {
    const char* name;
    const KernelTable& (*kernels)();
    std::vector<std::string> needs;
};

// All sets of this build, the best first.
std::vector<InstructionSet> built_sets() {
#if defined(PELLUCID_BUILD_X86)
    const std::vector<std::string> avx512{"avx2",     "fma",      "f16c",     "avx512f",
                                          "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"};
#endif
#if defined(PELLUCID_BUILD_AMX)
    std::vector<std::string> amx = avx512;
    amx.insert(amx.end(), {"amx_tile", "amx_int8"});
#endif
    return {
#if defined(PELLUCID_BUILD_AMX)
        {"amx", amx_kernels, amx},
#endif
#if defined(PELLUCID_BUILD_X86)
        {"avx512_vnni", avx512_kernels, avx512},
        {"avx_vnni", avx_vnni_kernels, {"avx2", "fma", "f16c", "avx_vnni"}},
        {"avx2", avx2_kernels, {"avx2", "fma", "f16c"}},
#endif
#if defined(PELLUCID_BUILD_NEON)
        {"neon", neon_kernels, {"asimd", "asimddp"}},
#endif
        {"portable", portable_kernels, {}},
    };
}

bool runs_here(const InstructionSet& set) {
    const std::vector<std::string> features = cpu_features();
    return std::all_of(set.needs.begin(), set.needs.end(), [&](const std::string& feature) {
        return std::find(features.begin(), features.end(), feature) != features.end();
    });
}

std::string listed(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    return list;
}

}  // namespace

const KernelTable& kernels_named(const std::string& wanted) {
    for (const InstructionSet& set : built_sets()) {
        if (wanted.empty() ? !runs_here(set) : wanted != set.name) continue;
        if (runs_here(set)) return set.kernels();
        throw std::invalid_argument("this processor cannot run the " + wanted + " kernels, which need " +
                                    listed(set.needs) + "; it can run " + listed(instruction_sets()));
    }
    throw std::invalid_argument("there are no " + wanted + " kernels in this build; this processor can run " +
                                listed(instruction_sets()));
}

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const InstructionSet& set : built_sets()) {
        if (runs_here(set)) names.emplace_back(set.name);
    }
    return names;
}

Runtime::Runtime(const std::string& instruction_set, std::size_t threads)
    : kernels_(kernels_named(instruction_set)), pool_(threads) {}

double read_bandwidth(Runtime& runtime, const std::byte* bytes, std::size_t size, int rounds) {
    constexpr std::size_t block = 256 * 1024;
    std::atomic<std::uint32_t> mixed{0};
    double best = 0.0;
    for (int round = 0; round < rounds; ++round) {
        const auto start = std::chrono::steady_clock::now();
        runtime.pool().run(size, block, [&](std::size_t begin, std::size_t end, std::size_t) {
            mixed.fetch_xor(runtime.kernels().read(bytes + begin, (end - begin) / 64 * 64), std::memory_order_relaxed);
        });
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        best = std::max(best, static_cast<double>(size) / took.count());
    }
    return best;
}

}  // namespace pellucid
