#include "gil.hpp"

#include <atomic>
#include <chrono>
#include <thread>

#include "fork_safety.hpp"

namespace pellucid {
namespace {

// Global state, because an interpreter's exit affects the whole process.
std::atomic<bool> exiting{false};
std::atomic<std::thread::id> exiting_thread{};

// The number of threads that have released the GIL and will acquire it again. A forked child has no such threads but
// inherits the count. The upper half of the word is the fork generation, and a count of another generation means 0.
std::atomic<std::uint64_t> away{0};

constexpr std::uint64_t generation_shift = 32;

std::uint64_t of_generation(std::uint64_t word) { return word >> generation_shift; }

std::uint64_t base() { return static_cast<std::uint64_t>(fork_generation()) << generation_shift; }

void count_away(int change) {
    std::uint64_t word = away.load();
    std::uint64_t counted;
    do {
        const std::uint64_t known = of_generation(word) == fork_generation() ? word : base();
        counted = known + static_cast<std::uint64_t>(change);
    } while (!away.compare_exchange_weak(word, counted));
}

bool none_away() {
    const std::uint64_t word = away.load();
    return of_generation(word) != fork_generation() || word == base();
}

bool must_not_return() { return exiting.load() && exiting_thread.load() != std::this_thread::get_id(); }

[[noreturn]] void leave() {
    count_away(-1);
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace

GilRelease::GilRelease() {
    count_away(+1);
    state_ = PyEval_SaveThread();
    if (must_not_return()) leave();
}

GilRelease::~GilRelease() {
    if (must_not_return()) leave();
    PyEval_RestoreThread(state_);
    count_away(-1);
}

void wait_for_other_threads() {
    exiting_thread = std::this_thread::get_id();
    exiting = true;
    PyThreadState* state = PyEval_SaveThread();
    while (!none_away()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    PyEval_RestoreThread(state);
}

}  // namespace pellucid
