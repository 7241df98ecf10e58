// SPDX-License-Identifier: GPL-2.0-or-later
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tool/cmd_vtpm.hpp"
#include "vtpm/store/inspect.hpp"

namespace banyan::tool {
namespace {

namespace fs = std::filesystem;
using vtpm::SlotFacts;
using vtpm::StoreFacts;

struct Request {
    fs::path file;
    fs::path platform;
    bool json = false;
};

const char *name_of(SlotFacts::Mac mac)
{
    switch (mac) {
    case SlotFacts::Mac::kUnverified:
        return "unverified";
    case SlotFacts::Mac::kHolds:
        return "holds";
    case SlotFacts::Mac::kFails:
        return "fails";
    }
    return "?";
}

const char *name_of(StoreFacts::Verdict verdict)
{
    switch (verdict) {
    case StoreFacts::Verdict::kUnverified:
        return "unverified";
    case StoreFacts::Verdict::kCurrent:
        return "current";
    case StoreFacts::Verdict::kRolledBack:
        return "rolled-back";
    case StoreFacts::Verdict::kUnanchored:
        return "unanchored";
    case StoreFacts::Verdict::kErased:
        return "erased";
    case StoreFacts::Verdict::kDamaged:
        return "damaged";
    }
    return "?";
}

std::string explain(StoreFacts::Verdict verdict)
{
    switch (verdict) {
    case StoreFacts::Verdict::kUnverified:
        return "unverified: without store.key (--platform DIR) nothing here is known to be true";
    case StoreFacts::Verdict::kCurrent:
        return "current: the state that was acknowledged last";
    case StoreFacts::Verdict::kRolledBack:
        return "rolled back: the state that was acknowledged last is not in it";
    case StoreFacts::Verdict::kUnanchored:
        return "unanchored: the platform's generations file says nothing of this instance";
    case StoreFacts::Verdict::kErased:
        return "erased: the instance is gone, whatever this file holds";
    case StoreFacts::Verdict::kDamaged:
        return "damaged: no slot holds, or it belongs to another platform";
    }
    return "?";
}

nlohmann::json to_json(const Request &request, const StoreFacts &facts)
{
    nlohmann::json slots = nlohmann::json::array();
    for (const SlotFacts &slot : facts.slots) {
        nlohmann::json one{{"well_formed", slot.well_formed}};
        if (slot.well_formed) {
            one.update({{"instance", slot.instance},
                        {"generation", slot.generation},
                        {"established", slot.established},
                        {"size", slot.size},
                        {"mac", name_of(slot.mac)},
                        {"current", slot.current}});
        }
        slots.push_back(one);
    }
    nlohmann::json json{
        {"schema", 1}, {"file", request.file.string()}, {"verdict", name_of(facts.verdict)}, {"slots", slots}};
    if (facts.anchored && *facts.anchored != vtpm::kErasedGeneration) {
        json["acknowledged"] = *facts.anchored;
    }
    return json;
}

void print_table(const Request &request, const StoreFacts &facts)
{
    fmt::print("{}\n{:<6}{:<10}{:<12}{:<13}{:<9}{:<12}\n", request.file.string(), "slot", "instance", "generation",
               "established", "bytes", "MAC");
    for (unsigned number = 0; number < facts.slots.size(); ++number) {
        const SlotFacts &slot = facts.slots[number];
        if (slot.well_formed) {
            fmt::print("{:<6}{:<10}{:<12}{:<13}{:<9}{:<12}{}\n", number, slot.instance, slot.generation,
                       slot.established ? "yes" : "no", slot.size, name_of(slot.mac), slot.current ? "<- current" : "");
        } else {
            fmt::print("{:<6}empty or torn\n", number);
        }
    }
    if (facts.anchored && *facts.anchored != vtpm::kErasedGeneration) {
        fmt::print("acknowledged: generation {}\n", *facts.anchored);
    }
    fmt::print("{}\n", explain(facts.verdict));
}

/// The key of the platform that was named, or that the file lies in. Empty: none was named, and none is there.
Outcome<std::optional<vtpm::StoreKey>> read_key(const Request &request, fs::path &platform)
{
    std::error_code ignored;
    const bool named = !request.platform.empty();
    platform = named ? request.platform : fs::absolute(request.file, ignored).parent_path().parent_path();
    const fs::path path = platform / "store.key";
    std::ifstream file(path, std::ios::binary);
    std::string raw(vtpm::kStoreKeySize + 1, '\0');
    if (!file.read(raw.data(), static_cast<std::streamsize>(raw.size())) && file.gcount() == vtpm::kStoreKeySize) {
        vtpm::StoreKey key{};
        std::copy_n(raw.begin(), key.size(), key.begin());
        return key;
    }
    if (named) {
        return failed(
            Exit::kEnvironment,
            fmt::format("cannot read the 32 bytes of {}; --platform is a private platform folder", path.string()));
    }
    return std::nullopt;
}

Exit inspect(const Request &request)
{
    const auto complain = [](const std::string &text) {
        fmt::print(stderr, "banyan: {}\n", text);
        return Exit::kEnvironment;
    };
    const auto file = vtpm::open_disk_file(request.file.string(), O_RDONLY);
    if (!file) {
        return complain(fmt::format("cannot open {}: {}", request.file.string(), std::strerror(errno)));
    }
    fs::path platform;
    auto key = read_key(request, platform);
    if (!key) {
        return complain(key.error().text);
    }
    std::shared_ptr<vtpm::StoreFile> generations;
    if (auto opened = vtpm::open_disk_file(vtpm::generations_file(platform.string()), O_RDONLY); *key && opened) {
        generations = std::move(*opened);
    }
    const StoreFacts facts = vtpm::inspect_store(**file, *key ? &**key : nullptr, generations);
    if (*key) {
        vtpm::wipe_key(**key);
    }
    if (request.json) {
        fmt::print("{}\n", to_json(request, facts).dump(2));
    } else {
        print_table(request, facts);
    }
    const bool fine =
        facts.verdict == StoreFacts::Verdict::kCurrent || facts.verdict == StoreFacts::Verdict::kUnverified;
    return fine ? Exit::kOk : Exit::kRefused;
}

} // namespace

void add_vtpm_inspect(CLI::App &vtpm, Exit &exit)
{
    auto request = std::make_shared<Request>();
    CLI::App *verb = vtpm.add_subcommand("inspect", "what a vTPM's state file holds, and whether it is the newest");
    verb->add_option("FILE", request->file, "state file: instances/NNN.nvstore of a private platform folder")
        ->required();
    verb->add_option("--platform", request->platform, "private platform folder (default: the one that FILE lies in)")
        ->type_name("DIR");
    verb->add_flag("--json", request->json, "as JSON");
    verb->callback([request, &exit] { exit = inspect(*request); });
}

} // namespace banyan::tool
