// SPDX-License-Identifier: GPL-2.0-or-later
// banyan-vtpm-engine: the vTPM's processes. Started by QEMU, not by people.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vtpm/engine/roles.hpp"
#include "vtpm/link/control.hpp"

namespace {

int usage()
{
    std::fputs(
        "usage: banyan-vtpm-engine zygote --instances N [--platform FOLDER] [--rollback strict|report]\n"
        "                                 [--require-sandbox full]\n"
        "The worker processes of the vTPM. The emulator starts this itself, with sockets as descriptors 3 and 4.\n",
        stderr);
    return 2;
}

bool is_socket(int fd)
{
    struct stat info {};
    return ::fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode);
}

} // namespace

int main(int argc, char **argv)
{
    banyan::vtpm::EngineOptions options;
    unsigned long instances = 0;
    if (argc < 2 || std::strcmp(argv[1], "zygote") != 0) {
        return usage();
    }
    for (int i = 2; i < argc; i += 2) {
        if (i + 1 >= argc) {
            return usage();
        }
        if (std::strcmp(argv[i], "--instances") == 0) {
            instances = std::strtoul(argv[i + 1], nullptr, 10);
        } else if (std::strcmp(argv[i], "--platform") == 0) {
            options.platform = argv[i + 1];
        } else if (std::strcmp(argv[i], "--rollback") == 0) {
            options.accept_rollback = std::strcmp(argv[i + 1], "report") == 0;
            if (!options.accept_rollback && std::strcmp(argv[i + 1], "strict") != 0) {
                return usage();
            }
        } else if (std::strcmp(argv[i], "--require-sandbox") == 0 && std::strcmp(argv[i + 1], "full") == 0) {
            options.full_sandbox = true;
        } else {
            return usage();
        }
    }
    if (instances == 0 || instances > banyan::vtpm::kMaxInstances || !is_socket(banyan::vtpm::kZygoteControlFd) ||
        !is_socket(banyan::vtpm::kSignerFd)) {
        return usage();
    }
    const int null = ::open("/dev/null", O_RDWR);
    if (null >= 0) {
        ::dup2(null, 0);
        ::dup2(null, 1);
    }
    options.instances = static_cast<std::uint32_t>(instances);
    return banyan::vtpm::run_zygote(banyan::vtpm::kZygoteControlFd, banyan::vtpm::kSignerFd, options);
}
