#define PELLUCID_AVX_VNNI 1
#include "simd_avx2.hpp"

#include "kernels_source.hpp"

namespace pellucid {

const KernelTable& avx_vnni_kernels() {
    static constexpr KernelTable kernels = table("avx_vnni");
    return kernels;
}

}  // namespace pellucid
