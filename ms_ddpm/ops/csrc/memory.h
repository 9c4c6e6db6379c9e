// Scratch memory, shared by all kernels: they run one at a time.
#pragma once

#include <cstddef>

namespace msd {

// At least `bytes`, aligned to 64, valid until the next call. Throws std::bad_alloc.
void* scratch(size_t bytes);

}  // namespace msd
