// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/report.hpp"

#include <algorithm>
#include <set>

#include "attest/cbor.hpp"
#include "attest/pki.hpp"
#include "banyan/capi/base.h"

namespace banyan::attest {

namespace {

// RFC 9052, 4.2 and table 2; RFC 9053, 2.1.
constexpr std::uint64_t kTagSign1 = 18;
constexpr std::uint64_t kHeaderAlgorithm = 1;
constexpr std::int64_t kEs384 = -35;
constexpr std::size_t kSignatureSize = 96;

constexpr std::uint64_t kSchema = 1;
constexpr std::size_t kNameMax = 31;     // of a domain
constexpr std::size_t kTextMax = 32;     // class, insecure
constexpr std::size_t kInsecureMax = 32; // bits of the mask
constexpr std::size_t kTpmNameMax = 66;  // two bytes and the longest digest

Expected<std::string> text(CborReader &reader, std::size_t longest)
{
    ATTEST_TRY(const std::string_view view, reader.read_text());
    if (view.size() > longest) {
        return problem("a text of " + std::to_string(view.size()) + " characters");
    }
    return std::string(view);
}

Expected<Bytes> bytes(CborReader &reader, std::size_t shortest, std::size_t longest)
{
    ATTEST_TRY(const View view, reader.read_bytes());
    if (view.size() < shortest || view.size() > longest) {
        return problem("a byte string of " + std::to_string(view.size()) + " bytes");
    }
    return Bytes(view.begin(), view.end());
}

template <std::size_t N>
Expected<std::array<std::uint8_t, N>> array_of(CborReader &reader)
{
    ATTEST_TRY(const Bytes view, bytes(reader, N, N));
    std::array<std::uint8_t, N> out{};
    std::copy(view.begin(), view.end(), out.begin());
    return out;
}

Expected<std::vector<std::string>> insecure_names(CborReader &reader)
{
    ATTEST_TRY(const std::uint64_t count, reader.read_array());
    if (count > kInsecureMax) {
        return problem("an array of " + std::to_string(count) + " elements");
    }
    std::vector<std::string> names;
    for (std::uint64_t i = 0; i < count; ++i) {
        ATTEST_TRY(std::string name, text(reader, kTextMax));
        if (name.empty() || std::ranges::find(names, name) != names.end()) {
            return problem("an empty or repeated name");
        }
        names.push_back(std::move(name));
    }
    return names;
}

/// One row a key: how it is read and written. Order of the rows is the order of the writer.
struct Row {
    const char *key;
    Expected<void> (*read)(CborReader &, Report &);
    void (*write)(CborWriter &, const Report &);
};

constexpr std::array kRows{
    Row{"schema",
        [](CborReader &r, Report &) -> Expected<void> {
            ATTEST_TRY(const std::uint64_t schema, r.read_unsigned());
            if (schema != kSchema) {
                return problem(std::to_string(schema) + ", expected " + std::to_string(kSchema));
            }
            return {};
        },
        [](CborWriter &w, const Report &) { w.put_unsigned(kSchema); }},
    Row{"kind",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(const std::uint64_t kind, r.read_unsigned());
            if (kind > 1) {
                return problem(std::to_string(kind) + ", expected 0 or 1");
            }
            report.kind = static_cast<ReportKind>(kind);
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_unsigned(static_cast<std::uint64_t>(report.kind)); }},
    Row{"machine",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.machine, array_of<32>(r));
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_bytes(report.machine); }},
    Row{"class",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.platform_class, text(r, kTextMax));
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_text(report.platform_class); }},
    Row{"domain",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.domain, r.read_unsigned());
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_unsigned(report.domain); }},
    Row{"name",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.name, text(r, kNameMax));
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_text(report.name); }},
    Row{"instance",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.instance, r.read_unsigned());
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_unsigned(report.instance); }},
    Row{"start",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.start, r.read_unsigned());
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_unsigned(report.start); }},
    Row{"launch",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.launch, r.read_unsigned());
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_unsigned(report.launch); }},
    Row{"descriptor",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.descriptor, array_of<48>(r));
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_bytes(report.descriptor); }},
    Row{"hypervisor",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.hypervisor, array_of<48>(r));
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_bytes(report.hypervisor); }},
    Row{"flags",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.flags, r.read_unsigned());
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_unsigned(report.flags); }},
    Row{"insecure",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.insecure, insecure_names(r));
            return {};
        },
        [](CborWriter &w, const Report &report) {
            w.put_array(report.insecure.size());
            for (const std::string &name : report.insecure) {
                w.put_text(name);
            }
        }},
    Row{"ek",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.ek, bytes(r, 1, kTpmNameMax));
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_bytes(report.ek); }},
    Row{"iak",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.iak, bytes(r, 1, kTpmNameMax));
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_bytes(report.iak); }},
    Row{"nonce",
        [](CborReader &r, Report &report) -> Expected<void> {
            ATTEST_TRY(report.nonce, bytes(r, 1, BANYAN_NONCE_MAX));
            return {};
        },
        [](CborWriter &w, const Report &report) { w.put_bytes(report.nonce); }},
};

