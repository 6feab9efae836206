// The pool against a plain model: random operations, the same answers, nothing lost.
#include "serving/page_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "fovea/error.h"

namespace fovea::serving {
namespace {

TEST(PagePool, SharesKeepsAndEvictsTheLeastRecentlyUsed) {
  PagePool pool(3);
  const std::int32_t a = pool.take(), b = pool.take(), c = pool.take();
  EXPECT_EQ(pool.num_available(), 0);
  pool.publish(a, 100);
  pool.publish(b, 200);
  EXPECT_EQ(pool.share(100), a);
  EXPECT_EQ(pool.num_users(a), 2);
  EXPECT_FALSE(pool.share(300).has_value());
  pool.release(a);
  pool.release(a);
  pool.release(b);
  pool.release(c);
  EXPECT_EQ(pool.num_available(), 3);
  EXPECT_EQ(pool.num_idle(), 2);
  EXPECT_EQ(pool.take(), c);  // free before idle
  EXPECT_EQ(pool.share(100), a);
  pool.release(a);  // now b is the least recently used
  EXPECT_EQ(pool.take(), b);
  EXPECT_EQ(pool.num_evictions(), 1);
  EXPECT_FALSE(pool.share(200).has_value());
  EXPECT_EQ(pool.take(), a);
  EXPECT_FALSE(pool.share(100).has_value());
  EXPECT_THROW(pool.take(), InternalError);
  pool.check();
}

TEST(PagePool, OneKeyOnePage) {
  PagePool pool(2);
  const std::int32_t a = pool.take(), b = pool.take();
  pool.publish(a, 7);
  pool.publish(b, 7);  // computed twice at the same time: stays b's own
  pool.publish(a, 8);  // contents of a page have one identity
  EXPECT_EQ(pool.share(7), a);
  EXPECT_FALSE(pool.share(8).has_value());
  pool.release(b);
  EXPECT_EQ(pool.num_idle(), 0);
  pool.check();
  EXPECT_THROW(pool.release(b), InternalError);
}

/// Reference counts and keys, without lists. Which page is evicted: the one released longest ago.
struct Model {
  std::map<std::int32_t, int> users;
  std::map<std::uint64_t, std::int32_t> page_of_key;
  std::vector<std::int32_t> idle;  // least recently released first
};

TEST(PagePool, RandomOperationsAgainstAModel) {
  for (const int num_pages : {1, 2, 7, 40}) {
    PagePool pool(num_pages);
    Model model;
    std::mt19937 random(static_cast<unsigned>(num_pages));
    std::vector<std::int32_t> held;  // once per user
    const auto key_of = [&](std::int32_t page) {
      return std::find_if(model.page_of_key.begin(), model.page_of_key.end(), [&](const auto& entry) { return entry.second == page; });
    };
    for (int i = 0; i < 4000; ++i) {
      const unsigned choice = random() % 4;
      if (choice == 0 && pool.num_available() > 0) {
        const bool evicts = pool.num_available() == pool.num_idle();
        const std::int32_t page = pool.take();
        EXPECT_EQ(model.users[page], 0);
        if (evicts) {
          EXPECT_EQ(page, model.idle.front());
          model.page_of_key.erase(key_of(page));
          model.idle.erase(model.idle.begin());
        }
        EXPECT_EQ(key_of(page), model.page_of_key.end());
        ++model.users[page];
        held.push_back(page);
      } else if (choice == 1) {
        const std::uint64_t key = random() % 64;
        const auto shared = pool.share(key);
        const auto known = model.page_of_key.find(key);
        ASSERT_EQ(shared.has_value(), known != model.page_of_key.end());
        if (shared) {
          EXPECT_EQ(*shared, known->second);
          std::erase(model.idle, *shared);
          ++model.users[*shared];
          held.push_back(*shared);
        }
      } else if (choice == 2 && !held.empty()) {
        const std::size_t which = random() % held.size();
        const std::int32_t page = held[which];
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
        pool.release(page);
        if (--model.users[page] == 0 && key_of(page) != model.page_of_key.end()) {
          model.idle.push_back(page);
        }
      } else if (choice == 3 && !held.empty()) {
        const std::int32_t page = held[random() % held.size()];
        const std::uint64_t key = random() % 64;
        pool.publish(page, key);
        if (key_of(page) == model.page_of_key.end()) {
          model.page_of_key.try_emplace(key, page);
        }
      }
      ASSERT_EQ(pool.num_idle(), static_cast<std::int32_t>(model.idle.size()));
      ASSERT_NO_THROW(pool.check());
    }
    for (const std::int32_t page : held) {
      pool.release(page);
    }
    EXPECT_EQ(pool.num_available(), num_pages);
  }
}

}  // namespace
}  // namespace fovea::serving
