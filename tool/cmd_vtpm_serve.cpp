// SPDX-License-Identifier: GPL-2.0-or-later
// banyan vtpm serve: TPMs for whoever speaks swtpm's or the simulator's protocol. docs/vtpm-serve.md.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "attest/platform.hpp"
#include "tool/cmd_platform.hpp"
#include "tool/cmd_vtpm.hpp"
#include "tool/io.hpp"
#include "tool/machine.hpp"
#include "vtpm/engine/tpm_life.hpp"
#include "vtpm/serve/server.hpp"

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;

struct ServeRequest {
    vtpm::ServerOptions server;
    fs::path state;        // empty: for this run only
    fs::path manufacturer; // ca/ folder, empty: one of its own
    fs::path engine;       // empty: ours
    std::string sandbox;   // "full" or empty
    bool ek_p256 = false;  // in a platform that is made
    bool json = false;
};

constexpr std::string_view kFullSandbox = "seccomp+landlock+namespaces";

tl::unexpected<Failure> environment(std::string text)
{
    return failed(Exit::kEnvironment, std::move(text));
}

/// The platform whose instances are served: made here if it is not there, and of class served in any case.
Outcome<attest::PlatformFacts> served_platform(const ServeRequest &request, const fs::path &folder)
{
    std::error_code error;
    if (!fs::exists(folder / "private", error)) {
        attest::PlatformOptions options;
        options.private_folder = folder / "private";
        options.public_folder = folder / "public";
        options.instances = request.server.instances;
        options.platform_class = attest::kClassServed;
        options.manufacturer = request.manufacturer;
        if (const auto made =
                attest::new_platform(options, request.ek_p256 ? manufacture_instance_with_p256 : manufacture_instance);
            !made) {
            return environment(made.error());
        }
    }
    auto facts = attest::read_public_platform(folder / "public");
    if (!facts) {
        return environment(facts.error());
    }
    if (facts->platform_class != attest::kClassServed) {
        return failed(Exit::kUsage, fmt::format("the platform in {} is of class {}; only one of class served is given "
                                                "to clients: name a new folder with --state",
                                                folder.string(), facts->platform_class));
    }
    if (facts->instances < request.server.instances) {
        return environment(fmt::format("the platform in {} has {} instances, not {}; name a new folder with --state, "
                                       "or ask for fewer",
                                       folder.string(), facts->instances, request.server.instances));
    }
    return *facts;
}

vtpm::TpmInformation information()
{
    vtpm::TpmInformation text;
    for (std::size_t flags = 0; flags < text.size(); ++flags) {
        text[flags] = vtpm::TpmLife::information((flags & 1) != 0, (flags & 2) != 0);
    }
    return text;
}

std::string qemu_options(const vtpm::Endpoints &at, std::size_t instance)
{
    return fmt::format("-chardev socket,id=tpm{0},path={1} -tpmdev emulator,id=vtpm{0},chardev=tpm{0} "
                       "-device tpm-tis,tpmdev=vtpm{0}",
                       instance, at.control);
}

std::vector<std::string> tctis(const vtpm::Endpoints &at)
{
    std::vector<std::string> all{"swtpm:path=" + at.data}; // tpm2-tss 4.0 and later
    if (at.tcp != 0) {
        all.push_back(fmt::format("swtpm:host=127.0.0.1,port={}", at.tcp));
    }
    if (!at.mssim.empty()) {
        all.push_back("mssim:path=" + at.mssim);
        all.push_back(fmt::format("mssim:host=127.0.0.1,port={}", at.mssim_tcp));
    }
    return all;
}

void announce(const ServeRequest &request, const vtpm::Server &server, const std::string &sandbox,
              const fs::path &public_folder)
{
    const auto &endpoints = server.endpoints();
    if (request.json) {
        nlohmann::json report{{"schema", 1},
                              {"class", attest::kClassServed},
                              {"sandbox", sandbox},
                              {"public", public_folder.string()},
                              {"instances", nlohmann::json::array()}};
        for (std::size_t i = 0; i < endpoints.size(); ++i) {
            const vtpm::Endpoints &at = endpoints[i];
            nlohmann::json one{{"instance", i},
                               {"data", at.data},
                               {"control", at.control},
                               {"qemu", qemu_options(at, i)},
                               {"tcti", tctis(at)}};
            if (at.tcp != 0) {
                one["tcp"] = at.tcp;
            }
            if (!at.mssim.empty()) {
                one["mssim"] = {{"command", at.mssim}, {"platform", at.mssim + ".ctrl"}, {"tcp", at.mssim_tcp}};
            }
            report["instances"].push_back(std::move(one));
        }
        fmt::print("{}\n", report.dump());
    } else {
        fmt::print("class served, sandbox {}, certificates in {}\n", sandbox, public_folder.string());
        fmt::print("{:<10}{:<44}{:<44}{}\n", "instance", "TCTI", "control socket", "QEMU");
        for (std::size_t i = 0; i < endpoints.size(); ++i) {
            const auto all = tctis(endpoints[i]);
            fmt::print("{:<10}{:<44}{:<44}{}\n", i, all.back(), endpoints[i].control, qemu_options(endpoints[i], i));
        }
    }
    std::fflush(stdout);
}

