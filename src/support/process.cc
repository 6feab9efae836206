#include "src/support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

extern char** environ;

namespace fovea {
namespace {

double seconds_of(const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6; }

std::vector<char*> environment(std::string& english) {
  std::vector<char*> variables{english.data()};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with("LC_ALL=")) {
      variables.push_back(*variable);
    }
  }
  variables.push_back(nullptr);
  return variables;
}

/// Everything written to a pipe until all writers have closed it.
std::string drain(int pipe) {
  std::string text;
  char buffer[1 << 12];
  ssize_t count = 0;
  while ((count = read(pipe, buffer, sizeof buffer)) > 0 || (count < 0 && errno == EINTR)) {
    text.append(buffer, count > 0 ? static_cast<std::size_t>(count) : 0);
  }
  return text;
}

/// posix_spawnp with both outputs into `output_end`, nothing to read, and no signal blocked. Returns an errno, or 0.
int spawn(std::span<const std::string> arguments, int output_end, pid_t& child) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  std::string english = "LC_ALL=C";
  const std::vector<char*> variables = environment(english);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output_end, 1);
  posix_spawn_file_actions_adddup2(&actions, output_end, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  const int error = posix_spawnp(&child, argv[0], &actions, &attributes, argv.data(), variables.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

ProcessResult run_process(std::span<const std::string> arguments) {
  ProcessResult result;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    result.output = std::strerror(errno);
    return result;
  }
  pid_t child = 0;
  const int error = spawn(arguments, ends[1], child);
  close(ends[1]);
  if (error != 0) {
    close(ends[0]);
    result.output = std::strerror(error);
    return result;
  }
  result.started = true;
  result.output = drain(ends[0]);
  close(ends[0]);
  int status = 0;
  rusage usage{};
  pid_t waited = 0;
  while ((waited = wait4(child, &status, 0, &usage)) < 0 && errno == EINTR) {
  }
  // A program that ignores SIGCHLD has its children reaped by the kernel: then what the child left behind must speak for it.
  result.status = waited < 0 ? 0 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.cpu_seconds = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
  return result;
}

}  // namespace fovea
