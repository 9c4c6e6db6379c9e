#include "pool.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace msd {
namespace {

inline void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Kernels of one graph follow each other within microseconds; a worker that slept in between would cost as much as a
// small kernel. Longer than this and its core belongs to somebody else (MindSpore's own threads, a data loader).
constexpr auto kHot = std::chrono::microseconds(60);

thread_local bool in_task = false;
thread_local int this_worker = 0;

class Pool {
 public:
  explicit Pool(int count) : count_(count), process_(getpid()) {
    for (int worker = 1; worker < count; ++worker) {
      members_.emplace_back([this, worker] { serve(worker); });
    }
  }

  ~Pool() {
    if (getpid() != process_) {  // a forked child has the objects, not the threads
      for (auto& member : members_) member.detach();
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& member : members_) member.join();
  }

  int count() const { return count_; }
  bool of_this_process() const { return getpid() == process_; }

  void run(int tasks, Task task, void* context) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = task;
      context_ = context;
      tasks_ = tasks;
      next_.store(0);
      busy_.store(count_ - 1);
      generation_.fetch_add(1);
    }
    if (asleep_.load() > 0) wake_.notify_all();
    work(0);
    for (int spins = 0; busy_.load(std::memory_order_acquire) > 0; ++spins) {
      if (spins < 20000) {
        pause_cpu();
      } else {
        std::this_thread::yield();
      }
    }
  }

 private:
  void work(int worker) {
    in_task = true;
    this_worker = worker;
    for (int i = next_.fetch_add(1); i < tasks_; i = next_.fetch_add(1)) task_(context_, i, worker);
    in_task = false;
  }

  void serve(int worker) {
    unsigned seen = 0;
    while (true) {
      const auto until = std::chrono::steady_clock::now() + kHot;
      for (int spins = 0; generation_.load(std::memory_order_acquire) == seen; ++spins) {
        pause_cpu();
        if (spins % 64 == 63 && std::chrono::steady_clock::now() > until) {
          std::unique_lock<std::mutex> lock(mutex_);
          asleep_.fetch_add(1);
          wake_.wait(lock, [&] { return generation_.load() != seen; });
          asleep_.fetch_sub(1);
        }
      }
      seen = generation_.load();
      if (closing_) return;
      work(worker);
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  const int count_;
  const pid_t process_;
  std::vector<std::thread> members_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned> generation_{0};
  std::atomic<int> next_{0}, busy_{0}, asleep_{0};
  Task task_ = nullptr;
  void* context_ = nullptr;
  int tasks_ = 0;
  bool closing_ = false;
};

int wanted = static_cast<int>(std::thread::hardware_concurrency());
Pool* pool = nullptr;  // never deleted at exit: MindSpore's threads may outlive static objects

}  // namespace

int threads() { return wanted < 1 ? 1 : wanted; }

void set_threads(int count) {
  wanted = count < 1 ? 1 : count;
  if (pool != nullptr && pool->count() != wanted) {
    delete pool;
    pool = nullptr;
  }
}

bool inside_task() { return in_task; }

void run(int count, Task task, void* context) {
  if (in_task || count == 1 || threads() == 1) {
    const bool before = in_task;
    const int worker = in_task ? this_worker : 0;
    in_task = true;
    for (int i = 0; i < count; ++i) task(context, i, worker);
    in_task = before;
    return;
  }
  if (pool == nullptr || !pool->of_this_process()) pool = new Pool(threads());  // after a fork the old one is lost
  pool->run(count, task, context);
}

}  // namespace msd
