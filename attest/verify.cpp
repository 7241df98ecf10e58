// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/verify.hpp"

#include <algorithm>
#include <optional>

#include "attest/event_log.hpp"
#include "attest/ima.hpp"
#include "attest/pki.hpp"
#include "attest/quote.hpp"
#include "attest/report.hpp"

namespace banyan::attest {

namespace {

constexpr std::uint32_t kAllPcrs = (1u << kPcrCount) - 1;
constexpr unsigned kFirstDynamic = 17; // PCR 17 to 22 are ones until a launch. PTP 1.05, table 4
constexpr unsigned kLastDynamic = 22;

std::string pcr_name(unsigned pcr, Bank bank)
{
    return "PCR " + std::to_string(pcr) + " (" + name_of(bank) + ")";
}

Expected<void> must_equal(std::string_view what, View seen, View expected, std::string_view meaning)
{
    if (same(seen, expected)) {
        return {};
    }
    return problem(std::string(what) + " is " + to_hex(seen) + ", expected " + to_hex(expected) + " (" +
                   std::string(meaning) + ")");
}

Expected<void> must_equal(std::string_view what, std::uint64_t seen, std::uint64_t expected, std::string_view meaning)
{
    if (seen == expected) {
        return {};
    }
    return problem(std::string(what) + " is " + std::to_string(seen) + ", expected " + std::to_string(expected) + " (" +
                   std::string(meaning) + ")");
}

Expected<void> must_equal(std::string_view what, std::string_view seen, std::string_view expected,
                          std::string_view meaning)
{
    if (seen == expected) {
        return {};
    }
    return problem(std::string(what) + " is " + in_quotes(seen) + ", expected " + in_quotes(expected) + " (" +
                   std::string(meaning) + ")");
}

/// The first way in which the log's events are not the predicted ones.
std::optional<std::string> first_difference(const EventLog &log, const std::vector<MeasuredItem> &items)
{
    for (std::size_t i = 0; i < std::max(log.events.size(), items.size()); ++i) {
        if (i >= log.events.size()) {
            return "the event " + in_quotes(items[i].text) + " is missing: it should be number " +
                   std::to_string(i + 1) + ", PCR " + std::to_string(items[i].pcr) + ", of " + items[i].source;
        }
        const Event &event = log.events[i];
        const std::string which = describe(event, i + 1);
        if (i >= items.size()) {
            return which + " should not be there: " + std::to_string(items.size()) + " events are expected";
        }
        const MeasuredItem &item = items[i];
        if (event.pcr != item.pcr || event.type != item.event_type || text_of(event.data) != item.text) {
            const Event wanted{item.pcr, item.event_type, {}, {item.text.begin(), item.text.end()}};
            return which + " is there where " + describe(wanted, i + 1) + " of " + item.source + " is expected";
        }
        for (const Bank bank : {Bank::kSha256, Bank::kSha384, Bank::kSha1}) { // the first is what sha256sum prints
            const auto digest = event.digests.find(bank);
            const View expected = digest_of(item.digests, bank);
            if (digest != event.digests.end() && !same(digest->second, expected)) {
                return which + ": its " + name_of(bank) + " digest is " + to_hex(digest->second) + ", expected " +
                       to_hex(expected) + ", that of " + item.source;
            }
        }
    }
    return std::nullopt;
}

class Verifier {
public:
    Verifier(const EvidenceFiles &evidence, const VmReference &reference, const TrustAnchors &anchors,
             const OwnerRecord &owner)
        : evidence_(evidence),
          reference_(reference),
          anchors_(anchors),
          owner_(owner)
    {
        verdict_.name = reference.name;
        verdict_.domain = reference.domain;
        verdict_.kernel = reference.kernel;
    }

