// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <tl/expected.hpp>

namespace banyan::tool {

/// Files of a tar archive (POSIX.1-1988 ustar, or GNU's with the same header fields) that a VM made. It is hostile
/// until shown otherwise: regular files with a name of `allowed` are taken, the archive's own folder `./` is passed
/// over, and anything else refuses the whole archive: links, devices, other names, a name twice, a file beyond
/// `max_file` bytes, a wrong checksum, a file that is cut off.
tl::expected<std::map<std::string, std::vector<std::uint8_t>>, std::string>
read_ustar(std::span<const std::uint8_t> archive, const std::set<std::string, std::less<>> &allowed,
           std::size_t max_file);

} // namespace banyan::tool