Outcome<Exit> serve(const ServeRequest &request)
{
    std::optional<RunFolder> own;
    fs::path folder = request.state;
    if (folder.empty()) {
        auto made = RunFolder::make();
        if (!made) {
            return tl::unexpected<Failure>(made.error());
        }
        own.emplace(std::move(*made));
        folder = own->path();
    }
    if (auto platform = served_platform(request, folder); !platform) {
        return tl::unexpected<Failure>(std::move(platform.error()));
    }
    vtpm::EngineLink::Options options;
    options.engine = (request.engine.empty() ? Places::of_executable().bin / "banyan-vtpm-engine" : request.engine);
    options.platform = folder / "private";
    options.instances = request.server.instances;
    std::string why;
    const auto engine = vtpm::EngineLink::start(options, why);
    if (!engine) {
        return environment(why);
    }
    const std::string sandbox = (*engine)->sandbox();
    if (!request.sandbox.empty() && sandbox != kFullSandbox) {
        return environment(fmt::format("the engine's sandbox is {}, not {}: this kernel or container forbids the rest; "
                                       "serve without --require-sandbox, or elsewhere",
                                       sandbox, kFullSandbox));
    }
    const vtpm::TpmInformation text = information();
    auto server = vtpm::Server::open(request.server, text, **engine);
    if (!server) {
        return environment(server.error());
    }
    announce(request, **server, sandbox, folder / "public");
    switch ((*server)->run()) {
    case vtpm::Server::End::kTerminated:
        return Exit::kOk;
    case vtpm::Server::End::kInterrupted:
        return Exit::kInterrupted;
    case vtpm::Server::End::kEngineDied:
        return environment("the vTPM engine has ended; what was acknowledged is stored");
    }
    return Exit::kBug;
}

} // namespace

void add_vtpm_serve(CLI::App &vtpm, Exit &exit)
{
    auto request = std::make_shared<ServeRequest>();
    CLI::App *command = vtpm.add_subcommand("serve", "offer TPMs by swtpm's and the simulator's protocols");
    command->add_option("--instances", request->server.instances, "how many TPMs (default: 1)")
        ->type_name("N")
        ->check(CLI::Range(1u, attest::kInstancesMax));
    command->add_option("--dir", request->server.folder, "folder for the sockets, made with mode 0700")
        ->type_name("DIR")
        ->required();
    command
        ->add_option("--state", request->state,
                     "folder of a platform of class served, made if it is not there; "
                     "without it the TPMs live as long as the server")
        ->type_name("DIR");
    command->add_option("--manufacturer", request->manufacturer, "ca folder that certifies a platform that is made")
        ->type_name("DIR");
    command->add_flag("--ek-p256", request->ek_p256, "ECC P-256 endorsement keys too, in a platform that is made");
    command->add_flag("--drtm-by-client", request->server.policy.drtm_by_client,
                      "clients may use locality 4 and the hash commands");
    command->add_flag("--allow-state-export", request->server.policy.state_export,
                      "clients may read and replace a TPM's whole state, secrets included");
    command->add_flag("--power-on", request->server.power_on, "power on at once, not at the client's init");
    command->add_flag("--startup", request->server.policy.startup, "each power-on issues TPM2_Startup(CLEAR)");
    command->add_flag("--tcp", request->server.tcp, "swtpm's sockets on 127.0.0.1 as well, two ports an instance");
    command->add_flag("--mssim", request->server.mssim, "the simulator's sockets, UNIX and on 127.0.0.1");
    command->add_option("--require-sandbox", request->sandbox, "fail if the engine's sandbox is less")
        ->check(CLI::IsMember({"full"}));
    command->add_option("--engine", request->engine, "another banyan-vtpm-engine than the one built here")
        ->type_name("FILE");
    command->add_flag("--json", request->json, "what is offered as one line of JSON");
    command->callback([request, &exit] {
        const auto done = serve(*request);
        exit = done ? *done : done.error().exit;
        if (!done) {
            fmt::print(stderr, "banyan: {}\n", done.error().text);
        }
    });
}

} // namespace banyan::tool
