// SPDX-License-Identifier: GPL-2.0-or-later
// The engine with workers that make a system call which is not theirs: number BANYAN_TEST_CALL, when they ask the
// kernel for random numbers.
#include <cstdlib>
#include <sys/syscall.h>
#include <unistd.h>

#include "vtpm/engine/roles.hpp"

namespace {
long trespass = -1;
}

// Instead of libc's, for the whole program. Only TpmLife::stir() and the keeper's test key ask for 32 bytes.
extern "C" ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
    if (size == 32 && trespass >= 0) {
        (void)::syscall(trespass, 0, 0, 0, 0, 0, 0);
    }
    return ::syscall(SYS_getrandom, buffer, size, flags);
}

int main(int argc, char **argv)
{
    const char *call = std::getenv("BANYAN_TEST_CALL");
    trespass = call != nullptr ? std::strtol(call, nullptr, 10) : -1;
    return banyan::vtpm::run_engine(argc, argv, {});
}
