// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/unit/attest/tpm_scenario.hpp"

#include <array>
#include <cstring>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>

#include <tss2/tss2_mu.h>

#include "attest/cbor.hpp"
#include "vtpm/chip/tpm_header.hpp"
#include "vtpm/engine/manufacture.hpp"

namespace banyan::attest::testing {

namespace {

class Parameters {
public:
    Parameters &u8(std::uint8_t v) { return raw({&v, 1}); }
    Parameters &u16(std::uint16_t v) { return u8(static_cast<std::uint8_t>(v >> 8)).u8(static_cast<std::uint8_t>(v)); }
    Parameters &u32(std::uint32_t v)
    {
        return u16(static_cast<std::uint16_t>(v >> 16)).u16(static_cast<std::uint16_t>(v));
    }
    Parameters &raw(View more)
    {
        bytes_.insert(bytes_.end(), more.begin(), more.end());
        return *this;
    }
    [[nodiscard]] const Bytes &bytes() const { return bytes_; }

private:
    Bytes bytes_;
};

Parameters selection_list(const PcrSelections &selections)
{
    Parameters list;
    list.u32(static_cast<std::uint32_t>(selections.size()));
    for (const PcrSelection &one : selections) {
        list.u16(static_cast<std::uint16_t>(one.bank)).u8(3);
        for (unsigned byte = 0; byte < 3; ++byte) {
            list.u8(static_cast<std::uint8_t>(one.mask >> (8 * byte)));
        }
    }
    return list;
}

void must(bool good, const char *what)
{
    if (!good) {
        throw std::runtime_error(what);
    }
}

} // namespace

Bytes in_child(const std::function<Bytes()> &work)
{
    int ends[2];
    must(::pipe(ends) == 0, "pipe");
    const pid_t child = ::fork();
    must(child >= 0, "fork");
    if (child == 0) {
        int status = 1;
        try {
            const Bytes bytes = work();
            View rest = bytes;
            while (!rest.empty()) {
                const ssize_t put = ::write(ends[1], rest.data(), rest.size());
                must(put > 0, "write");
                rest = rest.subspan(static_cast<std::size_t>(put));
            }
            status = 0;
        } catch (const std::exception &error) {
            std::fprintf(stderr, "in the child: %s\n", error.what());
        }
        ::_exit(status);
    }
    ::close(ends[1]);
    Bytes all;
    std::array<std::uint8_t, 4096> piece{};
    for (ssize_t got = 0; (got = ::read(ends[0], piece.data(), piece.size())) > 0;) {
        all.insert(all.end(), piece.begin(), piece.begin() + got);
    }
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child failed");
    return all;
}

Bytes TpmCommands::command(std::uint8_t locality, std::uint32_t code, const std::vector<std::uint32_t> &handles,
                           unsigned sessions, View parameters)
{
    Parameters body;
    for (const std::uint32_t handle : handles) {
        body.u32(handle);
    }
    if (sessions != 0) {
        body.u32(9 * sessions);
        for (unsigned i = 0; i < sessions; ++i) {
            body.u32(TPM2_RS_PW).u16(0).u8(0).u16(0);
        }
    }
    body.raw(parameters);
    Bytes bytes = vtpm::plain_command(code, body.bytes());
    bytes[1] = sessions != 0 ? 2 : 1;
    Bytes response = execute(locality, bytes);
    if (vtpm::response_code(response) == TPM2_RC_RETRY) { // once a boot, for the first key that DA protects
        response = execute(locality, bytes);
    }
    if (vtpm::response_code(response) != 0) {
        throw std::runtime_error("TPM command " + std::to_string(code) + " failed with " +
                                 std::to_string(vtpm::response_code(response)));
    }
    // Without header, and without parameterSize and session area.
    std::size_t at = vtpm::kTpmHeaderSize;
    std::size_t size = response.size() - at;
    if (sessions != 0) {
        size = vtpm::load_be32(response, at);
        at += 4;
    }
    return {response.begin() + static_cast<std::ptrdiff_t>(at),
            response.begin() + static_cast<std::ptrdiff_t>(at + size)};
}

void TpmCommands::startup(std::uint16_t type)
{
    command(0, TPM2_CC_Startup, {}, 0, Parameters().u16(type).bytes());
}

void TpmCommands::shutdown(std::uint16_t type)
{
    command(0, TPM2_CC_Shutdown, {}, 0, Parameters().u16(type).bytes());
}

void Tpm::power_on(const Bytes &permanent, std::uint16_t startup_type)
{
    must(life_.begin(permanent, {}).has_value(), "_TPM_Init");
    startup(startup_type);
    must(life_.stir() == 0, "StirRandom");
}

Bytes Tpm::power_off(bool save_state)
{
    shutdown(save_state ? TPM2_SU_STATE : TPM2_SU_CLEAR);
    Bytes permanent = life_.permanent();
    life_.end();
    return permanent;
}

void Tpm::hash_sequence(View data)
{
    must(life_.hash_start(), "TPM_IO_Hash_Start");
    for (std::size_t at = 0; at < data.size(); at += 4096) {
        must(life_.hash_data(data.subspan(at, std::min<std::size_t>(4096, data.size() - at))), "TPM_IO_Hash_Data");
    }
    must(life_.hash_end(), "TPM_IO_Hash_End");
}

void TpmCommands::extend(std::uint8_t locality, unsigned pcr, const Digests &digests)
{
    Parameters parameters;
    parameters.u32(kBanks.size());
    for (const Bank bank : kBanks) {
        parameters.u16(static_cast<std::uint16_t>(bank)).raw(digest_of(digests, bank));
    }
    command(locality, TPM2_CC_PCR_Extend, {pcr}, 1, parameters.bytes());
}

Bytes TpmCommands::pcr_read(Bank bank, unsigned pcr)
{
    const Bytes out = command(0, TPM2_CC_PCR_Read, {}, 0, selection_list({{bank, 1u << pcr}}).bytes());
    const std::size_t size = digest_size(bank);
    must(out.size() >= size, "TPM2_PCR_Read");
    return {out.end() - static_cast<std::ptrdiff_t>(size), out.end()};
}

Bytes TpmCommands::nv_read(std::uint32_t index)
{
    const Bytes area = command(0, TPM2_CC_NV_ReadPublic, {index}, 0, {});
    TPM2B_NV_PUBLIC space{};
    std::size_t offset = 0;
    must(Tss2_MU_TPM2B_NV_PUBLIC_Unmarshal(area.data(), area.size(), &offset, &space) == TSS2_RC_SUCCESS,
         "TPM2_NV_ReadPublic");
    Bytes all;
    while (all.size() < space.nvPublic.dataSize) {
        const auto size = static_cast<std::uint16_t>(std::min<std::size_t>(512, space.nvPublic.dataSize - all.size()));
        const Bytes part = command(0, TPM2_CC_NV_Read, {index, index}, 1,
                                   Parameters().u16(size).u16(static_cast<std::uint16_t>(all.size())).bytes());
        all.insert(all.end(), part.begin() + 2, part.end());
    }
    return all;
}

TpmCommands::Quoted TpmCommands::quote(std::uint32_t handle, View nonce, const PcrSelections &selections)
{
    Parameters parameters;
    parameters.u16(static_cast<std::uint16_t>(nonce.size())).raw(nonce).u16(TPM2_ALG_NULL);
    parameters.raw(selection_list(selections).bytes());
    const Bytes out = command(0, TPM2_CC_Quote, {handle}, 1, parameters.bytes());
    const std::size_t size = vtpm::load_be16(out, 0);
    const auto split = out.begin() + 2 + static_cast<std::ptrdiff_t>(size);
    return {{out.begin() + 2, split}, {split, out.end()}};
}

PcrFile TpmCommands::read_pcrs(const PcrSelections &selections)
{
    PcrFile file{selections, {}};
    for (const PcrSelection &one : selections) {
        for (unsigned pcr = 0; pcr < kPcrCount; ++pcr) {
            if ((one.mask >> pcr & 1) != 0) {
                file.values[one.bank][pcr] = pcr_read(one.bank, pcr);
            }
        }
    }
    return file;
}

Digests boot_aggregate_as_debian_6_1()
{
    // Written out, not computed as the verifier does: what Debian 6.1 showed of a TPM with PCR 0 to 9 zero.
    const std::array<std::uint8_t, 320> zeros{};
    const Digests aggregate = digest_bytes(zeros);
    Bytes data{40, 0, 0, 0, 's', 'h', 'a', '2', '5', '6', ':', 0};
    data.insert(data.end(), aggregate.sha256.begin(), aggregate.sha256.end());
    const std::string_view name{"\x0f\0\0\0boot_aggregate\0\0\0\0\0", 23};
    data.insert(data.end(), name.begin(), name.end());
    Digests digests = digest_bytes(data);
    digests.sha384.fill(0);
    std::copy(digests.sha1.begin(), digests.sha1.end(), digests.sha384.begin());
    return digests;
}

void play(Tpm &tpm, const Scenario &scenario)
{
    if (scenario.earlier_life.empty()) {
        tpm.power_on(scenario.permanent);
    } else {
        tpm.power_on(scenario.permanent);
        for (const Extension &one : scenario.earlier_life) {
            tpm.extend(0, one.pcr, one.digests);
        }
        const Bytes saved = tpm.power_off(true);
        tpm.power_on(saved, TPM2_SU_STATE);
    }
    if (scenario.launch) {
        tpm.hash_sequence(scenario.slb);
        for (const Extension &one : scenario.after_launch) {
            tpm.extend(2, one.pcr, one.digests);
        }
    }
    if (scenario.ima) {
        tpm.extend(0, 10, boot_aggregate_as_debian_6_1());
    }
    for (const Extension &one : scenario.by_linux) {
        tpm.extend(0, one.pcr, one.digests);
    }
}

Outcome collect_outcome(TpmCommands &tpm, View nonce, const PcrSelections &selections)
{
    Outcome outcome;
    const TpmCommands::Quoted quoted = tpm.quote(vtpm::kIakHandle, nonce, selections);
    outcome.quote_msg = quoted.message;
    outcome.quote_sig = quoted.signature;
    outcome.pcrs = encode_pcr_file(tpm.read_pcrs(selections));
    outcome.ek_crt = tpm.nv_read(vtpm::kEkP384CertificateIndex);
    outcome.ek_rsa_crt = tpm.nv_read(vtpm::kEkRsaCertificateIndex);
    outcome.iak_crt = tpm.nv_read(vtpm::kIakCertificateIndex);
    return outcome;
}

Outcome run(const Scenario &scenario)
{
    constexpr std::array kParts{&Outcome::quote_msg, &Outcome::quote_sig,  &Outcome::pcrs,
                                &Outcome::ek_crt,    &Outcome::ek_rsa_crt, &Outcome::iak_crt};
    const Bytes packed = in_child([&] {
        Tpm tpm;
        play(tpm, scenario);
        const Outcome outcome = collect_outcome(tpm, scenario.nonce, scenario.selections);
        CborWriter writer;
        for (const auto part : kParts) {
            writer.put_bytes(outcome.*part);
        }
        return writer.bytes();
    });
    CborReader reader(packed);
    Outcome outcome;
    for (const auto part : kParts) {
        const auto bytes = reader.read_bytes();
        must(bytes.has_value(), "unpack");
        (outcome.*part).assign(bytes->begin(), bytes->end());
    }
    return outcome;
}

} // namespace banyan::attest::testing
