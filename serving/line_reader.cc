#include "serving/line_reader.h"

#include <fmt/format.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "fovea/error.h"

namespace fovea::serving {
namespace {

constexpr std::size_t kReadBytes = 1 << 16;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";  // some editors put it in front of UTF-8
constexpr std::size_t kMaxLineBytes = 1 << 20;               // a prompt of a million tokens has a line of about 16 KiB

}  // namespace

struct LineReader::File {
  gzFile handle = nullptr;
  bool at_end = false;
  ~File() {
    if (handle != nullptr) {
      gzclose(handle);
    }
  }
};

LineReader::LineReader(const std::string& path) : path_(path), file_(std::make_unique<File>()) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw InvalidArgument(fmt::format("{}: it is a folder; give a trace file", path));
  }
  errno = 0;
  file_->handle = gzopen(path.c_str(), "rb");  // reads plain files as they are
  if (file_->handle == nullptr) {
    throw InvalidArgument(fmt::format("{}: it can't be opened ({}); give a trace file", path, std::strerror(errno)));
  }
}

LineReader::~LineReader() = default;

/// Appends more bytes to buffer_. False at the end.
bool LineReader::fill() {
  if (file_->at_end) {
    return false;
  }
  buffer_.erase(0, begin_);
  begin_ = 0;
  const std::size_t old = buffer_.size();
  buffer_.resize(old + kReadBytes);
  const int got = gzread(file_->handle, buffer_.data() + old, kReadBytes);
  buffer_.resize(old + static_cast<std::size_t>(std::max(got, 0)));
  int code = Z_OK;
  const std::string_view reason = gzerror(file_->handle, &code);
  if (got <= 0 && code < 0) {  // a file that was cut short gives what comes before the cut, then Z_BUF_ERROR
    file_->at_end = true;
    const std::string_view path = path_;  // zlib puts it in front
    throw InvalidArgument(fmt::format("{}:{}: the file is damaged or cut short from here on ({})", path_, line_number_ + 1,
                                      reason.starts_with(path) ? reason.substr(path.size() + 2) : reason));
  }
  file_->at_end = got == 0;
  return got > 0;
}

bool LineReader::next(std::string& line) {
  std::size_t searched = 0;
  while (true) {
    const std::size_t end = buffer_.find('\n', begin_ + searched);
    const bool complete = end != std::string::npos;
    const std::size_t length = (complete ? end : buffer_.size()) - begin_;
    if (length > kMaxLineBytes) {
      begin_ = buffer_.size();
      file_->at_end = true;
      throw InvalidArgument(
          fmt::format("{}:{}: the line is longer than {} bytes; is this a trace?", path_, line_number_ + 1, kMaxLineBytes));
    }
    if (complete || (file_->at_end && length > 0)) {
      line.assign(buffer_, begin_, length);
      begin_ += length + (complete ? 1 : 0);
      if (++line_number_ == 1 && line.starts_with(kByteOrderMark)) {
        line.erase(0, kByteOrderMark.size());
      }
      if (!line.empty() && line.back() == '\r') {
        line.pop_back();
      }
      return true;
    }
    searched = length;
    if (!fill() && buffer_.size() == begin_) {
      return false;
    }
  }
}

}  // namespace fovea::serving
