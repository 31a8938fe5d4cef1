#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"
#include "thread_pool.hpp"

namespace pellucid {

// The instruction sets that this build has kernels for and this processor can run, the best one first.
std::vector<std::string> instruction_sets();

// The kernels for one of instruction_sets(), or for the best where the name is empty.
// Raises std::invalid_argument for one that is unknown or that this processor lacks.
const KernelTable& kernels_named(const std::string& instruction_set);

// What an engine computes with: kernels for one instruction set, and threads.
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

// Bytes per second at which all threads together read a buffer once, the fastest of `rounds` reads.
double read_bandwidth(Runtime& runtime, const std::byte* bytes, std::size_t size, int rounds);

}  // namespace pellucid
