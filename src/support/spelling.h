// Which known name a wrong one may have meant. For error texts alone.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace fovea {

/// The known name with the fewest insertions, removals and changes of a character, if they are few for the word's length; else "".
std::string closest_name(std::string_view wrong, std::span<const std::string> known);

}  // namespace fovea
