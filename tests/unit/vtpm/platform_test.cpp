// SPDX-License-Identifier: GPL-2.0-or-later
// Instances of a platform folder: manufactured, durable, certified, and reports signed by its key.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cbor.h>
#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "tests/unit/vtpm/platform_folder.hpp"
#include "tests/unit/vtpm/processes.hpp"

namespace banyan::vtpm::testing {
namespace {

class APlatform : public PlatformFolder {};

TEST_F(APlatform, CarriesItsCertificatesInNv)
{
    Machine machine(options());
    ASSERT_EQ(machine.status, 0) << machine.why;
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    Guest guest(machine.vtpm);
    for (const auto &[index, fill] : {std::pair{kEkRsaCertificateIndex, 1}, std::pair{kEkP384CertificateIndex, 2},
                                      std::pair{kIakCertificateIndex, 3}}) {
        EXPECT_EQ(data_of(guest.command(nv_read(index, 700, 800))), Bytes(700, static_cast<std::uint8_t>(fill)));
        EXPECT_NE(code_of(guest.command(nv_write(index, 9))), 0U);
    }
}

TEST_F(APlatform, TakesOtherBanksAtPowerOnAndKeepsKeysAndCertificates)
{
    const auto iak_of = [](Guest &guest) {
        return guest.command(tpm_command(0x8001, 0x173, {0x81, 0x01, 0x01, 0x00}));
    };
    Bytes iak;
    const std::uint32_t all = BANYAN_VTPM_SHA1 | BANYAN_VTPM_SHA256 | BANYAN_VTPM_SHA384;
    for (const std::uint32_t banks : {all, std::uint32_t{BANYAN_VTPM_SHA384}, std::uint32_t{BANYAN_VTPM_SHA256}, all}) {
        Machine machine(options());
        banyan_vtpm_instance_config config{};
        config.size = sizeof(config);
        config.banks = banks;
        ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        Guest guest(machine.vtpm);
        EXPECT_EQ(digest_of(guest.command(pcr_read(17, 0x0004))).empty(), (banks & BANYAN_VTPM_SHA1) == 0);
        EXPECT_EQ(digest_of(guest.command(pcr_read(17, 0x000b))).empty(), (banks & BANYAN_VTPM_SHA256) == 0);
        EXPECT_EQ(digest_of(guest.command(pcr_read(17, 0x000c))).empty(), (banks & BANYAN_VTPM_SHA384) == 0);
        EXPECT_EQ(data_of(guest.command(nv_read(kIakCertificateIndex, 700, 800))), Bytes(700, 3));
        const Bytes key = iak_of(guest);
        EXPECT_EQ(code_of(key), 0U);
        EXPECT_TRUE(iak.empty() || iak == key);
        iak = key;
    }
}

TEST_F(APlatform, AnsweredNvWritesOutliveTheEngine)
{
    for (std::uint8_t round = 1; round < 4; ++round) {
        {
            Machine machine(options());
            ASSERT_TRUE(machine.power(0)) << machine.describe();
            Guest guest(machine.vtpm);
            if (round == 1) {
                EXPECT_EQ(code_of(guest.command(nv_define(kIndex))), 0U);
            } else {
                EXPECT_EQ(data_of(guest.command(nv_read(kIndex, 8, 0))),
                          Bytes(8, static_cast<std::uint8_t>(round - 1)));
            }
            EXPECT_EQ(code_of(guest.command(nv_write(kIndex, round))), 0U);
            ASSERT_TRUE(end_process(only_child())); // and its children by their parent-death signal
            for (int i = 0; i < 1000 && machine.settle(0) != BANYAN_VTPM_FAILED; ++i) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            EXPECT_EQ(code_of(guest.command(get_random(4))), 0x101U);
            EXPECT_TRUE(machine.saw("engine-died"));
        }
    }
}

TEST_F(APlatform, ADiskThatTakesNothingUndoesTheCommand)
{
    Machine machine(options());
    ASSERT_TRUE(machine.power(1)) << machine.describe();
    ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, 1, 1), 0);
    Guest guest(machine.vtpm, 1);
    EXPECT_EQ(code_of(guest.command(nv_define(kIndex))), 0U);
    EXPECT_EQ(code_of(guest.command(nv_write(kIndex, 1))), 0U);
    EXPECT_EQ(code_of(guest.command(pcr_extend(9, 1))), 0U);
    const Bytes pcr = digest_of(guest.command(pcr_read(9)));
    const auto roles = children_of(only_child());
    ASSERT_GE(roles.size(), 2U);
    const pid_t keeper = roles.front();
    const rlimit full{0, RLIM_INFINITY};
    ASSERT_EQ(::prlimit(keeper, RLIMIT_FSIZE, &full, nullptr), 0);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(code_of(guest.command(nv_write(kIndex, 2))), 0x923U) << "TPM_RC_NV_UNAVAILABLE";
        EXPECT_EQ(data_of(guest.command(nv_read(kIndex, 8, 0))), Bytes(8, 1));
        EXPECT_EQ(digest_of(guest.command(pcr_read(9))), pcr);
    }
    const rlimit room{RLIM_INFINITY, RLIM_INFINITY};
    ASSERT_EQ(::prlimit(keeper, RLIMIT_FSIZE, &room, nullptr), 0);
    EXPECT_EQ(code_of(guest.command(nv_write(kIndex, 3))), 0U);
    EXPECT_EQ(data_of(guest.command(nv_read(kIndex, 8, 0))), Bytes(8, 3));
    EXPECT_TRUE(machine.saw("store-failed"));
}

