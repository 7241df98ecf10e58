// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/cmd_verify.hpp"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>

#include <fmt/format.h>

#include "attest/evidence.hpp"
#include "tool/commands.hpp"
#include "tool/machine.hpp"

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kInsecure = "insecure:";

/// A verifier that reads keys could be made to leak them, and its user would get used to having them at hand.
Outcome<void> refuse_private(const fs::path &path, const char *option)
{
    if (const auto around = attest::private_folder_around(path)) {
        return failed(Exit::kUsage,
                      fmt::format("{} {}: {} is a platform's private folder, and a verifier must not read there; use "
                                  "the public one",
                                  option, path.string(), around->string()));
    }
    return {};
}

Outcome<attest::TrustAnchors> read_anchors(const fs::path &path)
{
    constexpr std::size_t kMost = std::size_t{256} * 1024;
    const auto pem = attest::read_file(path, kMost);
    if (!pem) {
        return failed(Exit::kEnvironment, fmt::format("--trust: {}", pem.error()));
    }
    auto anchors = attest::TrustAnchors::from_pem(*pem);
    if (!anchors) {
        return failed(Exit::kUsage, fmt::format("--trust {}: {}", path.string(), anchors.error()));
    }
    return std::move(*anchors);
}

} // namespace

Outcome<std::vector<attest::Verdict>> verify(const VerifyRequest &request)
{
    const fs::path owner = request.owner.empty() ? request.evidence / attest::kOwnerFolder : request.owner;
    for (const auto &[path, option] : {std::pair{request.trust, "--trust"}, std::pair{request.evidence, "--evidence"},
                                       std::pair{owner, "--owner"}}) {
        if (auto checked = refuse_private(path, option); !checked) {
            return tl::unexpected(checked.error());
        }
    }
    std::vector<std::string> accepted;
    for (const std::string &name : request.accept) {
        if (name.substr(0, kInsecure.size()) != kInsecure || name.size() == kInsecure.size()) {
            return failed(Exit::kUsage, fmt::format("--accept {}: it is written insecure:NAME", name));
        }
        accepted.push_back(name.substr(kInsecure.size()));
    }
    const auto anchors = read_anchors(request.trust);
    if (!anchors) {
        return tl::unexpected(anchors.error());
    }
    const auto machine = read_machine(request.machine_file, Places::of_executable());
    if (!machine) {
        return tl::unexpected(machine.error());
    }
    auto predicted = references(*machine);
    if (!predicted) {
        return failed(Exit::kEnvironment, predicted.error());
    }
    for (attest::VmReference &reference : *predicted) {
        reference.accept_insecure.insert(reference.accept_insecure.end(), accepted.begin(), accepted.end());
    }
    std::error_code error;
    if (!fs::is_directory(request.evidence, error)) {
        return failed(Exit::kEnvironment,
                      fmt::format("--evidence {}: there is no such folder", request.evidence.string()));
    }
    if (!fs::is_regular_file(owner / "chain.pem", error)) {
        return failed(
            Exit::kEnvironment,
            fmt::format("{} is not there: the owner's records belong into {}, or name their folder with --owner",
                        (owner / "chain.pem").string(), owner.string()));
    }
    return attest::verify_folder(request.evidence, owner, *predicted, *anchors);
}

Exit exit_of(const std::vector<attest::Verdict> &verdicts)
{
    const bool all = !verdicts.empty() && std::ranges::all_of(verdicts, [](const auto &one) { return one.attested; });
    return all ? Exit::kOk : Exit::kRefused;
}

