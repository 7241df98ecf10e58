// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/snapshots.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "vtpm/chip/state_bytes.hpp"
#include "vtpm/engine/process.hpp"
#include "vtpm/engine/text_file.hpp"

namespace banyan::vtpm {
namespace {

struct BioFree {
    void operator()(BIO *bio) const { BIO_free(bio); }
};
struct X509Free {
    void operator()(X509 *certificate) const { X509_free(certificate); }
};

Bytes pack_names(const SignerNames &names)
{
    StateWriter out;
    out.put8(names.ek_size);
    out.put_bytes({names.ek, names.ek_size});
    out.put8(names.iak_size);
    out.put_bytes({names.iak, names.iak_size});
    return out.bytes();
}

/// The newest that belongs to the durable state: what the last answered command left.
const Checkpoint *checkpoint_of(const Vault &vault, std::uint64_t generation)
{
    const Checkpoint *best = nullptr;
    for (const Checkpoint &one : vault.checkpoints) {
        if (one.number != 0 && one.generation == generation && one.size > 0 && one.size <= kVolatileMax &&
            (best == nullptr || one.number > best->number)) {
            best = &one;
        }
    }
    return best;
}

} // namespace

bool read_key(const std::string &path, StoreKey &key, std::string &why)
{
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    std::array<std::uint8_t, kStoreKeySize + 1> raw{};
    const ssize_t got = fd < 0 ? -1 : ::read(fd, raw.data(), raw.size());
    const int error = errno;
    if (fd >= 0) {
        ::close(fd);
    }
    if (got != static_cast<ssize_t>(kStoreKeySize)) {
        why = path + (fd < 0 ? std::string(": ") + std::strerror(error) : ": not 32 bytes");
        return false;
    }
    std::copy_n(raw.begin(), kStoreKeySize, key.begin());
    OPENSSL_cleanse(raw.data(), raw.size());
    return true;
}

bool machine_id_of(const std::string &certificate, std::array<std::uint8_t, 32> &out)
{
    const std::string text = read_text(certificate);
    const std::unique_ptr<BIO, BioFree> source(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    const std::unique_ptr<X509, X509Free> parsed(PEM_read_bio_X509(source.get(), nullptr, nullptr, nullptr));
    unsigned char *der = nullptr;
    const int size = parsed ? i2d_X509(parsed.get(), &der) : -1;
    if (size <= 0) {
        return false;
    }
    SHA256(der, static_cast<std::size_t>(size), out.data());
    OPENSSL_free(der);
    return true;
}

std::array<std::uint8_t, 32> tpm_id_of(const std::string &names_file)
{
    return tpm_id_of_text(read_text(names_file));
}

std::array<std::uint8_t, 32> tpm_id_of_text(const std::string &names)
{
    std::array<std::uint8_t, 32> out{};
    SHA256(reinterpret_cast<const unsigned char *>(names.data()), names.size(), out.data());
    return out;
}

void warm_up_seal()
{
    if (const auto part = seal_part({}, {}, {})) {
        (void)open_part({}, *part);
    }
}

Result<Bytes> seal_instance(const SnapshotTerms &terms, const SnapshotSubject &subject, std::uint32_t instance,
                            const SealOrder &order, const Store *store, const Vault *vault, SnapshotText &text,
                            std::string &why)
{
    SnapshotHead head;
    head.instance = instance;
    head.count = order.count;
    head.snapshot = terms.snapshot;
    head.machine = terms.machine;
    head.tpm = subject.tpm;
    if (store != nullptr) {
        const StoreRecord &record = store->record();
        head.flags = record.established ? SnapshotHead::kEstablished : 0;
        head.generation = record.generation;
        head.restores = record.restores;
        text.permanent = record.permanent;
        if (subject.names.iak_size != 0) {
            text.names = pack_names(subject.names);
        }
    }
    if (order.running) {
        const Checkpoint *checkpoint =
            vault == nullptr || store == nullptr ? nullptr : checkpoint_of(*vault, head.generation);
        if (checkpoint == nullptr) {
            why = "the TPM has no state that could be saved";
            return fail(Errc::kBadState);
        }
        const std::uint8_t *from = vault->volatile_state[checkpoint->number % 2];
        text.volatile_state.assign(from, from + std::min<std::size_t>(checkpoint->size, kVolatileMax));
    }
    return seal_part(terms.key, head, text);
}

Result<OpenedPart> open_instance(const SnapshotTerms &terms, const SnapshotSubject &subject, std::uint32_t instance,
                                 std::span<const std::uint8_t> part, std::string &why)
{
    auto opened = open_part(terms.key, part);
    if (!opened) {
        why = "it was changed, or sealed by another platform";
        return opened;
    }
    const SnapshotHead &head = opened->head;
    const bool another_tpm =
        !opened->text.permanent.empty() && head.tpm != subject.tpm; // one that was made since stays
    if (head.instance != instance || head.machine != terms.machine || another_tpm) {
        why = "it is the state of another TPM";
        return fail(Errc::kBadArgument);
    }
    return opened;
}

bool place_checkpoint(int vault, std::uint64_t generation, std::span<const std::uint8_t> state)
{
    auto *at = static_cast<Vault *>(map_shared(vault, sizeof(Vault)));
    if (at == nullptr || state.size() > kVolatileMax) {
        return false;
    }
    constexpr std::uint64_t kFirst = 1;
    std::copy(state.begin(), state.end(), at->volatile_state[kFirst % 2]);
    at->checkpoints[kFirst % 2] = {kFirst, generation, static_cast<std::uint32_t>(state.size()), 0};
    ::munmap(at, sizeof(Vault));
    return true;
}

bool unpack_names(std::span<const std::uint8_t> bytes, SignerNames &names)
{
    StateReader in(bytes);
    SignerNames read;
    for (auto [size, room] : {std::pair{&read.ek_size, &read.ek}, std::pair{&read.iak_size, &read.iak}}) {
        *size = in.get8();
        if (*size > sizeof(*room)) {
            return false;
        }
        const auto name = in.get_bytes(*size);
        std::copy(name.begin(), name.end(), *room);
    }
    if (!in.at_end() || read.iak_size == 0) {
        return false;
    }
    names = read;
    return true;
}

Result<std::uint32_t> write_file(int file, std::span<const std::uint8_t> bytes)
{
    if (::pwrite(file, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
        return fail(Errc::kNoSpace);
    }
    return static_cast<std::uint32_t>(bytes.size());
}

} // namespace banyan::vtpm
