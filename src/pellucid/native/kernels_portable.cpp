#include "simd_portable.hpp"

#include "kernels_source.hpp"

namespace pellucid {

const KernelTable& portable_kernels() {
    static constexpr KernelTable kernels = table("portable");
    return kernels;
}

}  // namespace pellucid
