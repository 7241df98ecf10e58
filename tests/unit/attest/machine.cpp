// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/unit/attest/machine.hpp"

#include <cstdlib>
#include <stdexcept>

#include "attest/event_log.hpp"
#include "attest/pki.hpp"
#include "banyan/arch/boot_info.hpp"
#include "tool/cmd_platform.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::attest::testing {

namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder()
{
    std::string name = (fs::temp_directory_path() / "banyan-attest-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
        throw std::runtime_error("mkdtemp");
    }
    path_ = name;
}

TemporaryFolder::~TemporaryFolder()
{
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

Machine::Machine(fs::path private_folder, fs::path public_folder)
    : private_(std::move(private_folder)),
      public_(std::move(public_folder)),
      key_(take(private_key_from_pem(take(read_file(private_ / "platform.key", 4096)))))
{
    const PlatformFacts facts = take(read_public_platform(public_));
    id_ = facts.machine;
    class_ = facts.platform_class;
}

Machine Machine::make(const fs::path &folder, unsigned instances, const fs::path &manufacturer,
                      std::string_view platform_class)
{
    PlatformOptions options;
    options.private_folder = folder / "private";
    options.public_folder = folder / "public";
    options.instances = instances;
    options.manufacturer = manufacturer;
    options.platform_class = platform_class;
    take(new_platform(options, tool::manufacture_instance));
    return {options.private_folder, options.public_folder};
}

Bytes Machine::permanent(unsigned instance) const
{
    const Bytes key = take(read_file(private_ / "store.key", 32));
    vtpm::StoreKey store_key{};
    std::copy(key.begin(), key.end(), store_key.begin());
    const auto record =
        vtpm::load_store(vtpm::instance_file(private_.string(), instance, "nvstore"), store_key, instance);
    if (!record) {
        throw std::runtime_error("load_store");
    }
    return record->permanent;
}

TrustAnchors Machine::anchors() const
{
    return take(TrustAnchors::from_pem(take(read_file(public_ / "manufacturer.pem", 1 << 16))));
}

Report Machine::facts(const VmReference &vm, ReportKind kind, const Bytes &nonce) const
{
    const fs::path instance = public_ / "instances" / instance_number(vm.instance);
    const auto key_of = [&](const char *file) {
        return take(Certificate::from_der(take(read_file(instance / file, 1 << 16))));
    };
    Report report;
    report.kind = kind;
    report.machine = id_;
    report.platform_class = class_;
    report.domain = vm.domain;
    report.name = vm.name;
    report.instance = vm.instance;
    report.start = 3;
    report.launch = kind == ReportKind::kReceipt ? 0 : 1;
    report.descriptor = vm.descriptor;
    report.hypervisor = vm.hypervisor;
    report.ek = take(ek_name(key_of("ek.crt").key()));
    report.iak = take(iak_name(key_of("iak.crt").key()));
    report.nonce = nonce;
    return report;
}

Bytes Machine::sign(const Report &report) const
{
    return take(sign1(encode_report(report), key_.get()));
}

VmRun plan_run(const Machine &machine, const VmReference &reference, const Bytes &slb, const Bytes &nonce)
{
    VmRun run;
    run.reference = reference;
    run.slb = slb;
    run.nonce = nonce;
    run.scenario.permanent = machine.permanent(reference.instance);
    run.scenario.slb = slb;
    run.scenario.nonce = nonce;
    for (std::size_t i = 0; i < reference.items.size(); ++i) {
        const MeasuredItem &item = reference.items[i];
        if (i != 0) {
            run.scenario.after_launch.push_back({item.pcr, item.digests});
        }
        Event event{item.pcr, item.event_type, {}, {item.text.begin(), item.text.end()}};
        for (const Bank bank : kBanks) {
            const View digest = digest_of(item.digests, bank);
            event.digests[bank] = Bytes(digest.begin(), digest.end());
        }
        run.events.push_back(std::move(event));
    }
    run.report = machine.facts(reference, ReportKind::kDomain, nonce);
    run.receipt = machine.facts(reference, ReportKind::kReceipt, nonce);
    return run;
}

EvidenceFiles collect(const Machine &machine, const VmRun &run)
{
    return evidence_of(testing::run(run.scenario), run, machine.sign(run.report));
}

EvidenceFiles evidence_of(const Outcome &outcome, const VmRun &run, Bytes report)
{
    EvidenceFiles files;
    files.folder = "evidence/" + run.reference.name;
    files.quote_msg = outcome.quote_msg;
    files.quote_sig = outcome.quote_sig;
    files.pcrs = outcome.pcrs;
    files.ek_crt = outcome.ek_crt;
    files.ek_rsa_crt = outcome.ek_rsa_crt;
    files.iak_crt = outcome.iak_crt;
    const std::string pem = take(public_key_to_pem(take(Certificate::from_der(outcome.iak_crt)).key()));
    files.ak_pem.assign(pem.begin(), pem.end());
    files.nonce = run.nonce;
    files.event_log = encode_event_log({{kBanks.begin(), kBanks.end()}, run.events});
    files.report = std::move(report);
    return files;
}

OwnerRecord owner_record(const Machine &machine, const VmRun &run)
{
    OwnerRecord record;
    record.folder = "owner/" + run.reference.name;
    record.chain_pem = take(read_file(machine.public_folder() / "chain.pem", 1 << 16));
    record.nonce = run.nonce;
    record.receipt = machine.sign(run.receipt);
    return record;
}

void write_evidence(const fs::path &folder, const EvidenceFiles &files)
{
    fs::create_directories(folder);
    const auto write = [&](const char *name, const Bytes &bytes) {
        fs::remove(folder / name);
        take(write_new_file(folder / name, bytes, 0644));
    };
    write("ak.pem", files.ak_pem);
    write("quote.msg", files.quote_msg);
    write("quote.sig", files.quote_sig);
    write("pcrs.bin", files.pcrs);
    write("nonce", files.nonce);
    write("eventlog.bin", files.event_log);
    write("ek.crt", files.ek_crt);
    write("ek-rsa.crt", files.ek_rsa_crt);
    write("iak.crt", files.iak_crt);
    write("report.cose", files.report);
    if (files.ima_log) {
        write("ima.log", *files.ima_log);
    }
    if (files.slb) {
        write("slb.bin", *files.slb);
    }
}

void write_owner(const fs::path &owner, const std::string &vm, const OwnerRecord &record)
{
    fs::create_directories(owner / vm);
    const auto write = [&](const fs::path &path, const Bytes &bytes) {
        fs::remove(path);
        take(write_new_file(path, bytes, 0644));
    };
    write(owner / "chain.pem", record.chain_pem);
    write(owner / vm / "nonce", record.nonce);
    write(owner / vm / "receipt.cose", record.receipt);
}

} // namespace banyan::attest::testing
