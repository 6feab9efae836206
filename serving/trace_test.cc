// Trace readers: what is read, and what every kind of bad line is told.
#include "serving/trace.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>

#include "fovea/error.h"

namespace fovea::serving {
namespace {

namespace fs = std::filesystem;

class TraceTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("trace_test_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& text, const std::string& name = "t") {
    const fs::path path = folder_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }

  std::string write_compressed(const std::string& text, std::size_t cut_bytes = 0) {
    const fs::path path = folder_ / "t.gz";
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
    fs::resize_file(path, fs::file_size(path) - cut_bytes);
    return path.string();
  }

  fs::path folder_;
};

std::string message_of(const std::string& path, const TraceOptions& options = {}) {
  try {
    read_trace(path, options);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "(no error)";
}

std::string mooncake(std::int64_t timestamp, std::int64_t input, std::int64_t output, const std::string& ids) {
  return "{\"timestamp\": " + std::to_string(timestamp) + ", \"input_length\": " + std::to_string(input) +
         ", \"output_length\": " + std::to_string(output) + ", \"hash_ids\": " + ids + "}\n";
}

const std::string kGood = mooncake(27, 600, 5, "[7, 8]");
const std::string kHeader = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n";

TEST_F(TraceTest, ReadsMooncake) {
  const Trace trace =
      read_trace(write(kGood + "\n" + mooncake(28, 512, 1, "[7]") + R"({"output_length":2,"timestamp":28,"input_length":1})"));
  ASSERT_EQ(trace.requests.size(), 3u);
  EXPECT_EQ(trace.format, "mooncake");
  EXPECT_EQ(trace.requests[0].arrival_us, 27'000);
  EXPECT_EQ(trace.requests[0].input_tokens, 600);
  EXPECT_EQ(trace.requests[0].output_tokens, 5);
  EXPECT_EQ(trace.requests[0].prefix_ids, (std::vector<std::int64_t>{7, 8}));
  EXPECT_TRUE(trace.requests[2].prefix_ids.empty());
}

TEST_F(TraceTest, ReadsAzure) {
  const Trace trace = read_trace(write(kHeader + "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-17 00:00:00,1,2"));
  ASSERT_EQ(trace.requests.size(), 2u);
  EXPECT_EQ(trace.format, "azure");
  EXPECT_EQ(trace.requests[0].arrival_us, 1'700'158'546'680'590);  // date -u -d '2023-11-16 18:15:46' +%s
  EXPECT_EQ(trace.requests[1].arrival_us - trace.requests[0].arrival_us, 20'653'319'410);
  EXPECT_EQ(trace.requests[1].input_tokens, 1);
  EXPECT_EQ(trace.requests[1].output_tokens, 2);
}

TEST_F(TraceTest, CompressedReadsLikePlain) {
  std::string text;
  for (int i = 0; i < 5000; ++i) {  // more than one read
    text += mooncake(i, 600, 5, "[" + std::to_string(i) + ", 8]");
  }
  const Trace plain = read_trace(write(text)), compressed = read_trace(write_compressed(text));
  ASSERT_EQ(plain.requests.size(), 5000u);
  ASSERT_EQ(compressed.requests.size(), 5000u);
  EXPECT_EQ(compressed.requests[4321].prefix_ids, plain.requests[4321].prefix_ids);
}

TEST_F(TraceTest, StopsAfterTheRequestsAskedFor) {
  EXPECT_EQ(read_trace(write(kGood + kGood + "nonsense"), {.max_requests = 2}).requests.size(), 2u);
}

TEST_F(TraceTest, SkipsBadLinesWhenAsked) {
  const std::string path = write(kGood + "{\n" + mooncake(1, 600, 5, "[7, 8]") + mooncake(30, 5, 5, "[]") + kGood);
  const Trace trace = read_trace(path, {.skip_bad = true});
  EXPECT_EQ(trace.requests.size(), 2u);
  EXPECT_EQ(trace.skipped_lines, 3);
  EXPECT_EQ(trace.first_skipped, path + ":2: '{' is no JSON (wrong at byte 2 of 1)");
}

TEST_F(TraceTest, SkipsABadFirstLineWhenAsked) {
  const std::string rows = "2023-11-16 18:15:46,3,4\r\n2023-11-16 18:15:47,3,4\r\n";
  EXPECT_EQ(read_trace(write("# chat\n" + kGood + kGood), {.skip_bad = true}).requests.size(), 2u);
  const Trace trace = read_trace(write("# chat\r\n" + kHeader + rows), {.skip_bad = true});
  EXPECT_EQ(trace.format, "azure");
  EXPECT_EQ(trace.requests.size(), 2u);
  EXPECT_EQ(trace.skipped_lines, 1);
}

TEST_F(TraceTest, ReadsWhatEditorsAndLaterTracesDo) {
  const std::string mark = "\xef\xbb\xbf";
  EXPECT_EQ(read_trace(write(mark + kGood)).requests.size(), 1u);
  const Trace trace = read_trace(write(mark + kHeader + "2024-05-10 00:00:00.009930+00:00,3,4\n2024-05-10 00:00:01+00:00,3,4\n"));
  ASSERT_EQ(trace.requests.size(), 2u);
  EXPECT_EQ(trace.requests[1].arrival_us - trace.requests[0].arrival_us, 990'070);
}

TEST_F(TraceTest, DamagedCompressedFile) {
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    text += mooncake(i, 600, 5, "[" + std::to_string(i * 7919 % 3001) + ", 8]");
  }
  const std::string path = write_compressed(text, 2000);
  const std::string message = message_of(path);
  EXPECT_NE(message.find("t.gz:"), std::string::npos) << message;
  EXPECT_NE(message.find("the file is damaged or cut short from here on (unexpected end of file)"), std::string::npos) << message;
  const Trace trace = read_trace(path, {.skip_bad = true});
  EXPECT_GT(trace.requests.size(), 1000u);
  EXPECT_NE(message.find(":" + std::to_string(trace.requests.size() + 1) + ":"), std::string::npos) << message;
  EXPECT_LT(trace.requests.size(), 3000u);
  EXPECT_EQ(trace.skipped_lines, 1);
}

TEST_F(TraceTest, BadFiles) {
  EXPECT_EQ(message_of(folder_.string()), folder_.string() + ": it is a folder; give a trace file");
  EXPECT_EQ(message_of("/no/such/file"), "/no/such/file: it can't be opened (No such file or directory); give a trace file");
  const std::string empty = write("", "empty");
  EXPECT_EQ(message_of(empty), empty + ": no requests in it; a trace has at least one");
  const std::string blank = write("\n  \n\n", "blank");
  EXPECT_EQ(message_of(blank), blank + ": no requests in it; a trace has at least one");
  const std::string header = write(kHeader, "header");
  EXPECT_EQ(message_of(header), header + ": no requests in it; a trace has at least one");
  const std::string prose = write("\nDear reader,\n", "prose");
  EXPECT_EQ(message_of(prose),
            prose +
                ":2: 'Dear reader,' begins no known format; known: JSON lines ({\"timestamp\": ...}), CSV with the header "
                "TIMESTAMP,ContextTokens,GeneratedTokens; --skip-bad goes on without such lines");
  EXPECT_TRUE(message_of(prose, {.skip_bad = true}).starts_with(prose + ": no requests in it: " + prose + ":2: 'Dear reader,' begins"));
  const std::string all_bad = write("{\n{\n", "all_bad");
  EXPECT_EQ(message_of(all_bad, {.skip_bad = true}),
            all_bad + ": no requests in it: " + all_bad + ":1: '{' is no JSON (wrong at byte 2 of 1); a trace has at least one");
  const std::string endless = write(kGood + std::string(2 << 20, 'x'), "endless");
  EXPECT_EQ(message_of(endless), endless + ":2: the line is longer than 1048576 bytes; is this a trace?");
}

// Whatever is in a file: requests that keep the rules, or a refusal that names the file.
TEST_F(TraceTest, SpoiltFilesAreReadOrRefused) {
  const std::string good[] = {kGood + mooncake(30, 1200, 7, "[1, 2, 3]") + mooncake(31, 5, 5, "[4]"),
                              kHeader + "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n"};
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string text = good[i % 2];
    for (unsigned change = 0; change < 1 + random() % 4; ++change) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          text.erase(at, 1 + random() % 20);
          break;
        case 2:
          text.insert(at, text.substr(random() % text.size(), random() % 30));
          break;
        default:
          text[at] = "0123456789{}[],:\"-.e\n"[random() % 22];
      }
      if (text.empty()) {
        text = "x";
      }
    }
    const std::string path = write(text);
    try {
      for (const TraceRequest& request : read_trace(path, {.skip_bad = i % 3 == 0}).requests) {
        ASSERT_GE(request.arrival_us, 0);
        ASSERT_GE(request.input_tokens, 1);
        ASSERT_GE(request.output_tokens, 1);
        ASSERT_TRUE(request.prefix_ids.empty() ||
                    static_cast<std::int64_t>(request.prefix_ids.size()) == (request.input_tokens + 511) / 512);
      }
    } catch (const InvalidArgument& error) {
      ++refused;
      ASSERT_EQ(std::string(error.what()).substr(0, path.size()), path) << text;
    }
  }
  EXPECT_GT(refused, 1000);
}

struct BadLine {
  std::string line;
  const char* message;
};

void expect_messages(const std::string& before, const std::vector<BadLine>& cases,
                     const std::function<std::string(const std::string&)>& write) {
  for (const BadLine& bad : cases) {
    const std::string path = write(before + bad.line);
    EXPECT_EQ(message_of(path), path + ":2: " + bad.message + "; --skip-bad goes on without such lines") << bad.line;
  }
}

TEST_F(TraceTest, BadMooncakeLines) {
  const std::string deep = std::string(300'000, '[') + std::string(300'000, ']');  // deeper than a stack
  expect_messages(
      kGood,
      {
          {R"({"timestamp": 30, "input_len)", "'{\"timestamp\": 30, \"input_len' is no JSON (wrong at byte 29 of 28)"},
          {"30, 600, 5", "'30, 600, 5' is no JSON (wrong at byte 3 of 10)"},
          {"[30]", "[30] is not an object; a line is {\"timestamp\": ..., ...}"},
          {"\"text\"", "\"text\" is not an object; a line is {\"timestamp\": ..., ...}"},
          {"\x01\x1b[31m", "'\?\?[31m' is no JSON (wrong at byte 1 of 6)"},
          {std::string(3, '\0'), "'\?\?\?' is no JSON (wrong at byte 1 of 3)"},
          {R"({"timestamp": 1e999})", "'{\"timestamp\": 1e999}' is no JSON (a number in it is too large)"},
          {deep, "a list more than 16 levels deep is not an object; a line is {\"timestamp\": ..., ...}"},
          {"{\"timestamp\": " + deep + "}", "timestamp is a list more than 16 levels deep; it must be an integer in 0..4398046511104"},
          {"{}", "key 'timestamp' is missing; a line needs timestamp, input_length and output_length"},
          {R"({"timestamp": 30, "output_length": 5})",
           "key 'input_length' is missing; a line needs timestamp, input_length and output_length"},
          {R"({"timestamp": 30, "input_length": 5})",
           "key 'output_length' is missing; a line needs timestamp, input_length and output_length"},
          {R"({"timestamp": "30"})", "timestamp is \"30\"; it must be an integer in 0..4398046511104"},
          {R"({"timestamp": 30.5})", "timestamp is 30.5; it must be an integer in 0..4398046511104"},
          {R"({"timestamp": null})", "timestamp is null; it must be an integer in 0..4398046511104"},
          {R"({"timestamp": -1})", "timestamp is -1; it must be in 0..4398046511104"},
          {R"({"timestamp": 18446744073709551615})", "timestamp is 18446744073709551615; it must be in 0..4398046511104"},
          {R"({"timestamp": 30, "input_length": 0})", "input_length is 0; it must be in 1..16777216"},
          {R"({"timestamp": 30, "input_length": 16777217})", "input_length is 16777217; it must be in 1..16777216"},
          {mooncake(30, 600, 0, "[7, 8]"), "output_length is 0; it must be in 1..16777216"},
          {mooncake(30, 600, 5, "7"), "hash_ids is 7; it must be a list of integers"},
          {mooncake(30, 600, 5, "[7]"), "hash_ids has 1 ids for 600 tokens; one for every 512 tokens makes 2"},
          {mooncake(30, 512, 5, "[7, 8]"), "hash_ids has 2 ids for 512 tokens; one for every 512 tokens makes 1"},
          {mooncake(30, 512, 5, "[]"), "hash_ids has 0 ids for 512 tokens; one for every 512 tokens makes 1"},
          {mooncake(30, 600, 5, "[7, -8]"), "an id in hash_ids is -8; it must be in 0..9223372036854775807"},
          {mooncake(30, 600, 5, "[7, \"8\"]"), "an id in hash_ids is \"8\"; it must be an integer in 0..9223372036854775807"},
          {mooncake(30, 600, 5, "[7, 8.0]"), "an id in hash_ids is 8.0; it must be an integer in 0..9223372036854775807"},
          {mooncake(20, 600, 5, "[7, 8]"), "the request arrives 7000 us before the one above; requests must be in order of arrival"},
      },
      [this](const std::string& text) { return write(text); });
}

TEST_F(TraceTest, BadAzureLines) {
  const std::string wants = "; it must be a time such as 2023-11-16 18:15:46.6805900";
  std::vector<std::string> messages;
  const std::vector<std::string> times = {"",
                                          "2023-11-16",
                                          "2023-11-16T18:15:46",
                                          "2023-13-16 18:15:46",
                                          "2023-02-29 18:15:46",
                                          "2023-11-16 24:15:46",
                                          "2023-11-16 18:60:46",
                                          "2023-11-16 18:15:46,5",
                                          "2023-11-16 18:15:46.5x",
                                          "2023-11-16 18:15:46.1234567890"};
  std::vector<BadLine> cases;
  messages.reserve(times.size());
  for (const std::string& time : times) {
    const bool comma = time.find(',') != std::string::npos;
    messages.push_back(comma ? "'" + time + ",1,2' has 4 fields; a line has 3: TIMESTAMP,ContextTokens,GeneratedTokens"
                             : "TIMESTAMP is '" + time + "'" + wants);
    cases.push_back({time + ",1,2", messages.back().c_str()});
  }
  cases.insert(
      cases.end(),
      {{"2023-11-16 18:15:46,374", "'2023-11-16 18:15:46,374' has 2 fields; a line has 3: TIMESTAMP,ContextTokens,GeneratedTokens"},
       {"2023-11-16 18:15:46,,44", "ContextTokens is ''; it must be an integer in 1..16777216"},
       {"2023-11-16 18:15:46,3.5,44", "ContextTokens is '3.5'; it must be an integer in 1..16777216"},
       {"2023-11-16 18:15:46, 3,44", "ContextTokens is ' 3'; it must be an integer in 1..16777216"},
       {"2023-11-16 18:15:46,0,44", "ContextTokens is 0; it must be in 1..16777216"},
       {"2023-11-16 18:15:46,3,-1", "GeneratedTokens is -1; it must be in 1..16777216"},
       {"2023-11-16 18:15:46,3,99999999999999999999", "GeneratedTokens is 99999999999999999999; it must be in 1..16777216"}});
  expect_messages(kHeader, cases, [this](const std::string& text) { return write(text); });
  const std::string path = write(kHeader + "0001-01-01 00:00:00,3,4\n9999-12-31 00:00:00,3,4\n");
  EXPECT_EQ(
      message_of(path),
      path + ":3: the request arrives 10005 years after the first; there may be 139 between them; --skip-bad goes on without such lines");
}

}  // namespace
}  // namespace fovea::serving
