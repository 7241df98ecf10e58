// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/cmd_platform.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <memory>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "attest/cbor.hpp"
#include "attest/evidence.hpp"
#include "tool/commands.hpp"
#include "vtpm/engine/manufacture.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;
using attest::Bytes;
using attest::Expected;
using attest::problem;

constexpr std::size_t kResultMax = std::size_t{64} * 1024;
constexpr std::size_t kResultParts = 9;

/// What a child hands back: an array of byte strings, or of one text that says what went wrong.
Bytes pack(const attest::ManufacturedInstance &made)
{
    attest::CborWriter writer;
    writer.put_array(kResultParts);
    for (const Bytes *part :
         {&made.keys.ek_rsa, &made.keys.ek, &made.keys.iak, &made.keys.ek_p256, &made.certificates.ek_rsa,
          &made.certificates.ek, &made.certificates.iak, &made.certificates.ek_p256}) {
        writer.put_bytes(*part);
    }
    writer.put_bytes(attest::view_of(made.names_json));
    return writer.bytes();
}

Bytes pack_problem(std::string_view text)
{
    attest::CborWriter writer;
    return writer.put_array(1).put_text(text).bytes();
}

Expected<attest::ManufacturedInstance> unpack(attest::View result)
{
    attest::CborReader reader(result);
    ATTEST_TRY(const std::uint64_t parts, reader.read_array());
    if (parts != kResultParts) {
        ATTEST_TRY(const std::string_view why, reader.read_text());
        return problem(std::string(why));
    }
    attest::ManufacturedInstance made;
    for (Bytes *part : {&made.keys.ek_rsa, &made.keys.ek, &made.keys.iak, &made.keys.ek_p256, &made.certificates.ek_rsa,
                        &made.certificates.ek, &made.certificates.iak, &made.certificates.ek_p256}) {
        ATTEST_TRY(const attest::View bytes, reader.read_bytes());
        part->assign(bytes.begin(), bytes.end());
    }
    ATTEST_TRY(const attest::View names, reader.read_bytes());
    made.names_json = attest::text_of(names);
    return made;
}

/// In the child: libtpms has one TPM per process, so this process has this one and no other.
Expected<attest::ManufacturedInstance> manufacture_here(const fs::path &private_folder, unsigned instance,
                                                        const attest::StoreKeyBytes &store_key,
                                                        const attest::CertifyInstance &certify, bool ek_p256)
{
    attest::ManufacturedInstance made;
    std::string certify_problem;
    const auto certify_publics = [&](const vtpm::Publics &publics) -> Result<vtpm::Certificates> {
        made.keys = {publics.ek_rsa.spki, publics.ek_p384.spki, publics.iak.spki, publics.ek_p256.spki};
        auto certificates = certify(made.keys);
        if (!certificates) {
            certify_problem = certificates.error();
            return fail(Errc::kIo);
        }
        made.certificates = std::move(*certificates);
        return vtpm::Certificates{made.certificates.ek_rsa, made.certificates.ek, made.certificates.iak,
                                  made.certificates.ek_p256};
    };
    std::string why;
    const auto tpm = vtpm::manufacture(certify_publics, &why, ek_p256);
    if (!tpm) {
        return problem(why + (certify_problem.empty() ? "" : ": " + certify_problem));
    }
    made.names_json = vtpm::names_json(tpm->publics);
    if (const auto stored = vtpm::create_instance(private_folder.string(), store_key, instance, tpm->permanent);
        !stored) {
        return problem(fmt::format("cannot write its state to {} (error {})",
                                   vtpm::instance_file(private_folder.string(), instance, "nvstore"),
                                   static_cast<int>(stored.error())));
    }
    return made;
}

bool write_all(int fd, attest::View bytes)
{
    while (!bytes.empty()) {
        const ssize_t put = ::write(fd, bytes.data(), bytes.size());
        if (put < 0 && errno != EINTR) {
            return false;
        }
        bytes = bytes.subspan(static_cast<std::size_t>(std::max<ssize_t>(put, 0)));
    }
    return true;
}

Bytes read_all(int fd)
{
    Bytes bytes(kResultMax);
    std::size_t have = 0;
    while (have < bytes.size()) {
        const ssize_t got = ::read(fd, bytes.data() + have, bytes.size() - have);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        have += static_cast<std::size_t>(got);
    }
    bytes.resize(have);
    return bytes;
}

Expected<attest::ManufacturedInstance> manufacture_beside(const fs::path &private_folder, unsigned instance,
                                                          const attest::StoreKeyBytes &store_key,
                                                          const attest::CertifyInstance &certify, bool ek_p256)
{
    const std::string what = fmt::format("vTPM instance {}", instance);
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) != 0) {
        return problem(fmt::format("{}: cannot make a pipe: {}", what, std::strerror(errno)));
    }
    const pid_t child = ::fork();
    if (child < 0) {
        const int error = errno;
        ::close(ends[0]);
        ::close(ends[1]);
        return problem(fmt::format("{}: cannot start a process: {}", what, std::strerror(error)));
    }
    if (child == 0) {
        Bytes result;
        try {
            const auto made = manufacture_here(private_folder, instance, store_key, certify, ek_p256);
            result = made ? pack(*made) : pack_problem(made.error());
        } catch (const std::exception &error) {
            result = pack_problem(error.what());
        }
        ::_exit(write_all(ends[1], result) ? 0 : 1);
    }
    ::close(ends[1]);
    const Bytes result = read_all(ends[0]);
    ::close(ends[0]);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (result.empty() || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return problem(fmt::format("{}: the process that makes it ended {} without a result", what,
                                   WIFSIGNALED(status) ? fmt::format("by signal {}", WTERMSIG(status))
                                                       : fmt::format("with status {}", WEXITSTATUS(status))));
    }
    auto made = unpack(result);
    if (!made) {
        return problem(fmt::format("{} could not be made: {}", what, made.error()));
    }
    return made;
}

