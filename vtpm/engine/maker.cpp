// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <cstring>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vtpm/engine/manufacture.hpp"
#include "vtpm/engine/roles.hpp"

namespace banyan::vtpm {

void run_maker(int out, int state, bool idle)
{
    name_process("vtpm-maker");
    if (idle) {
        const sched_param none{};
        (void)::sched_setscheduler(0, SCHED_BATCH, &none);
        (void)::setpriority(PRIO_PROCESS, 0, 19);
    }
    const auto made = manufacture({});
    if (!made) {
        quit(kExitTpm);
    }
    Made head;
    const Bytes &ek = made->publics.ek_p384.name;
    const Bytes &iak = made->publics.iak.name;
    if (ek.size() > sizeof(head.names.ek) || iak.size() > sizeof(head.names.iak)) {
        quit(kExitTpm);
    }
    head.permanent_size = static_cast<std::uint32_t>(made->permanent.size());
    head.names.ek_size = static_cast<std::uint8_t>(ek.size());
    head.names.iak_size = static_cast<std::uint8_t>(iak.size());
    std::copy(ek.begin(), ek.end(), head.names.ek);
    std::copy(iak.begin(), iak.end(), head.names.iak);
    const Bytes &permanent = made->permanent;
    if (::write(state, permanent.data(), permanent.size()) != static_cast<ssize_t>(permanent.size()) ||
        ::write(out, &head, sizeof(head)) != static_cast<ssize_t>(sizeof(head))) {
        quit(kExitProtocol);
    }
    quit(0);
}

} // namespace banyan::vtpm
