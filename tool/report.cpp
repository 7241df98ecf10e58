// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/report.hpp"

#include <algorithm>
#include <array>
#include <fstream>

#include <fmt/format.h>

#include "tool/json_access.hpp"

namespace banyan::tool {

namespace {

using nlohmann::json;

constexpr std::array kDeniedKinds{"port", "mmio", "interrupt", "msr", "dma"};
constexpr std::array kLaunchTimes{"start_ns", "hash_start_ns", "hash_end_ns", "entry_ns", "wait_for_other_domain_ns"};
constexpr std::array kExits{"running", "final"};
constexpr std::size_t kShortHex = 16;

/// The domain table's entry for a domain; an empty object if it has none.
json counters_of(const json &report, unsigned domain)
{
    const json domains = member(report, "domains");
    for (const json &entry : domains.is_array() ? domains : json::array()) {
        if (member(entry, "domain") == json(domain)) {
            return entry;
        }
    }
    return json::object();
}

/// The named numbers of `from[group]`, null where there is none.
template <std::size_t N>
json numbers(const json &from, const char *group, const std::array<const char *, N> &names)
{
    json out = json::object();
    for (const char *name : names) {
        const json value = member(member(from, group), name);
        out[name] = value.is_number() ? value : json(nullptr);
    }
    return out;
}

/// SHA-384 of the hypervisor as the processor launched it.
json hypervisor_of(const json &report)
{
    const json named = member(report, "hypervisor");
    return named.is_string() ? named : member(member(member(report, "host"), "launch"), "slb_sha384");
}

/// Names of what weakens the platform; the domain table gives bits of enum banyan_insecure.
json insecure_names(const json &report)
{
    static constexpr std::array kNames{"debug",          "dma-drain",   "device-interrupts",
                                       "serial-arbiter", "test-engine", "rollback-report"};
    json insecure = member(report, "insecure");
    if (insecure.is_array()) {
        return insecure;
    }
    json names = json::array();
    const std::uint64_t bits = insecure.is_number_integer() ? insecure.get<std::uint64_t>() : 0;
    for (std::size_t i = 0; i < kNames.size(); ++i) {
        if ((bits >> i & 1) != 0) {
            names.push_back(kNames[i]);
        }
    }
    if (bits >> kNames.size() != 0) {
        names.push_back("unknown");
    }
    return names;
}

Exit exit_of(const VmResult &vm, const Verdict &verdict)
{
    if (vm.failure) {
        return vm.failure->exit;
    }
    switch (verdict.kind) {
    case Verdict::Kind::kAttested:
        return Exit::kOk;
    case Verdict::Kind::kRefused:
        return Exit::kRefused;
    case Verdict::Kind::kFailed:
        return Exit::kVmFailed;
    }
    return Exit::kBug;
}

std::string text_or(const json &value, const std::string &fallback)
{
    if (value.is_string()) {
        return value.get<std::string>();
    }
    return value.is_number() ? value.dump() : fallback;
}

std::string launch_time(const json &launch)
{
    const json &start = launch["start_ns"];
    const json &entry = launch["entry_ns"];
    if (!start.is_number() || !entry.is_number()) {
        return "-";
    }
    return fmt::format("{:.2f} ms", (entry.get<double>() - start.get<double>()) / 1e6);
}

std::string denied_sum(const json &denied)
{
    std::uint64_t sum = 0;
    bool known = false;
    for (const auto &[kind, count] : denied.items()) {
        if (count.is_number_unsigned()) {
            sum += count.get<std::uint64_t>();
            known = true;
        }
    }
    return known ? fmt::format("{}", sum) : "-";
}

std::string short_pcr17(const json &vm)
{
    const json &pcrs = vm["pcrs"];
    if (!pcrs.contains("sha256") || !pcrs["sha256"].contains("17")) {
        return "-";
    }
    return pcrs["sha256"]["17"].get<std::string>().substr(0, kShortHex);
}

} // namespace

const char *name_of(Verdict::Kind kind)
{
    switch (kind) {
    case Verdict::Kind::kAttested:
        return "attested";
    case Verdict::Kind::kRefused:
        return "refused";
    case Verdict::Kind::kFailed:
        return "failed";
    }
    return "unknown";
}

RunReport make_report(const Plan &plan, const SessionResult &session, const std::vector<Verdict> &verdicts,
                      const RunFacts &facts)
{
    RunReport report;
    std::vector<Exit> exits;
    json vms = json::array();
    for (std::size_t i = 0; i < plan.vms.size(); ++i) {
        const VmPlan &vm = plan.vms[i];
        const VmResult &result = session.vms[i];
        const Verdict &verdict = verdicts[i];
        const json counters = counters_of(session.report, vm.domain);
        exits.push_back(exit_of(result, verdict));
        std::string reason = verdict.reason;
        if (result.failure) { // evidence that was attested does not excuse a VM that hung at its end
            reason = result.failure->text;
        }
        vms.push_back({{"name", vm.vm.name},
                       {"domain", vm.domain},
                       {"kernel", vm.vm.kernel_label},
                       {"verdict", name_of(verdict.kind)},
                       {"reason", reason},
                       {"pcrs", verdict.pcrs},
                       {"expected", verdict.expected},
                       {"launch", numbers(counters, "launch", kLaunchTimes)},
                       {"exits", numbers(counters, "exits", kExits)},
                       {"ended", result.ended.empty() ? json(nullptr) : json(result.ended)},
                       {"denied", numbers(counters, "denied", kDeniedKinds)},
                       {"secret", result.secret.empty() ? json(nullptr) : json(result.secret)}});
    }
    if (session.failure) {
        exits.push_back(session.failure->exit);
    }
    report.exit = fold(exits);
    const json virtual_ns = member(session.report, "virtual_ns"); // none: the server died before it could be asked
    const json virtual_seconds = virtual_ns.is_number() ? json(virtual_ns.get<double>() / 1e9) : json(nullptr);
    report.json = {
        {"schema", 1},
        {"machine", plan.machine.name},
        {"exit", static_cast<int>(report.exit)},
        {"reason", session.failure ? session.failure->text : ""},
        {"vms", std::move(vms)},
        {"hypervisor", hypervisor_of(session.report)},
        {"insecure", insecure_names(session.report)},
        {"qemu", {{"path", facts.qemu_path}, {"version", session.qemu_version}, {"sha256", facts.qemu_digest}}},
        {"wall_seconds", facts.wall_seconds},
        {"virtual_seconds", virtual_seconds},
        {"virtual_clock", facts.host_clock ? "host" : "icount"},
        {"evidence", facts.evidence.empty() ? json(nullptr) : json(facts.evidence)}};
    return report;
}

std::string render_table(const json &report)
{
    std::vector<std::array<std::string, 7>> rows{
        {"name", "kernel", "PCR17", "verdict", "launch", "exits running", "denied"}};
    std::vector<std::pair<std::string, std::string>> reasons;
    for (const json &vm : report["vms"]) {
        rows.push_back({vm["name"].get<std::string>(), vm["kernel"].get<std::string>(), short_pcr17(vm),
                        vm["verdict"].get<std::string>(), launch_time(vm["launch"]),
                        text_or(vm["exits"]["running"], "-"), denied_sum(vm["denied"])});
        // What ended the run for all is said once, by the caller.
        if (const auto reason = vm["reason"].get<std::string>(); !reason.empty() && reason != report["reason"]) {
            reasons.emplace_back(rows.back()[0], reason);
        }
    }
    std::array<std::size_t, 7> widths{};
    for (const auto &row : rows) {
        for (std::size_t column = 0; column < row.size(); ++column) {
            widths[column] = std::max(widths[column], row[column].size());
        }
    }
    std::string out;
    for (const auto &row : rows) {
        std::string line;
        for (std::size_t column = 0; column < row.size(); ++column) {
            const bool number = column >= 4;
            line += number ? fmt::format("{:>{}}", row[column], widths[column])
                           : fmt::format("{:<{}}", row[column], widths[column]);
            line += column + 1 < row.size() ? "  " : "";
        }
        out += line + "\n";
    }
    for (const auto &[name, reason] : reasons) {
        out += fmt::format("{}: {}\n", name, reason);
    }
    return out;
}

} // namespace banyan::tool
