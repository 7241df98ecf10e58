// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/link/fd.hpp"

#include <cerrno>
#include <poll.h>

namespace banyan::vtpm {

bool readable_within(int fd, std::uint64_t bound_ns)
{
    pollfd one{fd, POLLIN, 0};
    const timespec bound = to_timespec(bound_ns);
    int ready = 0;
    do {
        ready = ::ppoll(&one, 1, &bound, nullptr);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

} // namespace banyan::vtpm
