#include "fork_safety.hpp"

#include <system_error>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace pellucid {
namespace {

// Global state, because a fork affects the whole process.
std::mutex forking;
std::atomic<std::uint32_t> generation{0};

}  // namespace

void watch_forks() {
#if !defined(_WIN32)
    static const int failed = pthread_atfork([] { forking.lock(); }, [] { forking.unlock(); },
                                             [] {
                                                 generation.fetch_add(1, std::memory_order_relaxed);
                                                 forking.unlock();
                                             });
    if (failed != 0) throw std::system_error(failed, std::generic_category(), "pthread_atfork");
#endif
}

std::uint32_t fork_generation() { return generation.load(std::memory_order_relaxed); }

std::unique_lock<std::mutex> hold_off_forks() { return std::unique_lock(forking); }

ForkSafeMutex::ForkSafeMutex() : mutex_(std::make_unique<std::mutex>()), generation_(fork_generation()) {}

ForkSafeMutex::~ForkSafeMutex() {
    // A thread of the parent may have locked the mutex. It can be neither unlocked nor destroyed, so it is leaked.
    if (generation_.load(std::memory_order_acquire) != fork_generation()) mutex_.release();
}

std::mutex& ForkSafeMutex::of_this_process() {
    if (generation_.load(std::memory_order_acquire) != fork_generation()) {
        auto fresh = std::make_unique<std::mutex>();
        const auto unforked = hold_off_forks();
        if (generation_.load(std::memory_order_relaxed) != fork_generation()) {
            mutex_.release();  // as in the destructor
            mutex_ = std::move(fresh);
            generation_.store(fork_generation(), std::memory_order_release);
        }
    }
    return *mutex_;
}

}  // namespace pellucid
