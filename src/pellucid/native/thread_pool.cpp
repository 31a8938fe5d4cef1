#include "thread_pool.hpp"

#include <algorithm>
#include <chrono>
#include <new>
#include <system_error>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace pellucid {
namespace {

// About the time between two steps, in which the caller chooses a token.
constexpr std::chrono::microseconds spin_time{200};
constexpr int pauses_between_looks = 32;

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
    __asm__ volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(std::size_t threads)
    : generation_(fork_generation()), workers_(std::make_unique<std::vector<std::thread>>()) {
    watch_forks();
    const std::size_t count = std::clamp<std::size_t>(threads, 1, worker_mask);
    workers_->reserve(count - 1);
    try {
        for (std::size_t thread = 1; thread < count; ++thread) {
            workers_->emplace_back([this, thread] { work(thread); });
        }
    } catch (const std::system_error&) {
        // The system limits threads. The pool works with the threads that exist.
    } catch (const std::bad_alloc&) {
        // There is no memory for another thread. The pool works with the threads that exist.
    }
}

ThreadPool::~ThreadPool() {
    if (in_child()) {
        workers_.release();  // leaked: a child can neither join nor detach the parent's threads
        return;
    }
    stopping_.store(true);
    state_.fetch_add(one_loop);
    state_.notify_all();
    for (std::thread& worker : *workers_) worker.join();
}

void ThreadPool::run(const Loop& loop) {
    if (loop.count == 0) return;
    if (loop.count <= loop.block || workers_->empty() || in_child()) {
        loop.call(loop.context, 0, loop.count, 0);
        return;
    }
    const std::lock_guard lock(running_);
    loop_ = loop;
    next_.store(0, std::memory_order_relaxed);
    state_.store(((state_.load(std::memory_order_relaxed) & ~(one_loop - 1)) + one_loop) | open);
    state_.notify_all();

    take_blocks(0, loop);

    state_.fetch_and(~open, std::memory_order_acq_rel);
    Fetcher upcoming(loop.upcoming);
    for (int looks = 0; (state_.load(std::memory_order_acquire) & worker_mask) != 0; ++looks) {
        // A worker that was preempted in the middle of a block may need this thread's core.
        if (looks < 2000) {
            upcoming.fetch_some();
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

void ThreadPool::Fetcher::fetch_some() {
    if (left_.empty()) return;
#if defined(__GNUC__)
    __builtin_prefetch(left_.data());
#endif
    left_ = left_.subspan(std::min<std::size_t>(left_.size(), 64));
}

void ThreadPool::take_blocks(std::size_t thread, const Loop& loop) {
    for (;;) {
        const std::size_t begin = next_.fetch_add(loop.block, std::memory_order_relaxed);
        if (begin >= loop.count) return;
        loop.call(loop.context, begin, std::min(begin + loop.block, loop.count), thread);
    }
}

// Joins the current loop if it is open and this worker has not done it yet. Returns the loop's `upcoming` memory.
std::span<const std::byte> ThreadPool::join_loop(std::size_t thread, std::uint32_t& last_number) {
    std::uint32_t state = state_.load(std::memory_order_acquire);
    while ((state & open) != 0 && state / one_loop != last_number) {
        if (!state_.compare_exchange_weak(state, state + one_worker, std::memory_order_acq_rel)) continue;
        last_number = state / one_loop;
        const Loop loop = loop_;
        take_blocks(thread, loop);
        state_.fetch_sub(one_worker, std::memory_order_acq_rel);
        return loop.upcoming;
    }
    return {};
}

void ThreadPool::work(std::size_t thread) {
    std::uint32_t last_number = 0;
    Fetcher upcoming({});
    while (!stopping_.load(std::memory_order_relaxed)) {
        const auto give_up = std::chrono::steady_clock::now() + spin_time;
        std::uint32_t seen = state_.load(std::memory_order_acquire);
        do {
            for (int i = 0; i < pauses_between_looks; ++i) {
                seen = state_.load(std::memory_order_acquire);
                if (seen / one_loop != last_number) break;
                upcoming.fetch_some();
                pause();
            }
        } while (seen / one_loop == last_number && std::chrono::steady_clock::now() < give_up);
        if (seen / one_loop == last_number) {
            state_.wait(seen);
        } else if ((seen & open) != 0) {
            upcoming = Fetcher(join_loop(thread, last_number));
        } else {
            last_number = seen / one_loop;  // the loop closed before this worker joined
        }
    }
}

}  // namespace pellucid
