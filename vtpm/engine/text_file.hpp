// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <fstream>
#include <sstream>
#include <string>

namespace banyan::vtpm {

/// The whole file; empty if it cannot be read, whatever is in its place.
[[nodiscard]] inline std::string read_text(const std::string &path)
{
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf(); // unlike an iterator, it does not throw for a directory
    return text.str();
}

} // namespace banyan::vtpm