TEST_F(APlatform, ADamagedStoreFailsOnlyItsInstance)
{
    const std::string path = instance_file(folder_, 1, "nvstore");
    const std::string copy = path + ".copy";
    std::filesystem::copy_file(path, copy);
    std::filesystem::copy_file(instance_file(folder_, 0, "nvstore"), path,
                               std::filesystem::copy_options::overwrite_existing);
    {
        Machine machine(options());
        EXPECT_FALSE(machine.power(1));
        EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 1), BANYAN_VTPM_FAILED);
        EXPECT_TRUE(machine.saw("store-failed", "damaged")) << machine.describe();
        EXPECT_TRUE(machine.power(0));
    }
    std::filesystem::rename(copy, path);
}

/// Three acknowledged NV writes, and the store file as it was before the last.
class AnOlderStoreFile : public APlatform {
protected:
    AnOlderStoreFile()
    {
        static std::uint32_t next = 2;
        instance_ = next++;
        make_instance(instance_);
        path_ = instance_file(folder_, instance_, "nvstore");
        Machine machine(with(BANYAN_ROLLBACK_STRICT));
        EXPECT_TRUE(machine.power(instance_)) << machine.describe();
        EXPECT_EQ(banyan_vtpm_bind(machine.vtpm, 1, instance_), 0);
        Guest guest(machine.vtpm, 1);
        EXPECT_EQ(code_of(guest.command(nv_define(kIndex))), 0U);
        EXPECT_EQ(code_of(guest.command(nv_write(kIndex, 1))), 0U);
        std::filesystem::copy_file(path_, path_ + ".old");
        EXPECT_EQ(code_of(guest.command(nv_write(kIndex, 2))), 0U);
    }
    [[nodiscard]] Machine::Options with(banyan_vtpm_rollback rollback) const
    {
        Machine::Options options;
        options.instances = instance_ + 1;
        options.platform = folder_;
        options.rollback = rollback;
        return options;
    }
    void put_back() const
    {
        std::filesystem::copy_file(path_ + ".old", path_, std::filesystem::copy_options::overwrite_existing);
    }
    [[nodiscard]] Bytes written(Machine &machine) const
    {
        EXPECT_TRUE(machine.power(instance_)) << machine.describe();
        EXPECT_EQ(banyan_vtpm_bind(machine.vtpm, 1, instance_), 0);
        Guest guest(machine.vtpm, 1);
        return data_of(guest.command(nv_read(kIndex, 8, 0)));
    }

    std::uint32_t instance_ = 0;
    std::string path_;
};