    Verdict run()
    {
        struct Step {
            Link link;
            Expected<void> (Verifier::*check)();
        };
        constexpr std::array kSteps{
            Step{Link::kFiles, &Verifier::read_files},         Step{Link::kChain, &Verifier::check_chains},
            Step{Link::kClass, &Verifier::check_class},        Step{Link::kAk, &Verifier::check_ak},
            Step{Link::kReceipt, &Verifier::check_receipt},    Step{Link::kReport, &Verifier::check_report},
            Step{Link::kQuote, &Verifier::check_quote},        Step{Link::kPcr, &Verifier::check_pcrs},
            Step{Link::kEventLog, &Verifier::check_event_log}, Step{Link::kSlb, &Verifier::check_slb},
        };
        for (const Step &step : kSteps) {
            if (const auto ok = (this->*step.check)(); !ok) {
                verdict_.broken = step.link;
                verdict_.reason = ok.error();
                return std::move(verdict_);
            }
        }
        verdict_.attested = true;
        return std::move(verdict_);
    }

private:
    [[nodiscard]] std::string file(const char *name) const { return evidence_.folder + "/" + name; }
    [[nodiscard]] std::string own(const char *name) const { return owner_.folder + "/" + name; }

    template <typename T>
    static Expected<T> of(const std::string &path, Expected<T> result)
    {
        if (!result) {
            return problem(path + ": " + result.error());
        }
        return result;
    }

    Expected<void> read_files()
    {
        ATTEST_TRY(ak_, of(file("ak.pem"), public_key_from_pem(evidence_.ak_pem)));
        ATTEST_TRY(quote_, of(file("quote.msg"), parse_quote(evidence_.quote_msg)));
        ATTEST_TRY(quote_signature_, of(file("quote.sig"), parse_signature(evidence_.quote_sig)));
        ATTEST_TRY(pcr_file_, of(file("pcrs.bin"), parse_pcr_file(evidence_.pcrs)));
        ATTEST_TRY(log_, of(file("eventlog.bin"), parse_event_log(evidence_.event_log)));
        ATTEST_CHECK(add_leaf("ek.crt", evidence_.ek_crt, Role::kEk, ek_common_name(reference_.instance)));
        ATTEST_CHECK(add_leaf("ek-rsa.crt", evidence_.ek_rsa_crt, Role::kEk, ek_common_name(reference_.instance)));
        ATTEST_CHECK(add_leaf("iak.crt", evidence_.iak_crt, Role::kIak, iak_common_name(reference_.instance)));
        ATTEST_TRY(report_message_, of(file("report.cose"), parse_sign1(evidence_.report)));
        ATTEST_TRY(report_, of(file("report.cose"), parse_report(report_message_.payload)));
        ATTEST_TRY(receipt_message_, of(own("receipt.cose"), parse_sign1(owner_.receipt)));
        ATTEST_TRY(receipt_, of(own("receipt.cose"), parse_report(receipt_message_.payload)));
        ATTEST_TRY(intermediates_, of(std::string("owner's chain.pem"), Certificate::list_from_pem(owner_.chain_pem)));
        const auto is_platform = [](const Certificate &one) { return one.has_role(Role::kPlatform); };
        if (std::ranges::count_if(intermediates_, is_platform) != 1) {
            return problem("owner's chain.pem: it must hold exactly one platform certificate");
        }
        platform_ = &*std::ranges::find_if(intermediates_, is_platform);
        return {};
    }

    struct Leaf {
        std::string path;
        Certificate certificate;
        Role role;
        std::string common_name;
        const Certificate *issuer = nullptr;
    };

    Expected<void> add_leaf(const char *name, View der, Role role, std::string common_name)
    {
        ATTEST_TRY(Certificate certificate, of(file(name), Certificate::from_der(der)));
        leaves_.push_back({file(name), std::move(certificate), role, std::move(common_name)});
        return {};
    }

