// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/verdict.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "attest/bytes.hpp"
#include "attest/verify.hpp"

namespace banyan::tool {

namespace {

/// No evidence can be judged; that is nobody's evidence's fault.
std::vector<Verdict> cannot_judge(const Machine &machine, const std::string &why)
{
    std::vector<Verdict> verdicts(machine.vms.size());
    for (Verdict &verdict : verdicts) {
        verdict.reason = why;
    }
    return verdicts;
}

PcrValues pcr_values(const attest::Verdict::Table &table)
{
    PcrValues values;
    for (const auto &[bank, pcrs] : table) {
        for (const auto &[index, hex] : pcrs) {
            values[bank][fmt::format("{}", index)] = hex;
        }
    }
    return values;
}

} // namespace

std::vector<Verdict> verify_evidence(const Machine &machine, const std::filesystem::path &evidence)
{
    const auto predicted = references(machine);
    if (!predicted) {
        return cannot_judge(machine, predicted.error());
    }
    const std::filesystem::path root = machine.platform_public / "manufacturer.pem";
    constexpr std::size_t kMost = std::size_t{256} * 1024;
    const auto pem = attest::read_file(root, kMost);
    if (!pem) {
        return cannot_judge(machine, pem.error());
    }
    const auto anchors = attest::TrustAnchors::from_pem(*pem);
    if (!anchors) {
        return cannot_judge(machine, fmt::format("{}: {}", root.string(), anchors.error()));
    }
    std::vector<Verdict> verdicts;
    for (const attest::Verdict &verdict :
         attest::verify_folder(evidence, evidence / attest::kOwnerFolder, *predicted, *anchors)) {
        Verdict &out = verdicts.emplace_back();
        out.kind = verdict.attested ? Verdict::Kind::kAttested : Verdict::Kind::kRefused;
        if (!verdict.attested) {
            out.reason = fmt::format("{}: {}", attest::name_of(verdict.broken), verdict.reason);
        }
        out.pcrs = pcr_values(verdict.pcrs);
        out.expected = pcr_values(verdict.expected);
    }
    return verdicts;
}

} // namespace banyan::tool
