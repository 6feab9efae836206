// Traces: request streams recorded by serving systems. Lengths, arrival times and, where recorded, which prompts share a prefix; no text.
// Two formats, plain or compressed with gzip:
//   Mooncake  JSON lines {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}; other keys are ignored
//   Azure     CSV with the header TIMESTAMP,ContextTokens,GeneratedTokens
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea::serving {

/// Prompt tokens that one prefix id of a Mooncake trace stands for.
inline constexpr std::int64_t kTokensPerPrefixId = 512;

struct TraceRequest {
  std::int64_t arrival_us = 0;           // Azure: since 1970
  std::int64_t input_tokens = 0;         // of the prompt
  std::int64_t output_tokens = 0;        // that were generated
  std::vector<std::int64_t> prefix_ids;  // one per kTokensPerPrefixId prompt tokens; equal first ids, equal first tokens. Empty: unknown
};

struct Trace {
  std::string name;                    // the file's
  std::string format;                  // "mooncake" or "azure"
  std::vector<TraceRequest> requests;  // in order of arrival
  std::int64_t skipped_lines = 0;
  std::string first_skipped;  // what was wrong with the first of them
};

struct TraceOptions {
  std::int64_t max_requests = 0;  // stop after so many; 0: all
  bool skip_bad = false;          // skip and count lines that can't be read, instead of throwing
};

/// Reads a file. Throws InvalidArgument that names file, line and value.
Trace read_trace(const std::string& path, const TraceOptions& options = {});

/// One line of a format. Throws InvalidArgument that says what is wrong, without naming a place.
TraceRequest parse_mooncake_line(std::string_view line);
TraceRequest parse_azure_line(std::string_view line);

}  // namespace fovea::serving
