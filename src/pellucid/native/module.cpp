// The seam between Python and C++: what `pellucid.native` offers, and nothing else.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cpu_features.hpp"

NB_MODULE(_native, module) {
    module.doc() = "Pellucid's compiled half.";
    module.def("cpu_features", &pellucid::cpu_features,
               "The instruction-set extensions this processor has and this system allows, by Linux's names.");
}
