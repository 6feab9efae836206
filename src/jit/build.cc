#include "src/jit/build.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "src/support/log.h"

namespace fovea::jit {
namespace {

constexpr std::chrono::seconds kSilence{1};  // a longer wait is explained

/// What the threads of one call share.
struct Progress {
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t next = 0, done = 0;
};

}  // namespace

std::vector<Artefact> get_or_build_all(const Cache& cache, std::span<const BuildRequest> requests, std::string_view what) {
  std::vector<Artefact> artefacts(requests.size());
  std::vector<std::exception_ptr> failures(requests.size());
  Progress progress;
  const auto work = [&] {
    for (;;) {
      std::unique_lock lock(progress.mutex);
      const std::size_t i = progress.next;
      if (i == requests.size()) {
        return;
      }
      ++progress.next;
      lock.unlock();
      try {
        artefacts[i] = cache.get_or_build(requests[i].key, requests[i].program, requests[i].build);
      } catch (...) {
        failures[i] = std::current_exception();
      }
      lock.lock();
      ++progress.done;
      progress.changed.notify_all();
    }
  };

  const auto begin = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  const std::size_t num_threads = std::min<std::size_t>(requests.size(), std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::jthread> threads;
  for (std::size_t t = 0; t < num_threads; ++t) {
    threads.emplace_back(work);
  }
  bool said = false;
  {
    std::unique_lock lock(progress.mutex);
    const auto finished = [&] { return progress.done == requests.size(); };
    if (!progress.changed.wait_for(lock, kSilence, finished)) {
      log_line(fmt::format("compiling {} ({} of {} done)", what, progress.done, requests.size()));
      said = true;
      progress.changed.wait(lock, finished);
    }
  }
  threads.clear();
  for (const std::exception_ptr& failure : failures) {
    if (failure != nullptr) {
      std::rethrow_exception(failure);
    }
  }
  if (said) {
    log_line(fmt::format("compiled {} in {:.1f} s{}", what, seconds(), cache.folder().empty() ? "" : ", kept in " + cache.folder()));
  }
  return artefacts;
}

}  // namespace fovea::jit