    Expected<void> check_chains()
    {
        const auto check = [&](const std::string &path, const Certificate &leaf) -> Expected<const Certificate *> {
            auto issuer = check_chain(leaf, intermediates_, anchors_.roots);
            if (!issuer) {
                return problem(path + ", subject " + leaf.subject_text() + ", issuer " + leaf.issuer_text() +
                               ", does not lead to a trusted root: " + issuer.error());
            }
            return issuer;
        };
        ATTEST_TRY(platform_issuer_, check("owner's chain.pem", *platform_));
        for (Leaf &leaf : leaves_) {
            ATTEST_TRY(leaf.issuer, check(leaf.path, leaf.certificate));
            if (!leaf.certificate.has_role(leaf.role)) {
                return problem(leaf.path + ", subject " + leaf.certificate.subject_text() +
                               ", is not a certificate of " +
                               (leaf.role == Role::kEk ? "an EK" : "an attestation key") +
                               ": its extended key usage says otherwise");
            }
        }
        return {};
    }

    Expected<void> check_class()
    {
        constexpr std::string_view kMeaning = "launch evidence counts only from class machine";
        const auto check = [&](const std::string &path, const Certificate &certificate,
                               const Certificate &issuer) -> Expected<Subject> {
            ATTEST_TRY(const Subject by, of(path, issuer.subject()));
            ATTEST_CHECK(must_equal(path + ": the class of its issuer", by.platform_class, kClassMachine, kMeaning));
            ATTEST_TRY(Subject subject, of(path, certificate.subject()));
            ATTEST_CHECK(must_equal(path + ": its class", subject.platform_class, kClassMachine, kMeaning));
            return subject;
        };
        ATTEST_CHECK(check("platform certificate", *platform_, *platform_issuer_));
        for (const Leaf &leaf : leaves_) {
            ATTEST_TRY(const Subject subject, check(leaf.path, leaf.certificate, *leaf.issuer));
            if (!subject.machine) {
                return problem(leaf.path + ": it names no machine");
            }
            ATTEST_CHECK(must_equal(leaf.path + ": the machine that it names", *subject.machine,
                                    platform_->machine_id(), "the machine of the owner's chain.pem"));
            ATTEST_CHECK(must_equal(leaf.path + ": the key that it names", subject.common_name, leaf.common_name,
                                    "the machine file gives " + reference_.name + " this vTPM instance"));
        }
        ATTEST_TRY(ek_name_, of(file("ek.crt"), ek_name(leaves_[0].certificate.key())));
        ATTEST_TRY(iak_name_, of(file("iak.crt"), iak_name(leaves_[2].certificate.key())));
        return {};
    }

    Expected<void> check_ak()
    {
        if (!same_key(ak_.get(), leaves_[2].certificate.key())) {
            return problem(file("ak.pem") + " is not the key that " + leaves_[2].path + " certifies");
        }
        return {};
    }

    static std::string restored_text(const std::string &name, const Report &statement)
    {
        return name == "restored" ? " (its TPM was brought back from a snapshot " + std::to_string(statement.restores) +
                                        (statement.restores == 1 ? " time)" : " times)")
                                  : "";
    }

    /// What report and receipt have in common.
    Expected<void> check_statement(const std::string &path, const Sign1 &message, const Report &statement,
                                   ReportKind kind)
    {
        if (!verify_sign1(message, platform_->key())) {
            return problem(path + ": its signature is not of the platform key (certificate " +
                           platform_->subject_text() + ", machine " + to_hex(platform_->machine_id()) + ")");
        }
        if (statement.kind != kind) {
            return problem(path + (kind == ReportKind::kReceipt ? " is a domain report, expected a receipt"
                                                                : " is a receipt, expected a domain report"));
        }
        const std::string of_file = path + ": ";
        ATTEST_CHECK(must_equal(of_file + "machine", statement.machine, platform_->machine_id(),
                                "SHA-256 of the platform certificate"));
        ATTEST_CHECK(must_equal(of_file + "class", statement.platform_class, kClassMachine,
                                "launch evidence counts only from class machine"));
        ATTEST_CHECK(must_equal(of_file + "nonce", statement.nonce, owner_.nonce,
                                own("nonce") + ": anything else is evidence of another time or of another VM"));
        ATTEST_CHECK(must_equal(of_file + "name", statement.name, reference_.name, "machine file"));
        ATTEST_CHECK(must_equal(of_file + "domain", statement.domain, reference_.domain, "machine file"));
        ATTEST_CHECK(must_equal(of_file + "instance", statement.instance, reference_.instance, "machine file"));
        ATTEST_CHECK(must_equal(of_file + "descriptor", statement.descriptor, reference_.descriptor,
                                "SHA-384 of the descriptor that the machine file gives: memory, cores, devices"));
        ATTEST_CHECK(must_equal(of_file + "hypervisor", statement.hypervisor, reference_.hypervisor,
                                "SHA-384 of the hypervisor that the machine file gives"));
        ATTEST_CHECK(must_equal(of_file + "iak", statement.iak, iak_name_, "name of the key in iak.crt"));
        ATTEST_CHECK(must_equal(of_file + "ek", statement.ek, ek_name_, "name of the key in ek.crt"));
        for (const std::string &name : statement.insecure) {
            if (std::ranges::find(reference_.accept_insecure, name) == reference_.accept_insecure.end()) {
                std::string why = of_file + "the platform certifies insecure:";
                why.append(name).append(restored_text(name, statement));
                return problem(why.append(", which was not accepted (--accept insecure:").append(name).append(")"));
            }
        }
        return {};
    }

