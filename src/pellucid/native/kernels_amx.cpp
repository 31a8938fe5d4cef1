#include "simd_avx512.hpp"

#include "kernels_source.hpp"
#include "kernels_tiles.hpp"

namespace pellucid {
namespace {

constexpr KernelTable table_with_tiles(const char* name) {
    KernelTable kernels = table(name);
    kernels.multiply = multiply_in_tiles;
    return kernels;
}

}  // namespace

const KernelTable& amx_kernels() {
    static constexpr KernelTable kernels = table_with_tiles("amx");
    return kernels;
}

}  // namespace pellucid
