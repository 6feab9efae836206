// Properties of the picture: it fits its width, bars are as long as the work, every letter stands for somebody.
#include "cli/plan_picture.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "bench/random.h"
#include "cli/terminal.h"

namespace fovea::cli {
namespace {

bench::Workload workload_of(std::int32_t num_requests) {
  bench::Workload workload;
  workload.spec.formats = {KvFormat::paged(16)};
  workload.requests.assign(static_cast<std::size_t>(num_requests), {.qo_len = 1, .kv_len = 1000});
  return workload;
}

PlanView random_plan(bench::Random& random, std::int32_t num_requests, std::int32_t num_workers, bool by_ticket) {
  PlanView view{.num_workers = num_workers, .num_requests = num_requests};
  for (std::int32_t i = 0; i < num_requests; ++i) {
    const auto begin = static_cast<std::int32_t>(random.between(0, 500));
    view.work.push_back({.worker = by_ticket ? -1 : static_cast<std::int32_t>(random.between(0, num_workers - 1)),
                         .format = 0,
                         .row_group = i,
                         .kv_head = 0,
                         .row_begin = 0,
                         .row_end = 4,
                         .col_begin = begin,
                         .col_end = begin + static_cast<std::int32_t>(random.between(0, 5000)),
                         .partial_slot = static_cast<std::int32_t>(random.between(-1, 1))});
  }
  return view;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

TEST(PlanPicture, FitsItsWidthWhateverThePlan) {
  bench::Random random(1);
  for (int i = 0; i < 200; ++i) {
    const auto requests = static_cast<std::int32_t>(random.between(1, 80));
    const auto workers = static_cast<std::int32_t>(random.between(1, 300));
    const PictureStyle style{.columns = static_cast<int>(random.between(72, 180)), .max_rows = static_cast<int>(random.between(1, 40))};
    const std::string text = draw_plan(workload_of(requests), random_plan(random, requests, workers, i % 2 == 0), style);
    for (const std::string& line : lines_of(text)) {
      EXPECT_LE(columns_of(line), style.columns) << line;
    }
  }
}

TEST(PlanPicture, ColourChangesNothingButColour) {
  bench::Random random(2);
  const PlanView view = random_plan(random, 12, 5, false);
  const std::string plain = draw_plan(workload_of(12), view, {.columns = 90});
  std::string coloured = draw_plan(workload_of(12), view, {.columns = 90, .colour = true});
  EXPECT_NE(coloured.find("\x1b["), std::string::npos);
  for (std::size_t at = coloured.find('\x1b'); at != std::string::npos; at = coloured.find('\x1b')) {
    coloured.erase(at, coloured.find('m', at) + 1 - at);
  }
  const std::vector<std::string> a = lines_of(plain);
  const std::vector<std::string> b = lines_of(coloured);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(columns_of(a[i]), columns_of(b[i]));
  }
}

std::string repeated(std::string_view text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) {
    result += text;
  }
  return result;
}

TEST(PlanPicture, CapitalsFinaliseAndSmallLettersArePartial) {
  PlanView view{.num_workers = 2, .num_requests = 2};
  const auto add = [&](std::int32_t worker, std::int32_t request, std::int32_t tokens, std::int32_t slot) {
    view.work.push_back({.worker = worker,
                         .format = 0,
                         .row_group = request,
                         .kv_head = 0,
                         .row_begin = 0,
                         .row_end = 1,
                         .col_begin = 0,
                         .col_end = tokens,
                         .partial_slot = slot});
  };
  add(0, 0, 500, -1);
  add(0, 1, 500, 0);
  add(1, 1, 500, 1);
  const std::vector<std::string> lines = lines_of(draw_plan(workload_of(2), view, {.columns = 72}));
  EXPECT_EQ(lines[0], fmt::format("   0 A{}b{} 1,000", repeated("━", 27), repeated("╌", 27)));
  EXPECT_EQ(lines[1], fmt::format("   1 b{}{}   500", repeated("╌", 27), repeated(" ", 28)));
  EXPECT_DOUBLE_EQ(imbalance_of(view), 1000 / 750.0);
}

TEST(PlanPicture, NoWorkSaysSo) {
  const PlanView view{.num_workers = 3, .num_requests = 1};
  EXPECT_NE(draw_plan(workload_of(1), view, {}).find("no work"), std::string::npos);
  EXPECT_DOUBLE_EQ(imbalance_of(view), 1.0);
}

TEST(Terminal, NumbersAsPeopleReadThem) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(-1234), "-1,234");
  EXPECT_EQ(grouped(-123), "-123");
  EXPECT_EQ(grouped(1234567), "1,234,567");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(3 << 20), "3.00 MiB");
  EXPECT_EQ(duration_text(12.34), "12.3 µs");
  EXPECT_EQ(duration_text(4560), "4.56 ms");
  EXPECT_EQ(columns_of("a━µ"), 3);
}

}  // namespace
}  // namespace fovea::cli
