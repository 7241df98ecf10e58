// SPDX-License-Identifier: GPL-2.0-or-later
// banyan vtpm ca: the authority that certifies the keys of emulated TPMs.
#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "attest/evidence.hpp"
#include "attest/platform.hpp"
#include "tool/cmd_vtpm.hpp"

namespace banyan::tool {

namespace {

void show(const char *what, const attest::Certificate &certificate)
{
    fmt::print("{} {}\n             SHA-256 {}\n", what, certificate.subject_text(),
               attest::to_hex(attest::digest_bytes(certificate.der()).sha256));
}

} // namespace

void add_vtpm_ca(CLI::App &vtpm, Exit &exit)
{
    struct Request {
        std::filesystem::path folder;
        std::string platform_class = "served";
        bool pem = false;
    };
    auto request = std::make_shared<Request>();
    CLI::App *command = vtpm.add_subcommand("ca", "make or show the authority that certifies emulated TPMs' keys");
    command->add_option("DIR", request->folder, "its folder: made if it is not there; holds private keys")->required();
    command
        ->add_option("--class", request->platform_class,
                     "class that a new one's intermediate certifies first (default: served)")
        ->check(CLI::IsMember({"machine", "served", "test"}));
    command->add_flag("--pem", request->pem, "print the root and the intermediate certificate as PEM, nothing else");
    command->callback([request, &exit] {
        const auto ca = attest::hold_manufacturer(request->folder, request->platform_class);
        if (!ca) {
            fmt::print(stderr, "banyan: {}\n", ca.error());
            exit = Exit::kEnvironment;
            return;
        }
        if (request->pem) {
            fmt::print("{}{}", ca->root.pem(), ca->intermediate.pem());
            return;
        }
        show("root:        ", ca->root);
        show("intermediate:", ca->intermediate);
        fmt::print("It certifies emulators: its keys lie in files of {}, in no hardware.\n", request->folder.string());
    });
}

} // namespace banyan::tool
