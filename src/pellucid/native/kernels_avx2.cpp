#include "simd_avx2.hpp"

#include "kernels_source.hpp"

namespace pellucid {

const KernelTable& avx2_kernels() {
    static constexpr KernelTable kernels = table("avx2");
    return kernels;
}

}  // namespace pellucid
