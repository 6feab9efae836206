// Test support: a thread block as loops. Steps of a phase run in a scrambled order, so that one that leans on another shows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace fovea::test {

class SerialBlock {
 public:
  explicit SerialBlock(std::uint64_t seed) : seed_(seed) {}

  template <class Step>
  void each(std::int32_t count, const Step& step) {
    // Of a count: all odd multiples modulo a power of two above it, those below the count.
    std::int64_t span = 1;
    while (span < count) {
      span *= 2;
    }
    const std::int64_t factor = static_cast<std::int64_t>(seed_ % 1000) * 2 + 1, offset = static_cast<std::int64_t>(seed_ / 1000 % 1000);
    for (std::int64_t i = 0; i < span; ++i) {
      const std::int64_t at = (i * factor + offset) % span;
      if (at < count) {
        step(static_cast<std::int32_t>(at));
      }
    }
  }
  template <class Step>
  void once(const Step& step) {
    step();
  }
  void sync() {}
  template <class Step>
  void first(const Step& step) {
    step();
  }
  template <class Step>
  bool any(std::int32_t count, const Step& step) {
    bool found = false;
    each(count, [&](std::int32_t i) { found |= step(i); });
    return found;
  }
  /// write(i, place): places in descending order of key(i), equal keys in the order of i.
  template <class Key, class Write>
  void sort_descending(std::int32_t count, const Key& key, const Write& write) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(count)), places(order.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return key(a) > key(b); });
    for (std::size_t place = 0; place < order.size(); ++place) {
      places[static_cast<std::size_t>(order[place])] = static_cast<std::int32_t>(place);
    }
    each(count, [&](std::int32_t i) { write(i, places[static_cast<std::size_t>(i)]); });
  }
  /// out[i] = value(0) + .. + value(i - 1), out[count] the total. `out` may be where value reads.
  template <class T, class Value>
  T scan(std::int32_t count, T start, const Value& value, T* out) {
    T total = start;
    for (std::int32_t i = 0; i < count; ++i) {
      const T here = value(i);
      out[i] = total;
      total = total + here;
    }
    out[count] = total;
    return total;
  }
  template <class T, class Join>
  void scan_inclusive(std::int32_t count, T* array, const Join& join) {
    for (std::int32_t i = 1; i < count; ++i) {
      array[i] = join(array[i - 1], array[i]);
    }
  }
  template <class T, class Value>
  T sum(std::int32_t count, const Value& value) {
    T total = 0;
    for (std::int32_t i = count; i > 0; --i) {
      total = total + value(i - 1);
    }
    return total;
  }
  template <class T>
  T shared(const T* value) const {
    return *value;
  }
  template <class T>
  void set_bits(T* bits, T set) const {
    *bits |= set;
  }
  void lower(std::int32_t* value, std::int32_t to) const { *value = to < *value ? to : *value; }
  void publish() const {}

 private:
  std::uint64_t seed_;
};

}  // namespace fovea::test
