// SPDX-License-Identifier: GPL-2.0-or-later
// Every parser of what a VM hands out, on any input: none may crash, and what one accepts, it must write back and read
// again as the same.

#include <cstdlib>

#include "attest/event_log.hpp"
#include "attest/ima.hpp"
#include "attest/quote.hpp"
#include "attest/report.hpp"
#include "attest/x509.hpp"

namespace {

using namespace banyan::attest;

void must(bool good)
{
    if (!good) {
        std::abort();
    }
}

void fuzz_event_log(View input)
{
    const auto log = parse_event_log(input);
    if (!log) {
        return;
    }
    const auto again = parse_event_log(encode_event_log(*log));
    must(again && again->banks == log->banks && again->events.size() == log->events.size());
    PcrValues start;
    for (const Bank bank : kBanks) {
        start[bank].fill(Bytes(digest_size(bank)));
    }
    must(replay(*log, start) == replay(*again, start));
    for (const Event &event : log->events) {
        must(!describe(event, 1).empty());
    }
}

void fuzz_report(View input)
{
    if (const auto report = parse_report(input)) {
        must(parse_report(encode_report(*report)) == report);
    }
    if (const auto message = parse_sign1(input)) {
        must(message->signature.size() == 96);
        (void)parse_report(message->payload);
    }
}

void fuzz_quote(View input)
{
    (void)parse_quote(input);
    if (const auto signature = parse_signature(input)) {
        must(signature->size() == 96);
    }
    if (const auto pcrs = parse_pcr_file(input)) {
        const auto again = parse_pcr_file(encode_pcr_file(*pcrs));
        must(again && again->selections == pcrs->selections && again->values == pcrs->values);
        (void)pcrs->concatenated();
    }
}

void fuzz_certificate(View input)
{
    if (const auto certificate = Certificate::from_der(input)) {
        (void)certificate->subject();
        (void)certificate->subject_text();
        for (const Role role : {Role::kRoot, Role::kIntermediate, Role::kPlatform, Role::kEk, Role::kIak}) {
            (void)certificate->has_role(role);
        }
        (void)ek_name(certificate->key());
    }
    (void)Certificate::list_from_pem(input);
    (void)public_key_from_pem(input);
    (void)public_key_from_der(input);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    const View input(data, size);
    fuzz_event_log(input);
    fuzz_report(input);
    fuzz_quote(input);
    fuzz_certificate(input);
    (void)first_unexpected_ima_line(text_of(input));
    return 0;
}
