// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/access/access.hpp"

#include <algorithm>

#include "cpu-ext/access/msr_profile.hpp"
#include "cpu-ext/access/port_profile.hpp"

namespace banyan::access {

namespace {

/// The entry of an ascending table that holds the number, or nullptr.
template <typename Table>
const typename Table::value_type *find(const Table &table, std::uint32_t number)
{
    const auto after = std::upper_bound(table.begin(), table.end(), number,
                                        [](std::uint32_t n, const auto &entry) { return n < entry.first; });
    if (after == table.begin() || number > std::prev(after)->last) {
        return nullptr;
    }
    return &*std::prev(after);
}

} // namespace

PortAnswer profile_port(std::uint32_t profile, std::uint16_t port)
{
    if (profile == 0 || profile > kPortProfileMax) {
        return {dt::PortAction::kDeny, kPortOnes};
    }
    const PortFact *fact = find(kPortProfileDenied, port);
    return {dt::PortAction::kDeny, fact == nullptr ? kPortOnes : fact->value};
}

MsrAnswer profile_msr(std::uint32_t profile, std::uint32_t msr)
{
    const MsrFact *fact = profile == 0 || profile > kMsrProfileMax ? nullptr : find(kMsrProfileLinux, msr);
    if (fact == nullptr) {
        return {dt::MsrAction::kFault, 0, 0};
    }
    return {fact->action, fact->value, fact->write_mask};
}

bool msr_forbidden(std::uint32_t msr)
{
    return find(kMsrForbidden, msr) != nullptr;
}

} // namespace banyan::access
