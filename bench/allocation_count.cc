// Replaces malloc and its relatives with counting ones (glibc keeps the originals under __libc_ names), and operator new where that is
// impossible.
#include "bench/allocation_count.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FOVEA_COUNT_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define FOVEA_COUNT_MALLOC 0
#endif
#endif
#if !defined(FOVEA_COUNT_MALLOC)
#if defined(__GLIBC__)
#define FOVEA_COUNT_MALLOC 1
#else
#define FOVEA_COUNT_MALLOC 0
#endif
#endif

namespace {

std::atomic<bool> armed = false;
std::atomic<std::int64_t> allocations = 0;

inline void note_allocation() {
  if (armed.load(std::memory_order_relaxed)) [[unlikely]] {
    allocations.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace

#if FOVEA_COUNT_MALLOC

extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);

void* malloc(std::size_t bytes) {
  note_allocation();
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
  note_allocation();
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
  note_allocation();
  return __libc_realloc(memory, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  note_allocation();
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  note_allocation();
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
  note_allocation();
  *memory = __libc_memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}
}

#else

void* operator new(std::size_t bytes) {
  note_allocation();
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) {
    return memory;
  }
  throw std::bad_alloc();
}
void* operator new[](std::size_t bytes) { return operator new(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  note_allocation();
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void* operator new[](std::size_t bytes, const std::nothrow_t& tag) noexcept { return operator new(bytes, tag); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

#endif

namespace fovea::bench {

AllocationCount::AllocationCount() {
  allocations = 0;
  armed = true;
}
AllocationCount::~AllocationCount() { armed = false; }
std::int64_t AllocationCount::count() const { return allocations; }
bool AllocationCount::sees_malloc() { return FOVEA_COUNT_MALLOC != 0; }

}  // namespace fovea::bench
