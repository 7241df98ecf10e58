// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/platform_folder.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>

#include <fmt/format.h>

#include "attest/platform.hpp"
#include "banyan/arch/domain_table.hpp"
#include "tool/cmd_platform.hpp"
#include "vtpm/store/anchor.hpp"

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;

tl::unexpected<Failure> environment(std::string text)
{
    return failed(Exit::kEnvironment, std::move(text));
}

Outcome<Fd> lock_folder(const fs::path &folder, int how)
{
    Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) {
        return environment(fmt::format("cannot open {}: {}", folder.string(), std::strerror(errno)));
    }
    if (::flock(fd.get(), how) != 0) {
        return environment(fmt::format("the platform in {} is in use by another run; wait for it, or name another "
                                       "platform in the machine file",
                                       folder.parent_path().string()));
    }
    return fd;
}

Outcome<void> make_platform(const Machine &machine, unsigned instances)
{
    attest::PlatformOptions options;
    options.private_folder = machine.platform_private;
    options.public_folder = machine.platform_public;
    options.instances = std::max(instances, dt::kMaxDomains + 1U); // room for a file with more VMs
    if (const auto made = attest::new_platform(options, manufacture_instance); !made) {
        return environment(made.error());
    }
    return {};
}

} // namespace

Outcome<Fd> hold_platform(const Machine &machine, unsigned instances)
{
    const fs::path folder = machine.platform_private.parent_path();
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) {
        return environment(fmt::format("cannot make the platform's folder {}: {}", folder.string(), error.message()));
    }
    {
        const auto making = lock_folder(folder, LOCK_EX); // two first runs at once
        if (!making) {
            return tl::unexpected<Failure>(making.error());
        }
        if (!fs::exists(machine.platform_private, error)) {
            if (auto made = make_platform(machine, instances); !made) {
                return tl::unexpected<Failure>(std::move(made.error()));
            }
        }
    }
    if (!fs::exists(vtpm::generations_file(machine.platform_private.string()), error)) {
        return environment(
            fmt::format("the platform in {0} has no private/generations, by which a TPM's state of an earlier "
                        "day is recognized: it was made by an earlier version, or the file is lost. Move the "
                        "folder away (mv {0} {0}.old) and run again: a new platform is made",
                        folder.string()));
    }
    const auto facts = attest::read_public_platform(machine.platform_public);
    if (!facts) {
        return environment(facts.error());
    }
    auto held = lock_folder(machine.platform_private, LOCK_EX | LOCK_NB);
    if (held && facts->instances < instances) {
        const auto added =
            attest::add_instances(machine.platform_private, machine.platform_public, instances, manufacture_instance);
        if (!added) {
            return environment(added.error());
        }
    }
    return held;
}

} // namespace banyan::tool
