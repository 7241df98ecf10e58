// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/evidence_folder.hpp"

#include <fstream>
#include <set>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tool/io.hpp"
#include "tool/json_access.hpp"

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;

/// What a run of ours left in `folder`: names in it. Nothing when there is no sign of one.
std::set<std::string> ours_in(const fs::path &folder)
{
    std::set<std::string> names;
    std::ifstream in(folder / "owner/run.json");
    const auto run = nlohmann::json::parse(in, nullptr, false);
    if (!run.is_object() || !run.contains("vms") || !run["vms"].is_array()) {
        return names;
    }
    names = {"owner", "consoles", "hypervisor.log", "qemu.log"};
    for (const auto &vm : run["vms"]) {
        const std::string name = text_member(vm, "name");
        if (!name.empty() && name.find('/') == std::string::npos && name.front() != '.') {
            names.insert(name);
        }
    }
    return names;
}

} // namespace

Outcome<void> prepare_evidence(const fs::path &folder, const Plan &plan)
{
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) {
        return failed(Exit::kEnvironment,
                      fmt::format("cannot make the evidence folder {}: {}", folder.string(), error.message()));
    }
    const std::set<std::string> ours = ours_in(folder);
    for (const auto &entry : fs::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        if (ours.count(name) == 0) {
            return failed(Exit::kUsage,
                          fmt::format("the evidence folder {} holds something else ({}); name an empty or a new folder",
                                      folder.string(), name));
        }
    }
    for (const std::string &name : ours) {
        fs::remove_all(folder / name, error);
    }
    fs::create_directories(folder / "consoles", error);
    nlohmann::json vms = nlohmann::json::array();
    for (const VmPlan &vm : plan.vms) {
        fs::create_directories(folder / vm.vm.name, error);
        fs::create_directories(folder / "owner" / vm.vm.name, error);
        vms.push_back({{"name", vm.vm.name}});
    }
    if (error) {
        return failed(Exit::kEnvironment,
                      fmt::format("cannot make folders in {}: {}", folder.string(), error.message()));
    }
    // Until the run is over. It marks the folder as ours.
    const nlohmann::json run{{"schema", 1}, {"exit", nullptr}, {"vms", vms}};
    return write_file(folder / "owner/run.json", run.dump(2) + "\n");
}

Outcome<void> copy_chain(const fs::path &folder, const fs::path &platform_public)
{
    std::error_code error;
    fs::copy_file(platform_public / "chain.pem", folder / "owner/chain.pem", fs::copy_options::overwrite_existing,
                  error);
    if (error) {
        return failed(Exit::kEnvironment, fmt::format("cannot copy {} into the evidence: {}",
                                                      (platform_public / "chain.pem").string(), error.message()));
    }
    return {};
}

} // namespace banyan::tool
