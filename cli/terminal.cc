#include "cli/terminal.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace fovea::cli {
namespace {

std::atomic<bool> interrupt_seen = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

int columns_of_terminal(int descriptor) {
  winsize window{};
  if (ioctl(descriptor, TIOCGWINSZ, &window) == 0 && window.ws_col > 0) {
    return window.ws_col;
  }
  return 0;
}

}  // namespace

bool output_is_terminal() { return isatty(STDOUT_FILENO) == 1; }
bool errors_are_terminal() { return isatty(STDERR_FILENO) == 1; }

int terminal_columns() {
  if (const char* columns = std::getenv("COLUMNS"); columns != nullptr && std::atoi(columns) > 0) {
    return std::atoi(columns);
  }
  const int columns = columns_of_terminal(STDOUT_FILENO);
  return columns > 0 ? columns : 100;
}

bool colour_wanted() {
  const char* refusal = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return output_is_terminal() && (refusal == nullptr || *refusal == '\0') && terminal != nullptr && std::string_view(terminal) != "dumb";
}

int columns_of(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string grouped(std::int64_t number) {
  const std::string digits = fmt::format("{}", number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number));
  std::string text = number < 0 ? "-" : "";
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) {
      text += ',';
    }
    text += digits[i];
  }
  return text;
}

std::string bytes_text(std::int64_t bytes) {
  if (bytes < 1 << 10) {
    return fmt::format("{} B", bytes);
  }
  const char* const units[] = {"KiB", "MiB", "GiB", "TiB"};
  double amount = static_cast<double>(bytes) / 1024;
  int unit = 0;
  while (amount >= 1024 && unit < 3) {
    amount /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", amount, amount < 10 ? 2 : amount < 100 ? 1 : 0, units[unit]);
}

std::string duration_text(double microseconds) {
  const auto digits = [](double amount) { return amount < 10 ? 2 : amount < 100 ? 1 : 0; };
  if (microseconds < 1e3) {
    return fmt::format("{:.{}f} µs", microseconds, digits(microseconds));
  }
  if (microseconds < 1e6) {
    return fmt::format("{:.{}f} ms", microseconds / 1e3, digits(microseconds / 1e3));
  }
  return fmt::format("{:.{}f} s", microseconds / 1e6, digits(microseconds / 1e6));
}

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupt_seen = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the next one kills: work between two checks may be long
  sigaction(SIGINT, &action, nullptr);
}

bool interrupted() { return interrupt_seen; }

void stop_if_interrupted() {
  if (interrupted()) {
    throw Interrupted{};
  }
}

Progress::Progress(std::string title, std::int64_t total)
    : title_(std::move(title)), total_(std::max<std::int64_t>(total, 1)), visible_(errors_are_terminal()) {
  begin_ = last_ = std::chrono::steady_clock::now();
}

Progress::~Progress() {
  if (drawn_) {
    std::fputs("\r\x1b[K", stderr);
    std::fflush(stderr);
  }
}

void Progress::update(std::int64_t done, std::string_view note) {
  stop_if_interrupted();
  const auto now = std::chrono::steady_clock::now();
  if (!visible_ || now - last_ < std::chrono::milliseconds(100)) {
    return;
  }
  last_ = now;
  drawn_ = true;
  static const char* const kEighths[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  constexpr int kCells = 24;
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0);
  const int eighths = static_cast<int>(share * kCells * 8);
  std::string bar;
  for (int cell = 0; cell < kCells; ++cell) {
    const int filled = std::clamp(eighths - cell * 8, 0, 8);
    bar += filled == 8 ? "█" : kEighths[filled];
  }
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  std::string tail = fmt::format(" {}/{}", grouped(done), grouped(total_));
  if (share > 0.02 && seconds > 1) {
    tail += fmt::format(", {:.0f} s left", seconds * (1 - share) / share);
  }
  if (!note.empty()) {
    tail += fmt::format(", {}", note);
  }
  const int room = std::max(20, columns_of_terminal(STDERR_FILENO)) - columns_of(title_) - kCells - 5;
  if (columns_of(tail) > room) {
    tail.resize(static_cast<std::size_t>(std::max(room, 0)));  // plain ASCII, but for notes: a cut character is harmless here
  }
  fmt::print(stderr, "\r{} ▕{}▏{}\x1b[K", title_, bar, tail);
  std::fflush(stderr);
}

}  // namespace fovea::cli
