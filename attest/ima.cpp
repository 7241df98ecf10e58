// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/ima.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace banyan::attest {

namespace {

static_assert(std::endian::native == std::endian::little, "IMA's template data is in the machine's order");

constexpr unsigned kAggregated = 10; // PCR 0 to 9, Linux 6.1 security/integrity/ima/ima_crypto.c

enum class Template { kImaSig, kImaNg };
constexpr std::array kTemplates{Template::kImaSig, Template::kImaNg};

void put_field(Bytes &out, View field)
{
    const auto size = static_cast<std::uint32_t>(field.size());
    std::array<std::uint8_t, sizeof(size)> head{};
    std::memcpy(head.data(), &size, sizeof(size));
    out.insert(out.end(), head.begin(), head.end());
    out.insert(out.end(), field.begin(), field.end());
}

Bytes boot_aggregate()
{
    return hash(Bank::kSha256, Bytes(kAggregated * digest_size(Bank::kSha256)));
}

/// Documentation/security/IMA-templates.rst: "ima-ng" is d-ng|n-ng, "ima-sig" is d-ng|n-ng|sig.
Bytes template_data(Template kind)
{
    constexpr std::string_view kAlgorithm{"sha256:\0", 8};
    constexpr std::string_view kFile{"boot_aggregate\0", 15};
    const Bytes digest = boot_aggregate();
    Bytes d_ng(view_of(kAlgorithm).begin(), view_of(kAlgorithm).end());
    d_ng.insert(d_ng.end(), digest.begin(), digest.end());
    Bytes data;
    put_field(data, d_ng);
    put_field(data, view_of(kFile));
    if (kind == Template::kImaSig) {
        put_field(data, {});
    }
    return data;
}

std::string expected_line(Template kind)
{
    // The kernel ends the line of an empty signature with a space.
    const bool with_signature = kind == Template::kImaSig;
    return "10 " + to_hex(hash(Bank::kSha1, template_data(kind))) + (with_signature ? " ima-sig" : " ima-ng") +
           " sha256:" + to_hex(boot_aggregate()) + " boot_aggregate" + (with_signature ? " " : "");
}

} // namespace

std::vector<Bytes> predicted_ima_values(Bank bank)
{
    const Bytes zero(digest_size(bank));
    std::vector<Bytes> values{zero};
    for (const Template kind : kTemplates) {
        const Bytes data = template_data(kind);
        Bytes padded = hash(Bank::kSha1, data); // the kernel has no hash of this bank so early
        padded.resize(digest_size(bank));
        const Bytes native = extend(bank, zero, hash(bank, data));
        if (bank == Bank::kSha384) {
            values.push_back(extend(bank, zero, padded));
        }
        values.push_back(native);
    }
    return values;
}

std::optional<std::string> first_unexpected_ima_line(std::string_view log)
{
    for (bool first = true; !log.empty(); first = false) {
        const std::size_t end = std::min(log.find('\n'), log.size());
        const std::string_view line = log.substr(0, end);
        log.remove_prefix(std::min(end + 1, log.size()));
        const auto is_line = [&](Template kind) { return line == expected_line(kind); };
        if (!first || std::ranges::none_of(kTemplates, is_line)) {
            return std::string(line);
        }
    }
    return std::nullopt;
}

} // namespace banyan::attest