TEST_F(AnOlderStoreFile, IsRefusedUntilTheNewestIsThereAgain)
{
    std::filesystem::copy_file(path_, path_ + ".new");
    put_back();
    {
        Machine machine(with(BANYAN_ROLLBACK_STRICT));
        EXPECT_FALSE(machine.power(instance_));
        EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, instance_), BANYAN_VTPM_FAILED);
        EXPECT_TRUE(machine.saw("store-rolled-back", "refused: the store file has generation ")) << machine.describe();
        EXPECT_NE(machine.json().find("\"rolled_back\":1"), std::string::npos) << machine.json();
        EXPECT_EQ(machine.json().find("\"restarts\":1"), std::string::npos) << "refused once, and not tried again";
        EXPECT_TRUE(machine.power(0)) << "the neighbour is unmoved";
    }
    std::filesystem::rename(path_ + ".new", path_);
    Machine machine(with(BANYAN_ROLLBACK_STRICT));
    EXPECT_EQ(written(machine), Bytes(8, 2));
}

TEST_F(AnOlderStoreFile, IsAlsoTheNewestWithItsNewestRecordSpoilt)
{
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    std::array<std::uint64_t, 2> generations{};
    for (unsigned slot = 0; slot < 2; ++slot) {
        file.seekg(slot * 132 * 1024 + 16).read(reinterpret_cast<char *>(&generations[slot]), 8);
    }
    ASSERT_NE(generations[0], generations[1]);
    file.seekp((generations[1] > generations[0] ? 132 * 1024 : 0) + 5000).write("spoilt", 6);
    file.close();
    Machine machine(with(BANYAN_ROLLBACK_STRICT));
    EXPECT_FALSE(machine.power(instance_));
    EXPECT_TRUE(machine.saw("store-rolled-back", "refused")) << machine.describe();
}

TEST_F(AnOlderStoreFile, IsReportedAndTakenWhereThePolicySaysSo)
{
    put_back();
    {
        Machine machine(with(BANYAN_ROLLBACK_REPORT));
        EXPECT_EQ(written(machine), Bytes(8, 1));
        EXPECT_TRUE(machine.saw("store-rolled-back", "accepted as generation ")) << machine.describe();
        Guest guest(machine.vtpm, 1);
        EXPECT_EQ(code_of(guest.command(nv_write(kIndex, 3))), 0U);
    }
    {
        Machine machine(with(BANYAN_ROLLBACK_STRICT));
        EXPECT_EQ(written(machine), Bytes(8, 3)) << "a new line, and the newest of it";
    }
    put_back();
    Machine machine(with(BANYAN_ROLLBACK_STRICT));
    EXPECT_FALSE(machine.power(instance_)) << "accepted once, not for ever";
}

TEST_F(AnOlderStoreFile, ALostGenerationsFileIsNoWayRound)
{
    const std::string generations = generations_file(folder_);
    std::filesystem::copy_file(generations, generations + ".copy");
    put_back();
    std::filesystem::remove(generations);
    {
        Machine machine(with(BANYAN_ROLLBACK_STRICT));
        EXPECT_FALSE(machine.power(instance_));
        EXPECT_TRUE(machine.saw("store-rolled-back", "generations file is missing")) << machine.describe();
    }
    std::ofstream(generations).close();
    {
        Machine machine(with(BANYAN_ROLLBACK_STRICT));
        EXPECT_FALSE(machine.power(instance_));
        EXPECT_TRUE(machine.saw("store-rolled-back", "nothing says")) << machine.describe();
    }
    std::filesystem::remove(generations);
    {
        Machine machine(with(BANYAN_ROLLBACK_REPORT));
        EXPECT_EQ(written(machine), Bytes(8, 1));
    }
    {
        Machine machine(with(BANYAN_ROLLBACK_STRICT));
        EXPECT_EQ(written(machine), Bytes(8, 1));
    }
    std::filesystem::rename(generations + ".copy", generations);
}

