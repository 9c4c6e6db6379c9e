// Threads for the kernels: they wait for work, hot for a moment and then asleep.
#pragma once

namespace msd {

// A task: which one, and which worker (0 ... threads - 1) runs it, for scratch memory of its own.
using Task = void (*)(void* context, int task, int worker);

// How many workers there are, the caller included. Never changes the result of a kernel: work is cut by size alone.
int threads();
void set_threads(int count);

// Runs tasks 0 ... count - 1 and returns when all are done. Called from within a task it runs them one by one.
void run(int count, Task task, void* context);

bool inside_task();

template <class F>
inline void parallel(int count, F&& body) {
  run(count, [](void* context, int task, int worker) { (*static_cast<F*>(context))(task, worker); }, &body);
}

}  // namespace msd