nlohmann::json to_json(const std::vector<attest::Verdict> &verdicts)
{
    const auto table = [](const attest::Verdict::Table &values) {
        nlohmann::json banks = nlohmann::json::object();
        for (const auto &[bank, pcrs] : values) {
            for (const auto &[index, hex] : pcrs) {
                banks[bank][std::to_string(index)] = hex;
            }
        }
        return banks;
    };
    nlohmann::json vms = nlohmann::json::array();
    for (const attest::Verdict &one : verdicts) {
        vms.push_back({{"name", one.name},
                       {"domain", one.domain},
                       {"kernel", one.kernel},
                       {"verdict", one.attested ? "attested" : "refused"},
                       {"link", attest::name_of(one.broken)},
                       {"reason", one.reason},
                       {"pcrs", table(one.pcrs)},
                       {"expected", table(one.expected)}});
        if (one.restores != 0) {
            vms.back()["restores"] = one.restores;
        }
    }
    return {{"schema", 1}, {"verdict", exit_of(verdicts) == Exit::kOk ? "attested" : "refused"}, {"vms", vms}};
}

std::string to_table(const std::vector<attest::Verdict> &verdicts)
{
    constexpr std::size_t kDigits = 16; // of a PCR, enough to compare by eye
    std::vector<std::array<std::string, 5>> rows{{"VM", "domain", "kernel", "PCR 17 (sha256)", "verdict"}};
    for (const attest::Verdict &one : verdicts) {
        std::string pcr = "-";
        if (const auto bank = one.pcrs.find("sha256"); bank != one.pcrs.end()) {
            pcr = bank->second.at(17).substr(0, kDigits) + "…";
        }
        rows.push_back({one.name, std::to_string(one.domain), one.kernel, pcr,
                        one.attested ? "attested" : fmt::format("refused ({})", attest::name_of(one.broken))});
    }
    const auto width = [](const std::string &text) { // of what is shown: "…" is three bytes
        return static_cast<std::size_t>(
            std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
    };
    std::string text;
    for (const auto &row : rows) {
        std::string line;
        for (std::size_t column = 0; column < row.size(); ++column) {
            std::size_t widest = 0;
            for (const auto &other : rows) {
                widest = std::max(widest, width(other[column]));
            }
            line += row[column] + std::string(widest - width(row[column]) + 2, ' ');
        }
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    }
    for (const attest::Verdict &one : verdicts) {
        if (!one.attested) {
            text += fmt::format("{}: {}\n", one.name, one.reason);
        } else if (one.restores != 0) {
            text += fmt::format("{}: accepted with a TPM that was brought back from a snapshot, {} in all\n", one.name,
                                one.restores);
        }
    }
    return text;
}

void add_verify(CLI::App &app, Exit &exit)
{
    auto request = std::make_shared<VerifyRequest>();
    CLI::App *command = app.add_subcommand("verify", "verify evidence against the files of a machine, offline");
    command->add_option("--evidence", request->evidence, "evidence folder (docs/spec/evidence.md)")
        ->type_name("DIR")
        ->required();
    command->add_option("--machine", request->machine_file, "the owner's machine file")->type_name("FILE")->required();
    command->add_option("--trust", request->trust, "root certificate, manufacturer.pem of a platform's public folder")
        ->type_name("PEM")
        ->required();
    command->add_option("--owner", request->owner, "the owner's records, if not in DIR/owner")->type_name("DIR");
    command->add_option("--accept", request->accept, "accept a weakened protection, by name")
        ->type_name("insecure:NAME")
        ->take_all();
    command->add_option("--json", request->json, "write the verdicts (\"-\": to standard output)")->type_name("FILE");
    command->callback([request, &exit] {
        const auto verdicts = verify(*request);
        if (!verdicts) {
            fmt::print(stderr, "banyan: {}\n", verdicts.error().text);
            exit = verdicts.error().exit;
            return;
        }
        exit = exit_of(*verdicts);
        const std::string json = to_json(*verdicts).dump(2) + "\n";
        if (request->json == "-") {
            fmt::print("{}", json);
            return;
        }
        fmt::print("{}", to_table(*verdicts));
        if (!request->json.empty()) {
            std::ofstream file(request->json, std::ios::binary | std::ios::trunc);
            file << json;
            if (!file.flush()) {
                fmt::print(stderr, "banyan: cannot write {}\n", request->json.string());
                exit = Exit::kEnvironment;
            }
        }
    });
}

} // namespace banyan::tool
