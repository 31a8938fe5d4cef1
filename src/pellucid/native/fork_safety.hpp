#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

// A process may fork while another thread is in a step. That thread does not exist in the child: mutexes that it locked
// stay locked, and data that it was changing may be inconsistent. Therefore a fork waits for changes of an engine's
// state, which take microseconds, but not for a step, and the child replaces mutexes that can be locked during a step.
namespace pellucid {

// Registers the fork handlers (pthread_atfork). Does nothing on a system without fork.
void watch_forks();

// The number of forks between the process that loaded the library and this one.
std::uint32_t fork_generation();

// Returns a lock that blocks forks in this process while it is held.
std::unique_lock<std::mutex> hold_off_forks();

// A mutex that is unlocked in a forked child, even if a thread of the parent had locked it.
class ForkSafeMutex {
public:
    ForkSafeMutex();
    ~ForkSafeMutex();
    ForkSafeMutex(const ForkSafeMutex&) = delete;
    ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

    std::unique_lock<std::mutex> lock() { return std::unique_lock(of_this_process()); }
    std::unique_lock<std::mutex> try_lock() { return std::unique_lock(of_this_process(), std::try_to_lock); }

private:
    std::mutex& of_this_process();

    std::unique_ptr<std::mutex> mutex_;
    std::atomic<std::uint32_t> generation_;
};

}  // namespace pellucid
