#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

// A process may fork while another of its threads is in a step. The child has no such thread: what that thread locked
// stays locked, and what it was changing stays half changed. So a fork waits for changes of an engine's state, which
// take microseconds, but not for a step; and the child replaces the locks that are held during a step.
namespace pellucid {

// Registers the handlers that the functions below rely on. Does nothing on a system without fork.
void watch_forks();

// How many forks lie between this process and the one that loaded the library.
std::uint32_t fork_generation();

// No thread of this process forks while the lock is held.
std::unique_lock<std::mutex> hold_off_forks();

// A mutex that is free in a forked child, whoever held it in the parent.
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
