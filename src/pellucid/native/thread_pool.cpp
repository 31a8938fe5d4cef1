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

// About as long as the caller needs between two steps, to choose a token.
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
        // The system limits threads; those that were made do the work.
    } catch (const std::bad_alloc&) {
        // The same without memory for another one.
    }
}

ThreadPool::~ThreadPool() {
    if (in_child()) {
        workers_.release();  // the parent's threads, which std::thread can neither join nor forget here
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
        // A worker that was taken off its core in the middle of a block needs ours, if there is no other.
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

// Takes part in the current loop, if it is open and not the one this worker did last, and says what comes after it.
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
            last_number = seen / one_loop;  // over before we came
        }
    }
}

}  // namespace pellucid