TEST_F(AnOlderStoreFile, OfAnErasedInstanceIsNeverTakenAgain)
{
    {
        Machine machine(with(BANYAN_ROLLBACK_STRICT));
        ASSERT_EQ(banyan_vtpm_erase(machine.vtpm, instance_), 0);
        EXPECT_EQ(machine.settle(instance_), BANYAN_VTPM_ABSENT) << machine.describe();
    }
    for (const auto policy : {BANYAN_ROLLBACK_STRICT, BANYAN_ROLLBACK_REPORT}) {
        put_back();
        Machine machine(with(policy));
        EXPECT_FALSE(machine.power(instance_));
        EXPECT_TRUE(machine.saw("store-failed", "erased")) << machine.describe();
        std::ifstream file(path_, std::ios::binary);
        const std::string all((std::istreambuf_iterator<char>(file)), {});
        EXPECT_EQ(all.find_first_not_of('\0'), std::string::npos) << "wiped again";
    }
}

TEST_F(APlatform, RunsOneMachineAtATime)
{
    Machine machine(options());
    ASSERT_EQ(machine.status, 0);
    const Machine other(options());
    EXPECT_LT(other.status, 0);
    EXPECT_NE(other.why.find("another machine"), std::string::npos) << other.why;
}

std::string text_of(const cbor_item_t *item)
{
    return {reinterpret_cast<const char *>(cbor_string_handle(item)), cbor_string_length(item)};
}
Bytes bytes_of(const cbor_item_t *item)
{
    return {cbor_bytestring_handle(item), cbor_bytestring_handle(item) + cbor_bytestring_length(item)};
}

banyan_report_facts some_facts()
{
    banyan_report_facts facts{};
    facts.size = sizeof(facts);
    facts.kind = BANYAN_REPORT_RECEIPT;
    facts.domain = 3;
    facts.instance = 1;
    facts.flags = 0x12345;
    facts.insecure = BANYAN_INSECURE_DMA_DRAIN | BANYAN_INSECURE_DEBUG;
    facts.start_count = 7;
    facts.launch_count = 70000;
    std::memset(facts.digest, 0xd1, sizeof(facts.digest));
    std::memset(facts.hypervisor, 0x47, sizeof(facts.hypervisor));
    facts.nonce_size = 20;
    std::memset(facts.nonce, 0x99, facts.nonce_size);
    std::strcpy(facts.name, "vm3");
    return facts;
}

