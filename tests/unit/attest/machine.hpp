// SPDX-License-Identifier: GPL-2.0-or-later
// A machine without an emulator: a platform's folders, its vTPM instances, and what its VMs would hand out.
#pragma once

#include <filesystem>
#include <string>

#include "attest/event_log.hpp"
#include "attest/evidence.hpp"
#include "attest/platform.hpp"
#include "attest/reference.hpp"
#include "attest/report.hpp"
#include "attest/verify.hpp"
#include "tests/unit/attest/tpm_scenario.hpp"

namespace banyan::attest::testing {

/// Gone with the object.
class TemporaryFolder {
public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder &) = delete;
    TemporaryFolder &operator=(const TemporaryFolder &) = delete;
    [[nodiscard]] const std::filesystem::path &path() const { return path_; }

private:
    std::filesystem::path path_;
};

template <typename T>
T take(Expected<T> result)
{
    if (!result) {
        throw std::runtime_error(result.error());
    }
    return std::move(*result);
}
inline void take(Expected<void> result)
{
    if (!result) {
        throw std::runtime_error(result.error());
    }
}

/// Opens a platform that new_platform() made.
class Machine {
public:
    Machine(std::filesystem::path private_folder, std::filesystem::path public_folder);

    static Machine make(const std::filesystem::path &folder, unsigned instances,
                        const std::filesystem::path &manufacturer = {},
                        std::string_view platform_class = kClassMachine);

    [[nodiscard]] const std::filesystem::path &private_folder() const { return private_; }
    [[nodiscard]] const std::filesystem::path &public_folder() const { return public_; }
    [[nodiscard]] Bytes permanent(unsigned instance) const;
    [[nodiscard]] TrustAnchors anchors() const;

    /// A report as the hardware would sign it for this VM in this state.
    [[nodiscard]] Report facts(const VmReference &vm, ReportKind kind, const Bytes &nonce) const;
    [[nodiscard]] Bytes sign(const Report &report) const;
    [[nodiscard]] EVP_PKEY *platform_key() const { return key_.get(); }

private:
    std::filesystem::path private_;
    std::filesystem::path public_;
    Key key_;
    MachineId id_{};
    std::string class_;
};

/// A VM's run that goes as it should: what each test then spoils.
struct VmRun {
    VmReference reference;
    Bytes slb;
    Scenario scenario;
    Bytes nonce;
    Report report;
    Report receipt;
    std::vector<Event> events;
};

VmRun plan_run(const Machine &machine, const VmReference &reference, const Bytes &slb, const Bytes &nonce);

/// Plays it and collects the folder of evidence.
EvidenceFiles collect(const Machine &machine, const VmRun &run);
/// As collect(), of a TPM that was reached in another way.
EvidenceFiles evidence_of(const Outcome &outcome, const VmRun &run, Bytes report);
OwnerRecord owner_record(const Machine &machine, const VmRun &run);

void write_evidence(const std::filesystem::path &folder, const EvidenceFiles &files);
void write_owner(const std::filesystem::path &owner, const std::string &vm, const OwnerRecord &record);

} // namespace banyan::attest::testing
