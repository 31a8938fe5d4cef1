#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"
#include "thread_pool.hpp"

namespace pellucid {

// The instruction sets that this build has kernels for and this processor can run, the best one first.
std::vector<std::string> instruction_sets();

// Returns the kernels of a set in instruction_sets(), or of the best one if the name is empty.
// Throws std::invalid_argument for a set that this build or this processor does not have.
const KernelTable& kernels_named(const std::string& instruction_set);

// The kernels of one instruction set and a thread pool.
class Runtime {
public:
    // instruction_set: as in kernels_named.
    Runtime(const std::string& instruction_set, std::size_t threads);

    const KernelTable& kernels() const { return kernels_; }
    ThreadPool& pool() { return pool_; }

private:
    const KernelTable& kernels_;
    ThreadPool pool_;
};

// Measures memory bandwidth: the bytes per second at which all threads together read a buffer, best of `rounds`.
double read_bandwidth(Runtime& runtime, const std::byte* bytes, std::size_t size, int rounds);

}  // namespace pellucid