    Expected<void> check_receipt()
    {
        return check_statement(own("receipt.cose"), receipt_message_, receipt_, ReportKind::kReceipt);
    }

    Expected<void> check_report()
    {
        const std::string path = file("report.cose");
        ATTEST_CHECK(must_equal(file("nonce"), evidence_.nonce, owner_.nonce,
                                own("nonce") + ": anything else is evidence of another time or of another VM"));
        verdict_.restores = report_.restores;
        ATTEST_CHECK(check_statement(path, report_message_, report_, ReportKind::kDomain));
        ATTEST_CHECK(must_equal(path + ": start", report_.start, receipt_.start,
                                "the receipt's: the domain was sealed again since"));
        if (report_.launch == 0) {
            return problem(path + ": launch is 0, expected at least 1: the VM never launched (SKINIT did not run)");
        }
        return {};
    }

    Expected<void> check_quote()
    {
        const std::string path = file("quote.msg");
        ATTEST_CHECK(must_equal(path + ": nonce", quote_.extra_data, owner_.nonce, own("nonce")));
        if (!verify_es384(ak_.get(), evidence_.quote_msg, quote_signature_)) {
            return problem(file("quote.sig") + " is not a signature over quote.msg by the key in ak.pem");
        }
        if (quote_.restart_count < report_.launch) {
            return problem(path + ": restart count is " + std::to_string(quote_.restart_count) +
                           ", expected at least " + std::to_string(report_.launch) +
                           " (launches in report.cose; each raises it)");
        }
        for (const Bank bank : kQuotedBanks) {
            if (std::ranges::find(quote_.selections, PcrSelection{bank, kAllPcrs}) == quote_.selections.end()) {
                return problem(path + ": it covers " + describe(quote_.selections) + ", expected PCR 0 to 23 of " +
                               name_of(bank));
            }
        }
        if (pcr_file_.selections != quote_.selections) {
            return problem(file("pcrs.bin") + ": it holds " + describe(pcr_file_.selections) +
                           ", but the quote covers " + describe(quote_.selections));
        }
        return must_equal(path + ": PCR digest", quote_.pcr_digest, hash(Bank::kSha384, pcr_file_.concatenated()),
                          "SHA-384 of the values in pcrs.bin");
    }

