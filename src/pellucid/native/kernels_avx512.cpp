#include "simd_avx512.hpp"

#include "kernels_source.hpp"

namespace pellucid {

const KernelTable& avx512_kernels() {
    static constexpr KernelTable kernels = table("avx512_vnni");
    return kernels;
}

}  // namespace pellucid
