// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/exit_status.hpp"

#include <algorithm>
#include <array>

namespace banyan::tool {

Exit fold(std::span<const Exit> all)
{
    static constexpr std::array kWorstFirst{Exit::kInterrupted, Exit::kBug,     Exit::kEnvironment, Exit::kTimeout,
                                            Exit::kVmFailed,    Exit::kRefused, Exit::kUsage};
    for (const Exit candidate : kWorstFirst) {
        if (std::find(all.begin(), all.end(), candidate) != all.end()) {
            return candidate;
        }
    }
    return Exit::kOk;
}

} // namespace banyan::tool
