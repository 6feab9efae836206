#include "cli/plan_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <map>
#include <numeric>
#include <vector>

#include "cli/terminal.h"

namespace fovea::cli {
namespace {

constexpr int kLetters = 26;

// Background colours of the 256-colour palette that black text is readable on, neighbours far apart in hue.
constexpr int kColours[] = {110, 173, 108, 175, 179, 73, 145, 167, 150, 140, 215, 80};
constexpr int kPrefixColour = 252;
constexpr int kOtherColour = 244;

/// Whose work it is: a request, or shared prefix p as -1 - p.
using Owner = std::int32_t;

struct Piece {
  std::int64_t tokens;
  Owner owner;
  bool partial;
};

struct Worker {
  std::int32_t number = 0;
  std::int64_t tokens = 0;
  std::vector<Piece> pieces;
};

Owner owner_of(const bench::Workload& workload, const PlannedWork& work) {
  const auto num_prefixes = static_cast<std::int32_t>(workload.prefixes.size());
  return work.format == 0 && num_prefixes > 0 ? -1 - work.row_group : work.row_group - num_prefixes;
}

/// Pieces by worker. Items of lists belong to nobody yet: each goes to the worker that is free first, as tickets would have it.
std::vector<Worker> workers_of(const bench::Workload& workload, const PlanView& view) {
  std::vector<Worker> workers(static_cast<std::size_t>(view.num_workers));
  for (std::size_t i = 0; i < workers.size(); ++i) {
    workers[i].number = static_cast<std::int32_t>(i);
  }
  const auto give = [&](Worker& worker, const PlannedWork& work) {
    const std::int64_t tokens = work.col_end - work.col_begin;
    worker.pieces.push_back({.tokens = tokens, .owner = owner_of(workload, work), .partial = work.partial_slot >= 0});
    worker.tokens += tokens;
  };
  for (const PlannedWork& work : view.work) {
    if (work.worker >= 0) {
      give(workers[static_cast<std::size_t>(work.worker)], work);
    }
  }
  for (const PlannedWork& work : view.work) {
    if (work.worker < 0) {
      give(*std::min_element(workers.begin(), workers.end(), [](const auto& a, const auto& b) { return a.tokens < b.tokens; }), work);
    }
  }
  return workers;
}

/// Letters for requests, digits for shared prefixes. Of more than 26 requests those with most work get a letter, the others a dot.
class Letters {
 public:
  Letters(const bench::Workload& workload, const std::vector<Worker>& workers) : place_(workload.requests.size(), -1) {
    std::vector<std::int64_t> tokens(workload.requests.size());
    for (const Worker& worker : workers) {
      for (const Piece& piece : worker.pieces) {
        if (piece.owner >= 0) {
          tokens[static_cast<std::size_t>(piece.owner)] += piece.tokens;
        }
      }
    }
    std::vector<Owner> order(workload.requests.size());
    std::iota(order.begin(), order.end(), 0);
    const std::size_t chosen = std::min<std::size_t>(order.size(), kLetters);
    if (chosen < order.size()) {
      std::stable_sort(order.begin(), order.end(),
                       [&](Owner a, Owner b) { return tokens[static_cast<std::size_t>(a)] > tokens[static_cast<std::size_t>(b)]; });
    }
    for (std::size_t i = 0; i < chosen; ++i) {
      place_[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
    }
  }

  bool has_own(Owner owner) const { return place_of(owner) >= 0; }
  int place_of(Owner owner) const { return owner < 0 ? -1 - owner : place_[static_cast<std::size_t>(owner)]; }

  std::string letter(Owner owner, bool partial) const {
    const int place = place_of(owner);
    if (place < 0) {
      return "·";
    }
    return std::string(1, static_cast<char>(owner < 0 ? '1' + place % 9 : (partial ? 'a' : 'A') + place));
  }

  int colour(Owner owner) const {
    const int place = place_of(owner);
    return owner < 0 ? kPrefixColour : place < 0 ? kOtherColour : kColours[static_cast<std::size_t>(place) % std::size(kColours)];
  }

 private:
  std::vector<int> place_;  // of each request in the alphabet; -1: none
};

std::string painted(std::string_view text, int background, bool colour) {
  return colour ? fmt::format("\x1b[48;5;{};38;5;16m{}\x1b[0m", background, text) : std::string(text);
}

std::string faint(std::string_view text, bool colour) { return colour ? fmt::format("\x1b[2m{}\x1b[0m", text) : std::string(text); }

/// A cell belongs to the piece that covers most of it; a piece's first cell has its letter.
std::string draw_bar(const Worker& worker, const Letters& letters, double tokens_per_cell, bool colour) {
  std::string bar;
  std::string run;  // cells of one owner are painted together
  Owner run_owner = 0;
  const auto flush = [&] {
    if (!run.empty()) {
      bar += painted(run, letters.colour(run_owner), colour);
      run.clear();
    }
  };
  const int cells = static_cast<int>(std::lround(static_cast<double>(worker.tokens) / tokens_per_cell));
  std::size_t at = 0;
  double piece_begin = 0;
  std::ptrdiff_t last_drawn = -1;
  for (int cell = 0; cell < std::max(cells, worker.tokens > 0 ? 1 : 0); ++cell) {
    const double middle = (cell + 0.5) * tokens_per_cell;
    while (at + 1 < worker.pieces.size() && piece_begin + static_cast<double>(worker.pieces[at].tokens) <= middle) {
      piece_begin += static_cast<double>(worker.pieces[at].tokens);
      ++at;
    }
    const Piece& piece = worker.pieces[at];
    if (piece.owner != run_owner) {
      flush();
      run_owner = piece.owner;
    }
    if (last_drawn != static_cast<std::ptrdiff_t>(at)) {
      run += letters.letter(piece.owner, piece.partial);
      last_drawn = static_cast<std::ptrdiff_t>(at);
    } else {
      run += piece.partial ? "╌" : colour ? " " : "━";
    }
  }
  flush();
  return bar;
}

/// 1, 2 or 5 times a power of ten, or the power of two above when tokens come in those.
std::int64_t tick_step(double tokens_across) {
  std::int64_t step = 64;
  while (static_cast<double>(step) * 5 < tokens_across) {
    step *= 2;
  }
  return step;
}

std::string draw_axis(int cells, double tokens_per_cell) {
  const double across = cells * tokens_per_cell;
  std::string marks;
  std::string numbers;
  int used = 0;
  for (std::int64_t tokens = 0; static_cast<double>(tokens) <= across; tokens += tick_step(across)) {
    const int place = static_cast<int>(std::lround(static_cast<double>(tokens) / tokens_per_cell));
    while (columns_of(marks) < place) {
      marks += "─";
    }
    marks += tokens == 0 ? "└" : "┴";
    const std::string number = grouped(tokens);
    const int begin = std::max(0, std::min(place, cells - columns_of(number) + 1));
    if (begin >= used) {
      numbers.resize(static_cast<std::size_t>(begin), ' ');
      numbers += number;
      used = begin + columns_of(number) + 2;
    }
  }
  while (columns_of(marks) < cells) {
    marks += "─";
  }
  return fmt::format("{} KV tokens\n     {}\n", marks, numbers);
}

/// One column per worker or per few: how high their load stands against the highest.
std::string draw_skyline(const std::vector<Worker>& workers, std::size_t per_column, std::int64_t most) {
  static const char* const kHeights[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string line;
  for (std::size_t begin = 0; begin < workers.size(); begin += per_column) {
    std::int64_t highest = 0;
    for (std::size_t i = begin; i < std::min(begin + per_column, workers.size()); ++i) {
      highest = std::max(highest, workers[i].tokens);
    }
    line += kHeights[most == 0 ? 0 : (highest * 8 + most - 1) / most];
  }
  return fmt::format("load {}\n", line);
}

std::string describe_owner(const bench::Workload& workload, Owner owner) {
  if (owner < 0) {
    const bench::SharedPrefix& prefix = workload.prefixes[static_cast<std::size_t>(-1 - owner)];
    return fmt::format("prefix of {} requests, {} KV", prefix.num_requests, grouped(prefix.tokens));
  }
  const bench::RequestLengths& request = workload.requests[static_cast<std::size_t>(owner)];
  return fmt::format("request {}, {} x {}", owner, grouped(request.qo_len), grouped(request.kv_len));
}

/// Whose the letters are, in the order of the alphabet, and in how many pieces their work was cut.
std::string draw_legend(const bench::Workload& workload, const std::vector<Worker>& workers, const Letters& letters,
                        const PictureStyle& style) {
  std::map<std::pair<bool, int>, Owner> shown;  // prefixes first
  std::map<Owner, std::int64_t> partials;
  bool others = false;
  for (const Worker& worker : workers) {
    for (const Piece& piece : worker.pieces) {
      partials[piece.owner] += piece.partial ? 1 : 0;
      others = others || !letters.has_own(piece.owner);
      if (letters.has_own(piece.owner)) {
        shown[{piece.owner >= 0, letters.place_of(piece.owner)}] = piece.owner;
      }
    }
  }
  std::vector<std::string> entries;
  std::size_t widest = 0;
  for (const auto& [place, owner] : shown) {
    const std::int64_t cuts = partials[owner];
    entries.push_back(describe_owner(workload, owner));
    entries.back() += cuts > 0 ? fmt::format(" ({} partial)", cuts) : "";
    widest = std::max(widest, entries.back().size());
  }
  std::string text;
  const std::size_t per_line = std::max<std::size_t>(1, (static_cast<std::size_t>(style.columns) - 5) / (widest + 5));
  const std::size_t count = others ? std::min(entries.size(), per_line * 3) : entries.size();
  auto owner = shown.begin();
  for (std::size_t i = 0; i < count; ++i, ++owner) {
    const bool last = (i + 1) % per_line == 0 || i + 1 == count;
    text += fmt::format("{}{} {}{}", i % per_line == 0 ? "     " : "",
                        painted(letters.letter(owner->second, false), letters.colour(owner->second), style.colour), entries[i],
                        last ? "\n" : std::string(widest - entries[i].size() + 3, ' '));
  }
  if (others) {
    text += faint(fmt::format("     the {} requests with most work have letters; · is any other\n", kLetters), style.colour);
  }
  return text;
}

}  // namespace

double imbalance_of(const PlanView& view) {
  std::vector<double> loads(view.worker_cost.begin(), view.worker_cost.end());
  if (loads.empty()) {
    const std::vector<Worker> workers = workers_of({}, view);
    std::transform(workers.begin(), workers.end(), std::back_inserter(loads),
                   [](const Worker& w) { return static_cast<double>(w.tokens); });
  }
  const double total = std::accumulate(loads.begin(), loads.end(), 0.0);
  return total == 0 ? 1.0 : *std::max_element(loads.begin(), loads.end()) * static_cast<double>(loads.size()) / total;
}

std::string draw_plan(const bench::Workload& workload, const PlanView& view, const PictureStyle& style) {
  const std::vector<Worker> workers = workers_of(workload, view);
  const Letters letters(workload, workers);
  std::int64_t most = 0;
  bool any_partial = false;
  for (const Worker& worker : workers) {
    most = std::max(most, worker.tokens);
    any_partial = any_partial || std::any_of(worker.pieces.begin(), worker.pieces.end(), [](const Piece& piece) { return piece.partial; });
  }
  if (most == 0) {
    return "     no work: no request has both query and visible KV tokens\n";
  }
  const int amount_columns = static_cast<int>(grouped(most).size());
  const int cells = std::max(10, style.columns - 5 - 1 - std::max(amount_columns + 1, 10));
  const double tokens_per_cell = static_cast<double>(most) / cells;
  const auto count = static_cast<int>(workers.size());
  const int step = (count + style.max_rows - 1) / style.max_rows;

  std::string text;
  if (step > 1) {
    const std::size_t per_column = (workers.size() + static_cast<std::size_t>(cells) - 1) / static_cast<std::size_t>(cells);
    text += draw_skyline(workers, per_column, most);
    const std::string ordinal = fmt::format("{}{}", step, step == 2 ? "nd" : step == 3 ? "rd" : "th");
    text += faint(fmt::format("     {} workers, {} a column; below every {}, --all draws all\n", count, per_column, ordinal), style.colour);
  }
  for (int i = 0; i < count; i += step) {
    const Worker& worker = workers[static_cast<std::size_t>(i)];
    const std::string bar = draw_bar(worker, letters, tokens_per_cell, style.colour);
    const int drawn =
        std::max(static_cast<int>(std::lround(static_cast<double>(worker.tokens) / tokens_per_cell)), worker.tokens > 0 ? 1 : 0);
    text += fmt::format("{:>4} {}{} {:>{}}\n", worker.number, bar, std::string(static_cast<std::size_t>(cells - drawn), ' '),
                        grouped(worker.tokens), amount_columns);
  }
  text += fmt::format("     {}{}", draw_axis(cells, tokens_per_cell), draw_legend(workload, workers, letters, style));
  if (any_partial) {
    const int background = letters.colour(0);
    text += fmt::format("     {}{}{}{}\n", painted(style.colour ? "A  " : "A━━", background, style.colour),
                        faint(" finalised by its worker   ", style.colour), painted("a╌╌", background, style.colour),
                        faint(" partial state, merged afterwards", style.colour));
  }
  return text;
}

}  // namespace fovea::cli