banyan_status sign(banyan_vtpm *vtpm, std::uint32_t slot, const banyan_report_facts &facts, Bytes &out)
{
    banyan_status status = banyan_vtpm_sign(vtpm, slot, &facts);
    std::uint32_t size = 0;
    out.resize(BANYAN_REPORT_MAX);
    if (status == 0) {
        while ((status = banyan_vtpm_sign_poll(vtpm, slot, out.data(), &size)) == BANYAN_BUSY) {
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
    }
    out.resize(size);
    return status;
}

TEST_F(APlatform, SignsAReportThatItsKeyVerifies)
{
    Machine machine(options());
    ASSERT_EQ(machine.status, 0) << machine.why;
    const banyan_report_facts facts = some_facts();
    Bytes message;
    ASSERT_EQ(sign(machine.vtpm, 31, facts, message), 0);

    cbor_load_result loaded{};
    ASSERT_FALSE(message.empty());
    EXPECT_EQ(message[0], 0xd2) << "tag 18, which this libcbor does not read";
    cbor_item_t *parts = cbor_load(message.data() + 1, message.size() - 1, &loaded);
    ASSERT_NE(parts, nullptr) << loaded.error.code << " at " << loaded.error.position;
    EXPECT_EQ(loaded.read, message.size() - 1);
    ASSERT_TRUE(cbor_isa_array(parts) && cbor_array_size(parts) == 4);
    cbor_item_t **part = cbor_array_handle(parts);
    const Bytes head = bytes_of(part[0]);
    const Bytes body = bytes_of(part[2]);
    const Bytes raw = bytes_of(part[3]);
    EXPECT_EQ(head, (Bytes{0xa1, 0x01, 0x38, 0x22})) << "{1: -35}";
    EXPECT_EQ(cbor_map_size(part[1]), 0U);
    ASSERT_EQ(raw.size(), 96U);

    Bytes signed_text{0x84, 0x6a, 'S', 'i', 'g', 'n', 'a', 't', 'u', 'r', 'e', '1', 0x44};
    signed_text.insert(signed_text.end(), head.begin(), head.end());
    signed_text.insert(signed_text.end(), {0x40, 0x59, static_cast<std::uint8_t>(body.size() >> 8),
                                           static_cast<std::uint8_t>(body.size())});
    signed_text.insert(signed_text.end(), body.begin(), body.end());
    ECDSA_SIG *pair = ECDSA_SIG_new();
    ECDSA_SIG_set0(pair, BN_bin2bn(raw.data(), 48, nullptr), BN_bin2bn(raw.data() + 48, 48, nullptr));
    unsigned char *der = nullptr;
    const int der_size = i2d_ECDSA_SIG(pair, &der);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EXPECT_EQ(EVP_DigestVerifyInit(context, nullptr, EVP_sha384(), nullptr, key_), 1);
    EXPECT_EQ(
        EVP_DigestVerify(context, der, static_cast<std::size_t>(der_size), signed_text.data(), signed_text.size()), 1);
    EVP_MD_CTX_free(context);
    OPENSSL_free(der);
    ECDSA_SIG_free(pair);

    cbor_item_t *map = cbor_load(body.data(), body.size(), &loaded);
    ASSERT_TRUE(map != nullptr && cbor_isa_map(map));
    ASSERT_EQ(cbor_map_size(map), 16U);
    const std::vector<std::string> keys{"schema",   "kind",  "machine", "class",      "domain",     "name",
                                        "instance", "start", "launch",  "descriptor", "hypervisor", "flags",
                                        "insecure", "ek",    "iak",     "nonce"};
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const cbor_pair &entry = cbor_map_handle(map)[i];
        EXPECT_EQ(text_of(entry.key), keys[i]);
        const auto number = [&] { return cbor_get_int(entry.value); };
        if (keys[i] == "schema") {
            EXPECT_EQ(number(), 1U);
        } else if (keys[i] == "kind") {
            EXPECT_EQ(number(), 1U);
        } else if (keys[i] == "machine") {
            EXPECT_EQ(bytes_of(entry.value), machine_id_);
        } else if (keys[i] == "class") {
            EXPECT_EQ(text_of(entry.value), "machine");
        } else if (keys[i] == "domain") {
            EXPECT_EQ(number(), 3U);
        } else if (keys[i] == "name") {
            EXPECT_EQ(text_of(entry.value), "vm3");
        } else if (keys[i] == "launch") {
            EXPECT_EQ(number(), 70000U);
        } else if (keys[i] == "descriptor") {
            EXPECT_EQ(bytes_of(entry.value), Bytes(48, 0xd1));
        } else if (keys[i] == "insecure") {
            ASSERT_EQ(cbor_array_size(entry.value), 2U);
            EXPECT_EQ(text_of(cbor_array_handle(entry.value)[0]), "debug");
            EXPECT_EQ(text_of(cbor_array_handle(entry.value)[1]), "dma-drain");
        } else if (keys[i] == "iak") {
            std::ifstream file(instance_file(folder_, 1, "iak"), std::ios::binary);
            EXPECT_EQ(bytes_of(entry.value), Bytes((std::istreambuf_iterator<char>(file)), {}));
            EXPECT_EQ(cbor_bytestring_length(entry.value), 50U);
        } else if (keys[i] == "ek") {
            EXPECT_EQ(cbor_bytestring_length(entry.value), 50U);
        } else if (keys[i] == "nonce") {
            EXPECT_EQ(bytes_of(entry.value), Bytes(20, 0x99));
        }
    }
    cbor_decref(&map);
    cbor_decref(&parts);
}

