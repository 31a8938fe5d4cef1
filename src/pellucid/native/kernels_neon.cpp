#include "simd_neon.hpp"

#include "kernels_source.hpp"

namespace pellucid {

const KernelTable& neon_kernels() {
    static constexpr KernelTable kernels = table("neon");
    return kernels;
}

}  // namespace pellucid
