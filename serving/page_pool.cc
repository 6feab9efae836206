#include "serving/page_pool.h"

#include <fmt/format.h>

#include "fovea/error.h"

namespace fovea::serving {

PagePool::PagePool(std::int32_t num_pages) : pages_(static_cast<std::size_t>(num_pages) + 1) {
  pages_.back().before = pages_.back().after = num_pages;
  for (std::int32_t page = num_pages; page-- > 0;) {
    free_.push_back(page);
  }
}

void PagePool::leave_ring(std::int32_t page) {
  at(at(page).before).after = at(page).after;
  at(at(page).after).before = at(page).before;
  --num_idle_;
}

void PagePool::join_ring(std::int32_t page) {
  const std::int32_t head = num_pages();
  at(page).before = at(head).before;
  at(page).after = head;
  at(at(head).before).after = page;
  at(head).before = page;
  ++num_idle_;
}

std::int32_t PagePool::take() {
  std::int32_t page = num_pages();
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else {
    page = at(page).after;
    if (page == num_pages()) {
      throw InternalError("page pool: a page was taken from an empty pool");
    }
    leave_ring(page);
    page_of_key_.erase(at(page).key);
    ++num_evictions_;
  }
  at(page).published = false;
  at(page).num_users = 1;
  return page;
}

std::optional<std::int32_t> PagePool::share(std::uint64_t key) {
  const auto found = page_of_key_.find(key);
  if (found == page_of_key_.end()) {
    return std::nullopt;
  }
  Page& page = at(found->second);
  if (page.num_users++ == 0) {
    leave_ring(found->second);
  }
  return found->second;
}

void PagePool::release(std::int32_t page) {
  if (at(page).num_users <= 0) {
    throw InternalError(fmt::format("page pool: page {} was released without a user", page));
  }
  if (--at(page).num_users > 0) {
    return;
  }
  if (at(page).published) {
    join_ring(page);
  } else {
    free_.push_back(page);
  }
}

void PagePool::publish(std::int32_t page, std::uint64_t key) {
  if (!at(page).published && page_of_key_.try_emplace(key, page).second) {
    at(page).published = true;
    at(page).key = key;
  }
}

void PagePool::check() const {
  const auto expect = [](bool right, const char* what, std::int64_t a, std::int64_t b) {
    if (!right) {
      throw InternalError(fmt::format("page pool: {} ({}, {})", what, a, b));
    }
  };
  std::int64_t used = 0, published = 0, ring = 0;
  for (std::int32_t page = 0; page < num_pages(); ++page) {
    const Page& p = pages_[static_cast<std::size_t>(page)];
    used += p.num_users > 0 ? 1 : 0;
    if (p.published) {
      ++published;
      const auto found = page_of_key_.find(p.key);
      expect(found != page_of_key_.end() && found->second == page, "a published page is not the page of its key", page, p.num_users);
    }
  }
  for (std::int32_t page = pages_.back().after; page != num_pages(); page = pages_[static_cast<std::size_t>(page)].after) {
    const Page& p = pages_[static_cast<std::size_t>(page)];
    expect(p.num_users == 0 && p.published, "an idle page has users or no key", page, p.num_users);
    ++ring;
    expect(ring <= num_pages(), "the ring of idle pages has no end", page, ring);
  }
  expect(ring == num_idle_, "idle pages are miscounted", ring, num_idle_);
  expect(published == static_cast<std::int64_t>(page_of_key_.size()), "keys without pages", published,
         static_cast<std::int64_t>(page_of_key_.size()));
  expect(used + ring + static_cast<std::int64_t>(free_.size()) == num_pages(), "pages got lost", used, ring);
}

}  // namespace fovea::serving