TEST_F(APlatform, SlotsSignIndependently)
{
    Machine machine(options());
    banyan_report_facts facts = some_facts();
    for (std::uint32_t slot = 0; slot < 32; ++slot) {
        ASSERT_EQ(banyan_vtpm_sign(machine.vtpm, slot, &facts), 0) << slot;
    }
    EXPECT_LT(banyan_vtpm_sign(machine.vtpm, 0, &facts), 0) << "one at a time per slot";
    EXPECT_LT(banyan_vtpm_sign(machine.vtpm, 32, &facts), 0);
    facts.nonce_size = 65;
    EXPECT_LT(banyan_vtpm_sign(machine.vtpm, 1, &facts), 0);
    for (std::uint32_t slot = 0; slot < 32; ++slot) {
        Bytes out(BANYAN_REPORT_MAX);
        std::uint32_t size = 0;
        banyan_status status = BANYAN_BUSY;
        for (int i = 0; i < 10000 && status == BANYAN_BUSY; ++i) {
            status = banyan_vtpm_sign_poll(machine.vtpm, slot, out.data(), &size);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        EXPECT_EQ(status, 0) << slot;
        EXPECT_GT(size, 300U);
        EXPECT_LT(banyan_vtpm_sign_poll(machine.vtpm, slot, out.data(), &size), 0) << "handed out once";
    }
}

// ---- snapshots of a platform's instances

Machine::Options incoming_options(Machine::Options options)
{
    options.incoming = true;
    return options;
}

std::uint64_t restores_of(const std::string &folder, const StoreKey &key, std::uint32_t instance)
{
    const auto record = load_store(instance_file(folder, instance, "nvstore"), key, instance);
    return record ? record->restores : ~std::uint64_t{0};
}

TEST_F(APlatform, HandsItsFolderToTheMachineThatGoesOn)
{
    const std::uint64_t before = restores_of(folder_, store_key(), 0);
    Machine source(options());
    ASSERT_TRUE(source.power(0)) << source.describe();
    Guest there(source.vtpm);
    ASSERT_EQ(code_of(there.command(pcr_extend(9, 1))), 0U);
    const Bytes pcr = there.command(pcr_read(9));
    Machine target(incoming_options(options()));
    ASSERT_EQ(target.status, 0) << target.why << ": it can wait beside the first";
    const Bytes saved = source.save(true);
    ASSERT_FALSE(saved.empty()) << source.why;
    ASSERT_TRUE(target.load(saved)) << target.why;
    ASSERT_TRUE(target.run()) << target.why;
    Guest here(target.vtpm);
    EXPECT_EQ(here.command(pcr_read(9)), pcr);
    EXPECT_EQ(restores_of(folder_, store_key(), 0), before + 1) << "durable";
    // The first one cannot go on beside it: there would be two TPMs with the same keys and counters.
    EXPECT_FALSE(source.run());
    EXPECT_NE(source.why.find("another machine"), std::string::npos) << source.why;
    EXPECT_EQ(code_of(there.command(pcr_read(9))), 0x101U);
    EXPECT_EQ(code_of(here.command(pcr_extend(9, 2))), 0U);
}

TEST_F(APlatform, TakesItsFolderBackWhenNobodyWentOn)
{
    Machine source(options());
    ASSERT_TRUE(source.power(0)) << source.describe();
    Guest guest(source.vtpm);
    const Bytes saved = source.save(true);
    ASSERT_FALSE(saved.empty()) << source.why;
    ASSERT_EQ(banyan_vtpm_power_on(source.vtpm, 1), 0) << "a reset meanwhile waits";
    EXPECT_EQ(banyan_vtpm_instance_state(source.vtpm, 1), BANYAN_VTPM_OFF);
    ASSERT_TRUE(source.run()) << source.why;
    EXPECT_EQ(source.settle(1), BANYAN_VTPM_READY);
    EXPECT_EQ(code_of(guest.command(pcr_extend(9, 1))), 0U);
    EXPECT_EQ(code_of(guest.command(shutdown(0))), 0U) << "commits";
}

TEST_F(APlatform, AMachineThatWentOnElsewhereDoesNotComeBackHere)
{
    Machine source(options());
    ASSERT_TRUE(source.power(0)) << source.describe();
    const Bytes saved = source.save(true);
    {
        Machine target(incoming_options(options()));
        ASSERT_TRUE(target.load(saved)) << target.why;
    }
    EXPECT_FALSE(source.run()) << "the other one has ended, but what it did counts";
    EXPECT_NE(source.why.find("another machine went on"), std::string::npos) << source.why;
    EXPECT_EQ(banyan_vtpm_instance_state(source.vtpm, 0), BANYAN_VTPM_FAILED);
}

TEST_F(APlatform, ASnapshotOfAnEarlierDayBeginsANewLineageInFolderAndReport)
{
    Bytes saved;
    Bytes quoted;
    {
        Machine machine(options());
        ASSERT_TRUE(machine.power(1)) << machine.describe();
        ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, 1, 1), 0);
        Guest guest(machine.vtpm, 1);
        EXPECT_EQ(code_of(guest.command(pcr_extend(9, 1))), 0U);
        quoted = guest.command(pcr_read(9));
        saved = machine.save();
        ASSERT_FALSE(saved.empty()) << machine.why;
        for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(code_of(guest.command(shutdown(0))), 0U); // each commits
            ASSERT_TRUE(machine.power(1));
        }
    }
    const auto before = load_store(instance_file(folder_, 1, "nvstore"), store_key(), 1);
    ASSERT_TRUE(before.has_value());
    Machine machine(options());
    Bytes message;
    banyan_report_facts facts = some_facts();
    ASSERT_TRUE(machine.load(saved)) << machine.why;
    ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, 1, 1), 0);
    Guest guest(machine.vtpm, 1);
    EXPECT_EQ(guest.command(pcr_read(9)), quoted);
    const auto after = load_store(instance_file(folder_, 1, "nvstore"), store_key(), 1);
    ASSERT_TRUE(after.has_value());
    EXPECT_GT(after->generation, before->generation);
    EXPECT_EQ(after->restores, before->restores + 1);
    ASSERT_EQ(sign(machine.vtpm, 0, facts, message), 0);
    const auto has = [&](const std::string &text) {
        return std::search(message.begin(), message.end(), text.begin(), text.end()) != message.end();
    };
    EXPECT_TRUE(has("hrestored")) << "in insecure";
    const std::string count = std::string("hrestores") + static_cast<char>(after->restores);
    EXPECT_TRUE(has(count));
}

