#pragma once

#include <string>
#include <vector>

namespace pellucid {

// The instruction-set extensions that this processor has and this operating system enables, in a fixed order. Names are
// those of Linux ("avx2", "avx512_vnni", "amx_int8", "asimddp").
std::vector<std::string> cpu_features();

}  // namespace pellucid
