// SPDX-License-Identifier: GPL-2.0-or-later
#include <span>
#include <string_view>

#include "cpu-ext/domain/domain_table.hpp"

// The domain table as JSON, for people and tools. Only numbers, hex and words of ours: a name is printed after SEAL has
// found it to be [a-z0-9-].

namespace banyan::domain {

namespace {

constexpr std::array<std::string_view, 6> kStateNames{"empty", "building", "sealed", "running", "stopping", "dirty"};
constexpr std::array<std::string_view, 7> kReasonNames{"none",    "poweroff", "reboot", "shutdown",
                                                       "stopped", "sibling",  "reset"};
constexpr std::array<std::string_view, kDeniedKinds> kDeniedNames{"port", "mmio", "interrupt", "msr", "dma"};
constexpr std::array<std::string_view, kExitCauses> kExitNames{"stop_line", "shutdown", "sibling", "other"};

void text(std::string &out, std::string_view key, std::string_view value)
{
    out.append("\"").append(key).append("\":\"").append(value).append("\"");
}

template <typename Number>
void number(std::string &out, std::string_view key, Number value)
{
    out.append("\"").append(key).append("\":").append(std::to_string(value));
}

void hex(std::string &out, std::string_view key, std::span<const std::uint8_t> bytes)
{
    constexpr std::string_view kDigits = "0123456789abcdef";
    out.append("\"").append(key).append("\":\"");
    for (const std::uint8_t byte : bytes) {
        out.push_back(kDigits[byte >> 4]);
        out.push_back(kDigits[byte & 15]);
    }
    out.append("\"");
}

template <typename Counts, std::size_t N>
void counts(std::string &out, const Counts &values, const std::array<std::string_view, N> &names)
{
    for (std::size_t i = 0; i < N; ++i) {
        out.append(i == 0 ? "" : ",");
        number(out, names[i], static_cast<std::uint64_t>(values[i]));
    }
}

void launch(std::string &out, const LaunchTimes &times, const Digest &slb)
{
    out.append("{");
    number(out, "start_ns", times.start_ns);
    out.append(",");
    number(out, "hash_start_ns", times.hash_start_ns);
    out.append(",");
    number(out, "hash_end_ns", times.hash_end_ns);
    out.append(",");
    number(out, "entry_ns", times.entry_ns);
    out.append(",");
    number(out, "wait_for_other_domain_ns", times.wait_for_other_domain_ns);
    out.append(",");
    hex(out, "slb_sha384", slb);
    out.append("}");
}

} // namespace

std::string DomainTable::json(std::int64_t now_ns) const
{
    const auto launch_of = [](std::string &out, const Domain &domain) {
        number(out, "launch_count", domain.launch_count);
        out.append(",\"launch\":");
        if (domain.launch_count == 0) {
            out.append("null");
        } else {
            launch(out, domain.times, domain.slb);
        }
    };
    const auto denied_of = [](std::string &out, const Shared &shared) {
        out.append(",\"denied\":{");
        counts(out, shared.denied, kDeniedNames);
        out.append("}");
    };

    std::string out = "{\"schema\":1,";
    number(out, "virtual_ns", static_cast<std::uint64_t>(now_ns));
    out.append(",");
    number(out, "insecure", insecure_);
    out.append(",");
    number(out, "unmarked", unmarked_);
    out.append(",\"host\":{");
    launch_of(out, domains_[0]);
    denied_of(out, shared_[0]);
    out.append("},\"domains\":[");
    bool first = true;
    for (std::uint32_t n = 1; n <= dt::kMaxDomains; ++n) {
        const Domain &domain = domains_[n];
        if (domain.phase == Phase::kEmpty && domain.start_count == 0) {
            continue; // never used
        }
        out.append(first ? "{" : ",{");
        first = false;
        number(out, "domain", n);
        out.append(",");
        text(out, "name", domain.name.data());
        out.append(",");
        text(out, "state", kStateNames[static_cast<std::size_t>(visible(domain.phase))]);
        out.append(",\"sealing\":").append(domain.phase == Phase::kSealing ? "true" : "false").append(",");
        text(out, "reason", kReasonNames[static_cast<std::size_t>(domain.reason)]);
        out.append(",");
        number(out, "status", static_cast<std::uint32_t>(domain.status));
        out.append(",\"broken_rule\":");
        if (domain.broken == Rule::kNone) {
            out.append("null");
        } else {
            std::string quoted;
            for (const char c : fact_of(domain.broken).text) {
                quoted.append(c == '"' ? "\\" : "").push_back(c);
            }
            out.append("\"").append(quoted).append("\"");
        }
        out.append(",");
        number(out, "instance", domain.descriptor.vtpm_instance);
        out.append(",\"further_instances\":[");
        for (std::uint32_t w = 1; w < dt::kVtpmWindows && dt::vtpm_behind(domain.descriptor, w) != 0; ++w) {
            out.append(w == 1 ? "" : ",").append(std::to_string(dt::vtpm_behind(domain.descriptor, w)));
        }
        out.append("],");
        number(out, "core_mask", domain.descriptor.core_mask);
        out.append(",");
        number(out, "cores_inside", shared_[n].inside.load(std::memory_order_relaxed));
        out.append(",");
        hex(out, "digest", domain.digest);
        out.append(",");
        number(out, "start_count", domain.start_count);
        out.append(",");
        launch_of(out, domain);
        out.append(",\"exits\":{");
        number(out, "running", domain.stray_exits);
        out.append(",");
        std::uint64_t final_exits = 0;
        for (const std::uint64_t count : domain.exits) {
            final_exits += count;
        }
        number(out, "final", final_exits);
        out.append(",");
        counts(out, domain.exits, kExitNames);
        out.append("}");
        denied_of(out, shared_[n]);
        out.append("}");
    }
    out.append("]}");
    return out;
}

} // namespace banyan::domain
