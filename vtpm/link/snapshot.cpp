// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/link/snapshot.hpp"

#include <algorithm>

#include "vtpm/chip/state_bytes.hpp"

namespace banyan::vtpm {
namespace {

using Magic = std::array<std::uint8_t, 8>;
constexpr Magic kFrameMagic{'B', 'A', 'N', 'Y', 'A', 'N', 'S', 'N'};
constexpr Magic kPartMagic{'B', 'A', 'N', 'Y', 'A', 'N', 'S', 'P'};

} // namespace

std::vector<std::uint8_t> write_head(const SnapshotHead &head)
{
    StateWriter out;
    out.put_bytes(kPartMagic);
    out.put32(kSnapshotVersion);
    out.put32(head.instance);
    out.put32(head.count);
    out.put32(head.flags);
    out.put64(head.generation);
    out.put64(head.restores);
    out.put_bytes(head.snapshot);
    out.put_bytes(head.machine);
    out.put_bytes(head.tpm);
    out.put32(head.interface_size);
    out.put32(head.names_size);
    out.put32(head.permanent_size);
    out.put32(head.volatile_size);
    out.put_bytes(head.nonce);
    out.put32(0);
    return out.bytes();
}

Result<SnapshotHead> parse_part(std::span<const std::uint8_t> part)
{
    StateReader in(part);
    const Magic magic = in.get_array<8>();
    const std::uint32_t version = in.get32();
    if (magic != kPartMagic) {
        return fail(Errc::kCorrupt);
    }
    if (version != kSnapshotVersion) {
        return fail(Errc::kUnsupported);
    }
    SnapshotHead head;
    head.instance = in.get32();
    head.count = in.get32();
    head.flags = in.get32();
    head.generation = in.get64();
    head.restores = in.get64();
    head.snapshot = in.get_array<16>();
    head.machine = in.get_array<32>();
    head.tpm = in.get_array<32>();
    head.interface_size = in.get32();
    head.names_size = in.get32();
    head.permanent_size = in.get32();
    head.volatile_size = in.get32();
    head.nonce = in.get_array<12>();
    const std::uint32_t reserved = in.get32();
    if (!in.ok() || reserved != 0 || (head.flags & ~SnapshotHead::kEstablished) != 0 ||
        head.interface_size > kSnapshotInterfaceMax || head.names_size > kSnapshotNamesMax ||
        head.permanent_size > kSnapshotPermanentMax || head.volatile_size > kSnapshotVolatileMax ||
        (head.volatile_size != 0 && head.permanent_size == 0) ||
        part.size() != SnapshotHead::kSize + head.text_size() + kSnapshotTagSize) {
        return fail(Errc::kCorrupt);
    }
    return head;
}

std::vector<std::uint8_t> frame_snapshot(std::span<const std::vector<std::uint8_t>> parts)
{
    StateWriter out;
    out.put_bytes(kFrameMagic);
    out.put32(kSnapshotVersion);
    out.put32(static_cast<std::uint32_t>(parts.size()));
    for (const auto &part : parts) {
        out.put32(static_cast<std::uint32_t>(part.size()));
        out.put_bytes(part);
    }
    return out.bytes();
}

Result<std::vector<std::span<const std::uint8_t>>> parse_snapshot(std::span<const std::uint8_t> bytes,
                                                                  std::uint32_t instances, std::string &why)
{
    const auto refuse = [&](Errc code, const std::string &text) {
        why = text;
        return fail(code);
    };
    const std::string damaged = "the saved state of the vTPM is damaged";
    const std::string other_version = "the saved state of the vTPM is of a version that this emulator does not know";
    StateReader in(bytes);
    if (in.get_array<8>() != kFrameMagic) {
        return refuse(Errc::kCorrupt, damaged);
    }
    if (in.get32() != kSnapshotVersion) {
        return refuse(in.ok() ? Errc::kUnsupported : Errc::kCorrupt, in.ok() ? other_version : damaged);
    }
    const std::uint32_t count = in.get32();
    if (!in.ok()) {
        return refuse(Errc::kCorrupt, damaged);
    }
    if (count != instances) {
        return refuse(Errc::kBadArgument, "the saved state is of a vTPM with " + std::to_string(count) +
                                              " instances, this one has " + std::to_string(instances));
    }
    std::vector<std::span<const std::uint8_t>> parts;
    SnapshotHead first;
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t size = in.get32();
        const auto part = in.get_bytes(size);
        const auto head = in.ok() ? parse_part(part) : fail(Errc::kCorrupt);
        if (!head) {
            return refuse(head.error(), head.error() == Errc::kUnsupported ? other_version : damaged);
        }
        if (i == 0) {
            first = *head;
        }
        if (head->instance != i || head->count != count || head->snapshot != first.snapshot ||
            head->machine != first.machine) {
            return refuse(Errc::kCorrupt, "the saved state of the vTPM is put together from several");
        }
        parts.push_back(part);
    }
    if (!in.at_end()) {
        return refuse(Errc::kCorrupt, damaged);
    }
    return parts;
}

} // namespace banyan::vtpm
