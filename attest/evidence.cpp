// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/evidence.hpp"

#include <array>

namespace banyan::attest {

namespace {

constexpr std::size_t kKiB = 1024;

struct Required {
    const char *name;
    std::size_t limit;
    Bytes EvidenceFiles::*member;
};
constexpr std::array kRequired{
    Required{"ak.pem", 4 * kKiB, &EvidenceFiles::ak_pem},
    Required{"quote.msg", 4 * kKiB, &EvidenceFiles::quote_msg},
    Required{"quote.sig", 4 * kKiB, &EvidenceFiles::quote_sig},
    Required{"pcrs.bin", 64 * kKiB, &EvidenceFiles::pcrs},
    Required{"nonce", 64, &EvidenceFiles::nonce},
    Required{"eventlog.bin", 64 * kKiB, &EvidenceFiles::event_log},
    Required{"ek.crt", 16 * kKiB, &EvidenceFiles::ek_crt},
    Required{"ek-rsa.crt", 16 * kKiB, &EvidenceFiles::ek_rsa_crt},
    Required{"iak.crt", 16 * kKiB, &EvidenceFiles::iak_crt},
    Required{"report.cose", 2 * kKiB, &EvidenceFiles::report},
};

struct Optional {
    const char *name;
    std::size_t limit;
    std::optional<Bytes> EvidenceFiles::*member;
};
constexpr std::array kOptional{
    Optional{"ima.log", 1024 * kKiB, &EvidenceFiles::ima_log},
    Optional{"slb.bin", 64 * kKiB, &EvidenceFiles::slb},
};

} // namespace

Expected<EvidenceFiles> load_evidence(const std::filesystem::path &folder)
{
    EvidenceFiles files;
    files.folder = folder.string();
    std::error_code error;
    if (!std::filesystem::is_directory(folder, error)) {
        return problem(folder.string() + " is not there: the VM gave no evidence");
    }
    for (const Required &one : kRequired) {
        ATTEST_TRY(files.*one.member, read_file(folder / one.name, one.limit, Links::kRefuse));
    }
    for (const Optional &one : kOptional) {
        if (std::filesystem::symlink_status(folder / one.name, error).type() != std::filesystem::file_type::not_found) {
            ATTEST_TRY(files.*one.member, read_file(folder / one.name, one.limit, Links::kRefuse));
        }
    }
    return files;
}

Expected<OwnerRecord> load_owner_record(const std::filesystem::path &owner, const std::string &vm)
{
    OwnerRecord record;
    record.folder = (owner / vm).string();
    ATTEST_TRY(record.chain_pem, read_file(owner / "chain.pem", 64 * kKiB));
    ATTEST_TRY(record.nonce, read_file(owner / vm / "nonce", 64));
    ATTEST_TRY(record.receipt, read_file(owner / vm / "receipt.cose", 2 * kKiB));
    if (record.nonce.size() < kNonceMin) {
        return problem((owner / vm / "nonce").string() + " has " + std::to_string(record.nonce.size()) +
                       " bytes: too few for a nonce, which has 16 to 64");
    }
    return record;
}

std::optional<std::filesystem::path> private_folder_around(const std::filesystem::path &path)
{
    std::error_code error;
    std::filesystem::path at = std::filesystem::weakly_canonical(path, error);
    if (error) {
        at = std::filesystem::absolute(path, error);
    }
    for (;; at = at.parent_path()) {
        for (const char *secret : {"platform.key", "store.key"}) {
            if (std::filesystem::exists(at / secret, error)) {
                return at;
            }
        }
        if (!at.has_relative_path()) {
            return std::nullopt;
        }
    }
}

} // namespace banyan::attest
