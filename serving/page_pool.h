// PagePool: which pages of the paged cache are used, shared and reusable. A page whose tokens are complete may be published under the
// identity of its last token; requests with the same prefix then share it. Pages that nobody uses keep their contents until they are
// needed for something else, least recently used first.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace fovea::serving {

class PagePool {
 public:
  explicit PagePool(std::int32_t num_pages);

  std::int32_t num_pages() const { return static_cast<std::int32_t>(pages_.size()) - 1; }
  /// Pages take() can give: never used, or used by nobody now.
  std::int32_t num_available() const { return static_cast<std::int32_t>(free_.size()) + num_idle_; }
  /// Of them, those whose contents a prefix could still use.
  std::int32_t num_idle() const { return num_idle_; }
  /// Pages used by one request or more.
  std::int32_t num_used() const { return num_pages() - num_available(); }
  std::int64_t num_evictions() const { return num_evictions_; }

  /// A page with one user and no key. Evicts the least recently used idle page when no other is left. num_available() must not be 0.
  std::int32_t take();
  /// The page published under `key`, with one user more; nothing when there is none.
  std::optional<std::int32_t> share(std::uint64_t key);
  /// One user less. A page without users becomes idle when it has a key, else free.
  void release(std::int32_t page);
  /// The page's contents are complete and are those of `key`. Does nothing when another page has that key already.
  void publish(std::int32_t page, std::uint64_t key);

  std::int32_t num_users(std::int32_t page) const { return pages_[static_cast<std::size_t>(page)].num_users; }

  /// Throws InternalError when lists, counts and keys contradict each other. Slow: for tests.
  void check() const;

 private:
  struct Page {
    std::int32_t num_users = 0;
    std::int32_t before = 0, after = 0;  // in the ring of idle pages
    bool published = false;
    std::uint64_t key = 0;
  };

  Page& at(std::int32_t page) { return pages_[static_cast<std::size_t>(page)]; }
  void leave_ring(std::int32_t page);
  void join_ring(std::int32_t page);

  std::vector<Page> pages_;  // the last one is the ring's head: after it the least recently used idle page
  std::vector<std::int32_t> free_;
  std::unordered_map<std::uint64_t, std::int32_t> page_of_key_;
  std::int32_t num_idle_ = 0;
  std::int64_t num_evictions_ = 0;
};

}  // namespace fovea::serving
