// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <string_view>

namespace banyan::agent {

/// A tar archive of regular files (POSIX.1-2017, pax, ustar Interchange Format); the same files give the same bytes.
class Ustar {
public:
    /// `name` has at most 99 characters.
    void add(std::string_view name, std::string_view content);

    /// The archive with its two zero blocks. Call once, last.
    std::string finish();

private:
    std::string archive_;
};

} // namespace banyan::agent