void set_public_folder(attest::PlatformOptions &options)
{
    if (options.public_folder.empty()) {
        fs::path place = options.private_folder.lexically_normal();
        place = place.has_filename() ? place : place.parent_path();
        options.public_folder = place.string() + "-public";
    }
}

} // namespace

Expected<attest::ManufacturedInstance> manufacture_instance(const fs::path &private_folder, unsigned instance,
                                                            const attest::StoreKeyBytes &store_key,
                                                            const attest::CertifyInstance &certify)
{
    return manufacture_beside(private_folder, instance, store_key, certify, false);
}

Expected<attest::ManufacturedInstance> manufacture_instance_with_p256(const fs::path &private_folder, unsigned instance,
                                                                      const attest::StoreKeyBytes &store_key,
                                                                      const attest::CertifyInstance &certify)
{
    return manufacture_beside(private_folder, instance, store_key, certify, true);
}

void add_platform(CLI::App &app, Exit &exit)
{
    CLI::App *platform = app.add_subcommand("platform", "make, extend or show a machine's keys and certificates");
    platform->require_subcommand(1);

    auto options = std::make_shared<attest::PlatformOptions>();
    CLI::App *make = platform->add_subcommand("new", "make keys, vTPM instances and certificates");
    make->add_option("DIR", options->private_folder, "private folder, to be made")->required();
    make->add_option("--public", options->public_folder, "folder for what others may see (default: DIR-public)")
        ->type_name("DIR2");
    make->add_option("--instances", options->instances, "vTPM instances, 0 to N-1; 0 is the hypervisor's (default: 16)")
        ->type_name("N")
        ->check(CLI::Range(1u, attest::kInstancesMax));
    auto p256 = std::make_shared<bool>(false);
    make->add_flag("--ek-p256", *p256, "with an ECC P-256 endorsement key in each instance, and its certificate");
    make->add_option("--ca", options->manufacturer, "ca folder that certifies it (banyan vtpm ca; default: a new one)")
        ->type_name("DIR3");
    make->callback([options, p256, &exit] {
        set_public_folder(*options);
        if (const auto made =
                attest::new_platform(*options, *p256 ? manufacture_instance_with_p256 : manufacture_instance);
            !made) {
            fmt::print(stderr, "banyan: {}\n", made.error());
            exit = Exit::kEnvironment;
            return;
        }
        fmt::print("private: {} (keys; never give it away)\npublic:  {} (hand out {})\n",
                   options->private_folder.string(), options->public_folder.string(),
                   (options->public_folder / "manufacturer.pem").string());
    });

    auto grown = std::make_shared<attest::PlatformOptions>();
    auto grown_p256 = std::make_shared<bool>(false);
    CLI::App *add = platform->add_subcommand("add", "give a platform more vTPM instances");
    add->add_option("DIR", grown->private_folder, "private folder")->required();
    add->add_option("--public", grown->public_folder, "its public folder (default: DIR-public)")->type_name("DIR2");
    add->add_option("--instances", grown->instances, "how many it shall have then")
        ->type_name("N")
        ->required()
        ->check(CLI::Range(1u, attest::kInstancesMax));
    add->add_flag("--ek-p256", *grown_p256, "with an ECC P-256 endorsement key in each new one");
    add->callback([grown, grown_p256, &exit] {
        set_public_folder(*grown);
        const auto added = attest::add_instances(grown->private_folder, grown->public_folder, grown->instances,
                                                 *grown_p256 ? manufacture_instance_with_p256 : manufacture_instance);
        if (!added) {
            fmt::print(stderr, "banyan: {}\n", added.error());
            exit = Exit::kEnvironment;
            return;
        }
        fmt::print("{} instance{} made\n", *added, *added == 1 ? "" : "s");
    });

    auto folder = std::make_shared<fs::path>();
    CLI::App *show = platform->add_subcommand("show", "what a platform's public folder says");
    show->add_option("DIR", *folder, "public folder")->required();
    show->callback([folder, &exit] {
        const auto facts = attest::read_public_platform(*folder);
        if (!facts) {
            fmt::print(stderr, "banyan: {}\n", facts.error());
            exit = attest::private_folder_around(*folder) ? Exit::kUsage : Exit::kEnvironment;
            return;
        }
        fmt::print("class:     {}\nmachine:   {}\nroot:      {}\n           SHA-256 {}\ninstances: {}\n",
                   facts->platform_class, attest::to_hex(facts->machine), facts->root_subject,
                   attest::to_hex(facts->root_fingerprint), facts->instances);
    });
}

} // namespace banyan::tool