TEST_F(APlatform, TheReportOfALaterMachineStillSaysIt)
{
    {
        Machine machine(options());
        const Bytes saved = machine.save();
        ASSERT_TRUE(machine.load(saved)) << machine.why;
    }
    Machine machine(options());
    Bytes message;
    ASSERT_EQ(sign(machine.vtpm, 0, some_facts(), message), 0);
    const std::string name = "hrestored";
    EXPECT_NE(std::search(message.begin(), message.end(), name.begin(), name.end()), message.end());
}

TEST_F(APlatform, ASnapshotOfAnotherPlatformOrInstanceIsRefused)
{
    Machine machine(options());
    ASSERT_EQ(machine.status, 0) << machine.why;
    const Bytes saved = machine.save();
    char name[] = "/tmp/banyan-key-XXXXXX";
    const int fd = ::mkstemp(name);
    EXPECT_EQ(::write(fd, store_key().data(), kStoreKeySize), static_cast<ssize_t>(kStoreKeySize));
    ::close(fd);
    Machine stranger({.instances = 2, .snapshot_key = name, .incoming = true}); // the same key, another machine
    EXPECT_FALSE(stranger.load(saved));
    EXPECT_NE(stranger.why.find("the state of another TPM"), std::string::npos) << stranger.why;
    Machine::Options both = options();
    both.snapshot_key = name;
    const Machine confused(both);
    EXPECT_LT(confused.status, 0);
    EXPECT_NE(confused.why.find("the platform has one of its own"), std::string::npos) << confused.why;
    ::unlink(name);
}

TEST(ATestEngine, SaysThatItIsOne)
{
    Machine machine({.instances = 2});
    banyan_report_facts facts = some_facts();
    Bytes message;
    EXPECT_LT(sign(machine.vtpm, 0, facts, message), 0) << "no TPM was made yet";
    ASSERT_TRUE(machine.power(1));
    ASSERT_EQ(sign(machine.vtpm, 0, facts, message), 0);
    const std::string text(message.begin(), message.end());
    EXPECT_NE(text.find("eclassdtest"), std::string::npos);
    EXPECT_NE(text.find("test-engine"), std::string::npos);
}

} // namespace
} // namespace banyan::vtpm::testing