    Expected<void> check_pcrs()
    {
        predict();
        for (const auto &[bank, values] : pcr_file_.values) {
            for (unsigned pcr = 0; pcr < kPcrCount; ++pcr) {
                if (!values[pcr].empty()) {
                    verdict_.pcrs[name_of(bank)][pcr] = to_hex(values[pcr]);
                    verdict_.expected[name_of(bank)][pcr] = to_hex(predicted_[bank][pcr]);
                }
            }
        }
        if (never_launched()) {
            return problem("PCR 17 to 22 are all ones: the VM never launched (SKINIT did not run since its vTPM was "
                           "powered on)");
        }
        for (const unsigned pcr : order()) {
            for (const auto &[bank, values] : pcr_file_.values) {
                if (!values[pcr].empty() && values[pcr] != predicted_[bank][pcr]) {
                    return problem(pcr_name(pcr, bank) + " is " + to_hex(values[pcr]) + ", expected " +
                                   to_hex(predicted_[bank][pcr]) + ": " + explain(pcr, bank));
                }
            }
        }
        return {};
    }

    void predict()
    {
        for (const auto &[bank, values] : pcr_file_.values) {
            PcrBank &bank_values = predicted_[bank];
            bank_values.fill(Bytes(digest_size(bank)));
            for (const MeasuredItem &item : reference_.items) {
                bank_values.at(item.pcr) = extend(bank, bank_values.at(item.pcr), digest_of(item.digests, bank));
            }
            const std::vector<Bytes> ima = predicted_ima_values(bank);
            const auto seen = std::ranges::find(ima, values[kPcrIma]);
            bank_values[kPcrIma] = seen != ima.end() ? *seen : ima[1];
        }
    }

    /// The launch's own PCRs first: the more telling reason.
    [[nodiscard]] std::vector<unsigned> order() const
    {
        std::vector<unsigned> pcrs;
        for (const MeasuredItem &item : reference_.items) {
            if (std::ranges::find(pcrs, item.pcr) == pcrs.end()) {
                pcrs.push_back(item.pcr);
            }
        }
        for (unsigned pcr = 0; pcr < kPcrCount; ++pcr) {
            if (std::ranges::find(pcrs, pcr) == pcrs.end()) {
                pcrs.push_back(pcr);
            }
        }
        return pcrs;
    }

    [[nodiscard]] bool never_launched() const
    {
        for (const auto &[bank, values] : pcr_file_.values) {
            for (unsigned pcr = kFirstDynamic; pcr <= kLastDynamic; ++pcr) {
                if (values[pcr] != Bytes(digest_size(bank), 0xff)) {
                    return false;
                }
            }
        }
        return true;
    }

    /// Why a PCR is not as predicted, as far as the VM's own logs tell. They can mislead, but no longer deceive.
    [[nodiscard]] std::string explain(unsigned pcr, Bank bank) const
    {
        if (pcr == kPcrIma) {
            std::string text = "IMA measures boot_aggregate there and nothing else";
            if (evidence_.ima_log) {
                const auto line = first_unexpected_ima_line(text_of(*evidence_.ima_log));
                text += line ? "; ima.log has the line " + in_quotes(*line) : "; ima.log does not tell what else was";
            }
            return text;
        }
        const auto measured = [&](const MeasuredItem &item) { return item.pcr == pcr; };
        if (std::ranges::none_of(reference_.items, measured)) {
            return "a launch leaves it at zero, so something else was extended, or an earlier life of the vTPM shows";
        }
        const auto replayed = replayed_log();
        if (!replayed) {
            return "eventlog.bin does not tell why: " + replayed.error();
        }
        if (replayed->at(bank)[pcr] != pcr_file_.values.at(bank)[pcr]) {
            return "eventlog.bin does not tell why, it replays to " + to_hex(replayed->at(bank)[pcr]);
        }
        const auto difference = first_difference(log_, reference_.items);
        return "eventlog.bin, " + difference.value_or("as expected");
    }

    [[nodiscard]] Expected<PcrValues> replayed_log() const
    {
        PcrValues start;
        for (const auto &[bank, values] : pcr_file_.values) {
            start[bank].fill(Bytes(digest_size(bank)));
        }
        return replay(log_, std::move(start));
    }

