// Reports every instruction set as present, for the test that emulates them.

#include "cpu_features.hpp"

namespace pellucid {

std::vector<std::string> cpu_features() {
    return {"f16c",     "fma",      "avx2",        "avx_vnni", "avx512f", "avx512dq",
            "avx512bw", "avx512vl", "avx512_vnni", "amx_tile", "amx_int8"};
}

}  // namespace pellucid