/// There when the TPM was ever brought back from a snapshot, and then with its name in `insecure`.
constexpr Row kRestores{"restores",
                        [](CborReader &r, Report &report) -> Expected<void> {
                            ATTEST_TRY(report.restores, r.read_unsigned());
                            if (report.restores == 0) {
                                return problem("0, expected at least 1");
                            }
                            return {};
                        },
                        [](CborWriter &w, const Report &report) { w.put_unsigned(report.restores); }};
constexpr const char *kRestored = "restored";

Bytes sig_structure(View protected_header, View payload)
{
    CborWriter writer;
    writer.put_array(4).put_text("Signature1").put_bytes(protected_header).put_bytes({}).put_bytes(payload);
    return writer.bytes();
}

Bytes protected_header()
{
    CborWriter writer;
    writer.put_map(1).put_unsigned(kHeaderAlgorithm).put_negative(static_cast<std::uint64_t>(-1 - kEs384));
    return writer.bytes();
}

Expected<void> check_protected_header(View header)
{
    CborReader reader(header);
    ATTEST_TRY(const std::uint64_t pairs, reader.read_map());
    if (pairs != 1) {
        return problem(std::to_string(pairs) + " entries, expected the algorithm alone");
    }
    ATTEST_TRY(const std::int64_t key, reader.read_integer());
    ATTEST_TRY(const std::int64_t algorithm, reader.read_integer());
    if (key != static_cast<std::int64_t>(kHeaderAlgorithm) || algorithm != kEs384) {
        return problem("entry " + std::to_string(key) + " is " + std::to_string(algorithm) +
                       ", expected algorithm (1) ES384 (-35)");
    }
    if (!reader.at_end()) {
        return problem("bytes after its end");
    }
    return {};
}

} // namespace

Bytes encode_report(const Report &report)
{
    CborWriter writer;
    writer.put_map(kRows.size() + (report.restores != 0 ? 1 : 0));
    const auto write = [&](const Row &row) {
        writer.put_text(row.key);
        row.write(writer, report);
    };
    std::ranges::for_each(kRows, write);
    if (report.restores != 0) {
        write(kRestores);
    }
    return writer.bytes();
}

Expected<Report> parse_report(View payload)
{
    Report report;
    CborReader reader(payload);
    ATTEST_TRY(const std::uint64_t pairs, reader.read_map());
    std::set<std::string_view> seen;
    for (std::uint64_t i = 0; i < pairs; ++i) {
        ATTEST_TRY(const std::string_view key, reader.read_text());
        const auto *row = std::ranges::find_if(kRows, [&](const Row &candidate) { return key == candidate.key; });
        row = key == kRestores.key ? &kRestores : row;
        if (row == kRows.end()) {
            return problem("unknown key " + in_quotes(key));
        }
        if (!seen.insert(row->key).second) {
            return problem("key " + in_quotes(key) + " twice");
        }
        if (const auto ok = row->read(reader, report); !ok) {
            return problem("key " + in_quotes(key) + ": " + ok.error());
        }
    }
    for (const Row &row : kRows) {
        if (!seen.contains(row.key)) {
            return problem("key " + in_quotes(row.key) + " is missing");
        }
    }
    if (!reader.at_end()) {
        return problem("bytes after the end of the map");
    }
    if ((report.restores != 0) != (std::ranges::find(report.insecure, kRestored) != report.insecure.end())) {
        return problem("key \"restores\" without insecure:restored, or the other way round");
    }
    return report;
}

Expected<Sign1> parse_sign1(View message)
{
    CborReader reader(message);
    ATTEST_CHECK(reader.read_tag(kTagSign1));
    ATTEST_TRY(const std::uint64_t elements, reader.read_array());
    if (elements != 4) {
        return problem("COSE_Sign1 of " + std::to_string(elements) + " elements, expected 4");
    }
    ATTEST_TRY(const View header, reader.read_bytes());
    if (const auto ok = check_protected_header(header); !ok) {
        return problem("protected header: " + ok.error());
    }
    ATTEST_TRY(const std::uint64_t unprotected, reader.read_map());
    if (unprotected != 0) {
        return problem("unprotected header: " + std::to_string(unprotected) + " entries, expected none");
    }
    ATTEST_TRY(const View payload, reader.read_bytes());
    ATTEST_TRY(const View signature, reader.read_bytes());
    if (signature.size() != kSignatureSize) {
        return problem("signature of " + std::to_string(signature.size()) + " bytes, expected " +
                       std::to_string(kSignatureSize));
    }
    if (!reader.at_end()) {
        return problem("bytes after the end of the COSE_Sign1");
    }
    return Sign1{sig_structure(header, payload), Bytes(payload.begin(), payload.end()),
                 Bytes(signature.begin(), signature.end())};
}

Expected<Bytes> sign1(View payload, EVP_PKEY *key)
{
    const Bytes header = protected_header();
    ATTEST_TRY(const Bytes signature, sign_es384(key, sig_structure(header, payload)));
    CborWriter writer;
    writer.put_tag(kTagSign1).put_array(4).put_bytes(header).put_map(0).put_bytes(payload).put_bytes(signature);
    return writer.bytes();
}

bool verify_sign1(const Sign1 &message, EVP_PKEY *key)
{
    return verify_es384(key, message.to_be_signed, message.signature);
}

} // namespace banyan::attest
