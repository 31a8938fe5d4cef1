#pragma once

#include <string>
#include <vector>

namespace pellucid {

// The instruction-set extensions that this processor has and this operating system lets a program use,
// by the names Linux gives them ("avx2", "avx512_vnni", "amx_int8", "asimddp"), in a fixed order.
std::vector<std::string> cpu_features();

}  // namespace pellucid
