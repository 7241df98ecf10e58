// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "vtpm/engine/crypto_memory.hpp"
#include "vtpm/engine/roles.hpp"
#include "vtpm/link/control.hpp"

namespace banyan::vtpm {
namespace {

int usage()
{
    std::fputs(
        "usage: banyan-vtpm-engine zygote --instances N [--platform FOLDER] [--rollback strict|report]\n"
        "                                 [--require-sandbox full] [--snapshot-key FILE] [--incoming yes]\n"
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

int run_engine(int argc, char **argv, EngineOptions options)
{
    (void)own_crypto_memory(); // without it commands only take longer
    unsigned long instances = 0;
    if (argc < 2 || std::string(argv[1]) != "zygote") {
        return usage();
    }
    for (int i = 2; i < argc; i += 2) {
        const std::string flag = argv[i];
        const std::string value = i + 1 < argc ? argv[i + 1] : "";
        if (flag == "--instances") {
            instances = std::strtoul(value.c_str(), nullptr, 10);
        } else if (flag == "--platform" && !value.empty()) {
            options.platform = value;
        } else if (flag == "--rollback" && (value == "strict" || value == "report")) {
            options.accept_rollback = value == "report";
        } else if (flag == "--require-sandbox" && value == "full") {
            options.full_sandbox = true;
        } else if (flag == "--snapshot-key" && !value.empty()) {
            options.snapshot_key = value;
        } else if (flag == "--incoming" && value == "yes") {
            options.incoming = true;
        } else {
            return usage();
        }
    }
    if (instances == 0 || instances > kMaxInstances || !is_socket(kZygoteControlFd) || !is_socket(kSignerFd)) {
        return usage();
    }
    options.instances = static_cast<std::uint32_t>(instances);
    const int null = ::open("/dev/null", O_RDWR);
    if (null >= 0) {
        ::dup2(null, 0);
        ::dup2(null, 1);
    }
    return run_zygote(kZygoteControlFd, kSignerFd, options);
}

} // namespace banyan::vtpm
