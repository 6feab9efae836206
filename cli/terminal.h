// What the commands know about the terminal: width, colour, progress bars, Ctrl-C; and numbers as people read them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace fovea::cli {

bool output_is_terminal();   // standard output
bool errors_are_terminal();  // standard error: where progress bars go

/// Columns of standard output's terminal; COLUMNS when set; else 100.
int terminal_columns();

/// Standard output is a terminal that shows colours, and NO_COLOR is not set.
bool colour_wanted();

/// Columns that UTF-8 text takes when every character is one column wide.
int columns_of(std::string_view text);

std::string grouped(std::int64_t number);        // 1,234,567
std::string bytes_text(std::int64_t bytes);      // 23.5 GiB
std::string duration_text(double microseconds);  // 12.3 µs, 4.56 ms, 7.89 s

/// Ctrl-C was pressed. The second one ends the process at once.
struct Interrupted {};
void catch_interrupts();
bool interrupted();
void stop_if_interrupted();  // throws Interrupted

/// A bar on standard error while long work runs; nothing where that is not a terminal. Erased at the end.
class Progress {
 public:
  Progress(std::string title, std::int64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Draws at most ten times a second. Throws Interrupted after Ctrl-C.
  void update(std::int64_t done, std::string_view note = {});
  void update(std::int64_t done, std::int64_t total) {
    total_ = total;
    update(done);
  }

 private:
  std::string title_;
  std::int64_t total_;
  bool visible_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point begin_, last_;
};

}  // namespace fovea::cli