    Expected<void> check_event_log()
    {
        const std::string path = file("eventlog.bin");
        if (const auto difference = first_difference(log_, reference_.items)) {
            return problem(path + ": " + *difference);
        }
        ATTEST_TRY(PcrValues replayed, of(path, replayed_log()));
        for (auto &[bank, values] : replayed) {
            values[kPcrIma] = pcr_file_.values.at(bank)[kPcrIma]; // IMA has a log of its own
            for (unsigned pcr = 0; pcr < kPcrCount; ++pcr) {
                const Bytes &quoted = pcr_file_.values.at(bank)[pcr];
                if (!quoted.empty()) {
                    ATTEST_CHECK(
                        must_equal(path + ": its replay of " + pcr_name(pcr, bank), values[pcr], quoted, "quoted"));
                }
            }
        }
        return {};
    }

    Expected<void> check_slb()
    {
        if (!evidence_.slb || reference_.items.empty()) {
            return {};
        }
        const MeasuredItem &item = reference_.items.front();
        return must_equal(file("slb.bin") + ": its sha256 digest", digest_bytes(*evidence_.slb).sha256,
                          item.digests.sha256, "that of " + item.source);
    }

    const EvidenceFiles &evidence_;
    const VmReference &reference_;
    const TrustAnchors &anchors_;
    const OwnerRecord &owner_;
    Verdict verdict_;

    Key ak_;
    Quote quote_;
    Bytes quote_signature_;
    PcrFile pcr_file_;
    EventLog log_;
    std::vector<Leaf> leaves_; // EK, RSA EK, IAK
    Sign1 report_message_;
    Report report_;
    Sign1 receipt_message_;
    Report receipt_;
    std::vector<Certificate> intermediates_; // and the platform's
    const Certificate *platform_ = nullptr;
    const Certificate *platform_issuer_ = nullptr;
    Bytes ek_name_;
    Bytes iak_name_;
    PcrValues predicted_;
};

Verdict refusal(const VmReference &reference, Link link, std::string reason)
{
    Verdict verdict;
    verdict.name = reference.name;
    verdict.domain = reference.domain;
    verdict.kernel = reference.kernel;
    verdict.broken = link;
    verdict.reason = std::move(reason);
    return verdict;
}

} // namespace

const char *name_of(Link link)
{
    switch (link) {
    case Link::kNone:
        return "none";
    case Link::kFiles:
        return "files";
    case Link::kChain:
        return "chain";
    case Link::kClass:
        return "class";
    case Link::kAk:
        return "ak";
    case Link::kReceipt:
        return "receipt";
    case Link::kReport:
        return "report";
    case Link::kQuote:
        return "quote";
    case Link::kPcr:
        return "pcr";
    case Link::kEventLog:
        return "eventlog";
    case Link::kSlb:
        return "slb";
    }
    return "?";
}

Expected<TrustAnchors> TrustAnchors::from_pem(View pem)
{
    TrustAnchors anchors;
    ATTEST_TRY(anchors.roots, Certificate::list_from_pem(pem));
    for (const Certificate &root : anchors.roots) {
        if (!root.has_role(Role::kRoot)) {
            return problem("the certificate of " + root.subject_text() +
                           " is not a root (a self-signed certificate authority)");
        }
    }
    return anchors;
}

Verdict verify_vm(const EvidenceFiles &evidence, const VmReference &reference, const TrustAnchors &anchors,
                  const OwnerRecord &owner)
{
    return Verifier(evidence, reference, anchors, owner).run();
}

std::vector<Verdict> verify_folder(const std::filesystem::path &evidence, const std::filesystem::path &owner,
                                   const std::vector<VmReference> &references, const TrustAnchors &anchors)
{
    std::vector<Verdict> verdicts;
    for (const VmReference &reference : references) {
        const auto record = load_owner_record(owner, reference.name);
        if (!record) {
            verdicts.push_back(refusal(reference, Link::kFiles, record.error()));
            continue;
        }
        const auto files = load_evidence(evidence / reference.name);
        if (!files) {
            verdicts.push_back(refusal(reference, Link::kFiles, files.error()));
            continue;
        }
        verdicts.push_back(verify_vm(*files, reference, anchors, *record));
    }
    return verdicts;
}

} // namespace banyan::attest
