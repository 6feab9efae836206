// LineReader: lines of a text file, plain or compressed with gzip.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace fovea::serving {

class LineReader {
 public:
  explicit LineReader(const std::string& path);  // throws InvalidArgument
  ~LineReader();

  /// The next line without its end (LF or CR LF) and without a byte order mark. False at the end of the file. Throws InvalidArgument where
  /// the file is damaged.
  bool next(std::string& line);

  std::int64_t line_number() const { return line_number_; }  // of the line that next() gave, from 1

 private:
  bool fill();

  struct File;
  std::string path_;
  std::unique_ptr<File> file_;
  std::string buffer_;
  std::size_t begin_ = 0;
  std::int64_t line_number_ = 0;
};

}  // namespace fovea::serving
