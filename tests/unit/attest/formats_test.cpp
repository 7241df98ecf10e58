// SPDX-License-Identifier: GPL-2.0-or-later
// What each format's reader takes and refuses, and what a platform's folders hold.

#include <functional>
#include <sys/stat.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "attest/cbor.hpp"
#include "attest/event_log.hpp"
#include "attest/ima.hpp"
#include "attest/pki.hpp"
#include "attest/quote.hpp"
#include "banyan/arch/boot_info.hpp"
#include "tests/unit/attest/machine.hpp"
#include "tool/cmd_platform.hpp"
#include "vtpm/engine/manufacture.hpp"

namespace banyan::attest::testing {

namespace fs = std::filesystem;

Bytes corpus(const char *name)
{
    return take(read_file(fs::path(BANYAN_CORPUS) / name, 1 << 16));
}

Report some_report()
{
    Report report;
    report.platform_class = "machine";
    report.domain = 1;
    report.name = "alpha";
    report.instance = 1;
    report.start = 70000;
    report.launch = 1;
    report.descriptor.fill(0xd1);
    report.insecure = {"dma-drain"};
    report.ek = Bytes(50, 1);
    report.iak = Bytes(50, 2);
    report.nonce = Bytes(32, 3);
    return report;
}

template <typename T>
void expect_problem(const Expected<T> &result, std::string_view words)
{
    ASSERT_FALSE(result.has_value());
    EXPECT_NE(result.error().find(words), std::string::npos) << result.error();
}

// ---- report

TEST(ReportPayload, ComesBackAsItWas)
{
    EXPECT_EQ(take(parse_report(encode_report(some_report()))), some_report());
    Report largest = some_report();
    largest.start = ~std::uint64_t{0};
    largest.insecure.clear();
    largest.nonce = Bytes(64, 4);
    EXPECT_EQ(take(parse_report(encode_report(largest))), largest);
}

TEST(ReportPayload, MaySayHowOftenItsTpmWasBroughtBack)
{
    Report report = some_report();
    report.restores = 300;
    report.insecure.emplace_back("restored");
    EXPECT_EQ(take(parse_report(encode_report(report))), report);
    report.insecure.pop_back();
    expect_problem(parse_report(encode_report(report)), "without insecure:restored");
    report.restores = 0;
    report.insecure.emplace_back("restored");
    expect_problem(parse_report(encode_report(report)), "without insecure:restored");
    Bytes zero = encode_report(some_report());
    ASSERT_EQ(zero[0], 0xb0); // a map of 16
    zero[0] = 0xb1;
    const Bytes key = CborWriter().put_text("restores").put_unsigned(0).bytes();
    zero.insert(zero.end(), key.begin(), key.end());
    expect_problem(parse_report(zero), "\"restores\": 0, expected at least 1");
}

TEST(ReportPayload, TakesKeysInAnyOrderButEachOnce)
{
    // The map's pairs one by one, to be put together in other ways.
    const Bytes whole = encode_report(some_report());
    std::vector<Bytes> pairs;
    CborReader reader(whole);
    ASSERT_EQ(take(reader.read_map()), 16U);
    for (const char *key : {"schema", "kind", "machine", "class", "domain", "name", "instance", "start", "launch",
                            "descriptor", "hypervisor", "flags", "insecure", "ek", "iak", "nonce"}) {
        ASSERT_EQ(take(reader.read_text()), key);
        CborWriter pair;
        pair.put_text(key);
        const std::string name = key;
        if (name == "class" || name == "name") {
            pair.put_text(take(reader.read_text()));
        } else if (name == "insecure") {
            ASSERT_EQ(take(reader.read_array()), 1U);
            pair.put_array(1).put_text(take(reader.read_text()));
        } else if (name == "machine" || name == "descriptor" || name == "hypervisor" || name == "ek" || name == "iak" ||
                   name == "nonce") {
            pair.put_bytes(take(reader.read_bytes()));
        } else {
            pair.put_unsigned(take(reader.read_unsigned()));
        }
        pairs.push_back(pair.bytes());
    }
    EXPECT_TRUE(reader.at_end());
    const auto put_together = [](const std::vector<Bytes> &parts) {
        Bytes all = CborWriter().put_map(parts.size()).bytes();
        for (const Bytes &part : parts) {
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    };
    const std::vector<Bytes> reversed(pairs.rbegin(), pairs.rend());
    EXPECT_EQ(take(parse_report(put_together(reversed))), some_report());

    std::vector<Bytes> other = pairs;
    other.pop_back();
    expect_problem(parse_report(put_together(other)), "\"nonce\" is missing");
    other.push_back(pairs[0]);
    expect_problem(parse_report(put_together(other)), "\"schema\" twice");
    other.back() = CborWriter().put_text("more").put_unsigned(1).bytes();
    expect_problem(parse_report(put_together(other)), "unknown key \"more\"");
    Bytes trailing = put_together(pairs);
    trailing.push_back(0);
    expect_problem(parse_report(trailing), "bytes after the end");

    const auto replaced = [&](std::size_t index, const CborWriter &pair) {
        std::vector<Bytes> parts = pairs;
        parts[index] = pair.bytes();
        return parse_report(put_together(parts));
    };
    expect_problem(replaced(0, CborWriter().put_text("schema").put_unsigned(2)), "expected 1");
    expect_problem(replaced(1, CborWriter().put_text("kind").put_unsigned(2)), "expected 0 or 1");
    expect_problem(replaced(2, CborWriter().put_text("machine").put_bytes(Bytes(31))), "31 bytes");
    expect_problem(replaced(2, CborWriter().put_text("machine").put_text("x")), "a byte string must be");
    expect_problem(replaced(4, CborWriter().put_text("domain").put_negative(0)), "an unsigned integer must be");
    expect_problem(replaced(5, CborWriter().put_text("name").put_text(std::string(32, 'a'))), "32 characters");
    expect_problem(replaced(5, CborWriter().put_text("name").put_text("a\nb")), "printable ASCII");
    expect_problem(replaced(12, CborWriter().put_text("insecure").put_array(2).put_text("a").put_text("a")),
                   "repeated");
    expect_problem(replaced(12, CborWriter().put_text("insecure").put_array(std::size_t{1} << 40)), "elements");
    expect_problem(replaced(15, CborWriter().put_text("nonce").put_bytes({})), "0 bytes");
    expect_problem(replaced(15, CborWriter().put_text("nonce").put_bytes(Bytes(65))), "65 bytes");
}

TEST(ReportPayload, IsNotReadFromIndefiniteLengths)
{
    Bytes open{0xbf}; // map, indefinite
    const Bytes whole = encode_report(some_report());
    open.insert(open.end(), whole.begin() + 1, whole.end());
    open.push_back(0xff);
    EXPECT_FALSE(parse_report(open));
}

TEST(Sign1Message, IsVerifiedByItsKeyAndNoOther)
{
    const Key key = take(new_signing_key());
    const Key other = take(new_signing_key());
    const Bytes payload = encode_report(some_report());
    const Sign1 message = take(parse_sign1(take(sign1(payload, key.get()))));
    EXPECT_EQ(message.payload, payload);
    EXPECT_TRUE(verify_sign1(message, key.get()));
    EXPECT_FALSE(verify_sign1(message, other.get()));
    Sign1 spoiled = message;
    spoiled.signature[5] ^= 1;
    EXPECT_FALSE(verify_sign1(spoiled, key.get()));
    spoiled = message;
    spoiled.signature.assign(96, 0);
    EXPECT_FALSE(verify_sign1(spoiled, key.get()));
}

TEST(Sign1Message, HasTheAlgorithmInItsProtectedHeaderAndNothingElse)
{
    const auto message = [](const Bytes &header, std::size_t unprotected, std::uint64_t tag, std::size_t size) {
        CborWriter writer;
        writer.put_tag(tag).put_array(4).put_bytes(header).put_map(unprotected);
        for (std::size_t i = 0; i < unprotected; ++i) {
            writer.put_unsigned(4).put_bytes({});
        }
        writer.put_bytes({}).put_bytes(Bytes(size));
        return parse_sign1(writer.bytes());
    };
    const Bytes es384 = CborWriter().put_map(1).put_unsigned(1).put_negative(34).bytes();
    EXPECT_TRUE(message(es384, 0, 18, 96));
    expect_problem(message(es384, 1, 18, 96), "unprotected header");
    expect_problem(message(es384, 0, 17, 96), "tag 17");
    expect_problem(message(es384, 0, 61, 96), "tag 61");
    expect_problem(message(es384, 0, 18, 95), "signature of 95 bytes");
    expect_problem(message(CborWriter().put_map(1).put_unsigned(1).put_negative(6).bytes(), 0, 18, 96), "-7");
    expect_problem(message(CborWriter().put_map(0).bytes(), 0, 18, 96), "protected header");
    expect_problem(message({}, 0, 18, 96), "protected header");
}

// ---- event log

EventLog some_log()
{
    EventLog log{{kBanks.begin(), kBanks.end()}, {}};
    for (const char *text : {"SKINIT", "kernel"}) {
        const std::string_view view = text;
        Event event{17, 0x0d, {}, {view.begin(), view.end()}};
        for (const Bank bank : kBanks) {
            event.digests[bank] = hash(bank, view_of(view));
        }
        log.events.push_back(event);
    }
    return log;
}

TEST(EventLogFile, ComesBackAsItWas)
{
    const EventLog log = take(parse_event_log(encode_event_log(some_log())));
    ASSERT_EQ(log.events.size(), 2U);
    EXPECT_EQ(log.banks, some_log().banks);
    EXPECT_EQ(text_of(log.events[1].data), "kernel");
    EXPECT_EQ(log.events[1].digests, some_log().events[1].digests);
}

TEST(EventLogFile, MustBeWhole)
{
    const Bytes whole = encode_event_log(some_log());
    EXPECT_TRUE(parse_event_log(whole));
    unsigned complete = 0; // cuts at the end of an event are logs
    for (std::size_t size = 0; size < whole.size(); ++size) {
        complete += parse_event_log(View(whole).first(size)).has_value() ? 1 : 0;
    }
    EXPECT_EQ(complete, 2U); // after the header, after the first event
    Bytes more = whole;
    more.push_back(0);
    EXPECT_FALSE(parse_event_log(more));
}

TEST(EventLogFile, HasADigestOfEachBankForEachEvent)
{
    EventLog log = some_log();
    log.events[0].digests.erase(Bank::kSha1);
    expect_problem(parse_event_log(encode_event_log(log)), "event 1");
    log = some_log();
    log.events[1].pcr = 24;
    expect_problem(parse_event_log(encode_event_log(log)), "PCR 24");
    log = some_log();
    log.banks.push_back(Bank::kSha1);
    expect_problem(parse_event_log(encode_event_log(log)), "repeated");
}

TEST(EventLogFile, ReplaysToWhatATpmComputes)
{
    PcrValues start;
    start[Bank::kSha256].fill(Bytes(32));
    const PcrValues end = take(replay(some_log(), start));
    const Bytes first = extend(Bank::kSha256, Bytes(32), hash(Bank::kSha256, view_of("SKINIT")));
    EXPECT_EQ(end.at(Bank::kSha256)[17], extend(Bank::kSha256, first, hash(Bank::kSha256, view_of("kernel"))));
    EXPECT_EQ(end.at(Bank::kSha256)[18], Bytes(32));
}

// ---- what tpm2_quote writes

TEST(PcrFileFormat, IsThatOfTpm2Tools)
{
    const PcrFile file = take(parse_pcr_file(corpus("pcrs.bin")));
    ASSERT_EQ(file.selections.size(), 2U);
    EXPECT_EQ(describe(file.selections), "sha256:0xffffff, sha384:0xffffff");
    EXPECT_EQ(file.values.at(Bank::kSha384)[23].size(), 48U);
    const Quote quote = take(parse_quote(corpus("quote.msg")));
    EXPECT_EQ(quote.pcr_digest, hash(Bank::kSha384, file.concatenated()));
    EXPECT_EQ(quote.selections, file.selections);
    EXPECT_EQ(quote.restart_count, 1U);
    EXPECT_TRUE(take(public_key_from_pem(corpus("ak.pem"))));
    EXPECT_TRUE(verify_es384(take(public_key_from_pem(corpus("ak.pem"))).get(), corpus("quote.msg"),
                             take(parse_signature(corpus("quote.sig")))));
}

TEST(PcrFileFormat, RefusesCountsThatDoNotFit)
{
    const Bytes good = corpus("pcrs.bin");
    EXPECT_FALSE(parse_pcr_file(View(good).first(good.size() - 1)));
    for (const std::size_t at : {0, 1, 4, 6, 132, 136, 140}) { // counts, an algorithm, a select size, a digest's size
        Bytes spoiled = good;
        spoiled[at] = 0xff;
        EXPECT_FALSE(parse_pcr_file(spoiled)) << at;
    }
}

TEST(QuoteMessage, MustBeMadeByATpmAndBeAQuote)
{
    const Bytes good = corpus("quote.msg");
    Bytes spoiled = good;
    spoiled[0] ^= 1;
    expect_problem(parse_quote(spoiled), "");
    spoiled = good;
    spoiled.push_back(0);
    expect_problem(parse_quote(spoiled), "bytes after the end");
    expect_problem(parse_quote(View(good).first(30)), "not a TPMS_ATTEST");
    spoiled = corpus("quote.sig");
    spoiled[1] = 0x14; // TPM_ALG_RSASSA
    EXPECT_FALSE(parse_signature(spoiled));
    spoiled = corpus("quote.sig");
    spoiled[3] = 0x0b; // SHA-256
    expect_problem(parse_signature(spoiled), "expected ECDSA with SHA-384");
}

// ---- IMA

TEST(ImaPrediction, HoldsWhatDebian61Does)
{
    const Digests digests = boot_aggregate_as_debian_6_1();
    for (const Bank bank : kBanks) {
        const std::vector<Bytes> values = predicted_ima_values(bank);
        EXPECT_EQ(values[0], Bytes(digest_size(bank)));
        EXPECT_EQ(values[1], extend(bank, Bytes(digest_size(bank)), digest_of(digests, bank))) << name_of(bank);
    }
    EXPECT_EQ(predicted_ima_values(Bank::kSha384).size(), 5U);
    EXPECT_EQ(predicted_ima_values(Bank::kSha256).size(), 3U);
}

TEST(ImaPrediction, IsWhatAPartitionWithDebian61Showed)
{
    // linux-image-6.1.0-56-amd64: its line in ascii_runtime_measurements, and PCR 10 in its quote.
    EXPECT_EQ(first_unexpected_ima_line(
                  "10 7bc63fcff2b5f329bf04b1820ccb5eb55c2be649 ima-sig "
                  "sha256:7b6436b0c98f62380866d9432c2af0ee08ce16a171bda6951aecd95ee1307d61 boot_aggregate \n"),
              std::nullopt);
    EXPECT_EQ(to_hex(predicted_ima_values(Bank::kSha256)[1]),
              "37368ed5269259e70270568f02b0cba82dc26a2b1e70780b5cae2cc9eeb8d185");
    EXPECT_EQ(to_hex(predicted_ima_values(Bank::kSha384)[1]),
              "060cb556e24ff928c107cf06d9af41d6159e56adfd11c58d442521ef2fd2732983eda9a800acdec592d4bfa370356c2a");
}

TEST(ImaPrediction, NamesTheFirstLineThatIsNotTheAggregate)
{
    const Digests digests = boot_aggregate_as_debian_6_1();
    const Digests aggregate = digest_bytes(Bytes(320));
    const std::string good =
        "10 " + to_hex(digests.sha1) + " ima-sig sha256:" + to_hex(aggregate.sha256) + " boot_aggregate \n";
    EXPECT_EQ(first_unexpected_ima_line(good), std::nullopt);
    EXPECT_EQ(first_unexpected_ima_line(""), std::nullopt);
    EXPECT_EQ(first_unexpected_ima_line(good + "10 00 ima-sig sha256:00 /bin/x \n"), "10 00 ima-sig sha256:00 /bin/x ");
    EXPECT_NE(first_unexpected_ima_line(good + good), std::nullopt);
    EXPECT_NE(first_unexpected_ima_line(text_of(corpus("ima.log"))), std::nullopt); // of a machine with firmware
}

// ---- reference values

TEST(Reference, ReadsTheMeasuredBytesOfALoaderBlock)
{
    const TemporaryFolder folder;
    auto write = [&, n = 0](const Bytes &bytes) mutable {
        const fs::path path = folder.path() / std::to_string(n++);
        take(write_new_file(path, bytes, 0600));
        return path;
    };
    Bytes block(1000, 0x77);
    block[0] = 0x10;
    block[1] = 0x00;
    block[2] = 0x00; // 512
    block[3] = 0x02;
    const Bytes measured = take(read_slb_measured(write(block)));
    EXPECT_EQ(measured.size(), 512U);
    EXPECT_EQ(measured[511], 0x77);
    block[3] = 0x04; // 1024: more than there is
    expect_problem(read_slb_measured(write(block)), "not a secure loader block");
    block[3] = 0x00; // nothing
    expect_problem(read_slb_measured(write(block)), "not a secure loader block");
    expect_problem(read_slb_measured(write({})), "not a secure loader block");
    expect_problem(read_slb_measured(folder.path() / "none"), "No such file");
    expect_problem(digest_file(folder.path() / "none"), "No such file");
    expect_problem(digest_file(folder.path()), "Is a directory");
    EXPECT_EQ(take(digest_file(write(Bytes(3, 'a')))), digest_bytes(view_of("aaa")));
}

// ---- a platform's folders

unsigned mode_of(const fs::path &path)
{
    struct stat status {};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777;
}

TEST(Platform, KeepsItsKeysToItself)
{
    const TemporaryFolder folder;
    const Machine machine = Machine::make(folder.path(), 2);
    EXPECT_EQ(mode_of(machine.private_folder()), 0700U);
    for (const auto &entry : fs::recursive_directory_iterator(machine.private_folder())) {
        EXPECT_EQ(mode_of(entry.path()), entry.is_directory() ? 0700U : 0600U) << entry.path();
    }
    for (const auto &entry : fs::recursive_directory_iterator(machine.public_folder())) {
        if (entry.is_regular_file()) {
            EXPECT_FALSE(holds_private_key(take(read_file(entry.path(), 1 << 16)))) << entry.path();
        }
    }
    EXPECT_EQ(text_of(take(read_file(machine.private_folder() / "class", 100))), "machine\n");
    EXPECT_EQ(take(read_file(machine.private_folder() / "store.key", 100)).size(), 32U);
}

TEST(Platform, CertifiesTheKeysThatTheTpmNames)
{
    const TemporaryFolder folder;
    const Machine machine = Machine::make(folder.path(), 2);
    for (unsigned i = 0; i < 2; ++i) {
        const Bytes text =
            take(read_file(machine.private_folder() / "instances" / (instance_number(i) + ".names"), 1000));
        const auto names = nlohmann::json::parse(text);
        const fs::path instance = machine.public_folder() / "instances" / instance_number(i);
        const Certificate iak = take(Certificate::from_der(take(read_file(instance / "iak.crt", 1 << 16))));
        const Certificate ek = take(Certificate::from_der(take(read_file(instance / "ek.crt", 1 << 16))));
        EXPECT_EQ(names.at("iak"), to_hex(take(iak_name(iak.key()))));
        EXPECT_EQ(names.at("ek"), to_hex(take(ek_name(ek.key()))));
        EXPECT_TRUE(
            same_key(iak.key(), take(public_key_from_pem(take(read_file(instance / "ak.pem", 1 << 16)))).get()));
        const Subject subject = take(iak.subject());
        EXPECT_EQ(subject.common_name, "vTPM " + std::to_string(i) + " IAK");
        EXPECT_EQ(subject.platform_class, "machine");
        EXPECT_EQ(subject.machine, take(read_public_platform(machine.public_folder())).machine);
        EXPECT_TRUE(iak.has_role(Role::kIak));
        EXPECT_FALSE(iak.has_role(Role::kEk));
        EXPECT_FALSE(iak.has_role(Role::kPlatform));
        EXPECT_FALSE(iak.has_role(Role::kIntermediate));
    }
}

TEST(Platform, IsNeverOverwrittenAndNeverHalfMade)
{
    const TemporaryFolder folder;
    PlatformOptions options;
    options.private_folder = folder.path() / "a/private";
    options.public_folder = folder.path() / "a/public";
    options.instances = 1;
    const auto broken = [](const fs::path &, unsigned, const StoreKeyBytes &,
                           const CertifyInstance &) -> Expected<ManufacturedInstance> {
        return problem("no TPM today");
    };
    expect_problem(new_platform(options, broken), "no TPM today");
    EXPECT_TRUE(fs::is_empty(folder.path() / "a"));

    take(new_platform(options, tool::manufacture_instance));
    expect_problem(new_platform(options, tool::manufacture_instance), "never overwritten");
    options.private_folder = folder.path() / "b";
    expect_problem(new_platform(options, tool::manufacture_instance), "a/public is there already");
    options.public_folder = folder.path() / "b/public";
    expect_problem(new_platform(options, tool::manufacture_instance), "must not lie in each other");
    options.public_folder = folder.path() / "c";
    options.instances = 1025;
    expect_problem(new_platform(options, tool::manufacture_instance), "1 to 1024");
}

TEST(Platform, SaysWhenAProcessThatMakesATpmDies)
{
    const TemporaryFolder folder;
    const auto certify = [](const InstanceKeys &) -> Expected<InstanceCertificates> { std::abort(); };
    expect_problem(tool::manufacture_instance(folder.path(), 0, {}, certify), "ended by signal 6");
    const auto refuse = [](const InstanceKeys &) -> Expected<InstanceCertificates> { return problem("not this one"); };
    expect_problem(tool::manufacture_instance(folder.path(), 0, {}, refuse), "not this one");
}

TEST(Platform, PrivateFolderIsFoundAroundAPath)
{
    const TemporaryFolder folder;
    const Machine machine = Machine::make(folder.path(), 1);
    const fs::path real = fs::canonical(machine.private_folder());
    EXPECT_EQ(private_folder_around(machine.private_folder()), real);
    EXPECT_EQ(private_folder_around(machine.private_folder() / "ca/root.crt"), real);
    EXPECT_EQ(private_folder_around(machine.private_folder() / "not/there"), real);
    EXPECT_EQ(private_folder_around(machine.public_folder() / "manufacturer.pem"), std::nullopt);
    fs::create_directory_symlink(machine.private_folder(), folder.path() / "innocent");
    EXPECT_EQ(private_folder_around(folder.path() / "innocent/ca/root.crt"), real);
    expect_problem(read_public_platform(machine.private_folder()), "private folder");
}

TEST(CertificateFile, IsOneAndNothingMore)
{
    const Bytes der = corpus("iak.crt");
    EXPECT_TRUE(Certificate::from_der(der));
    Bytes more = der;
    more.push_back(0);
    expect_problem(Certificate::from_der(more), "bytes after the end");
    EXPECT_FALSE(Certificate::from_der({}));
    EXPECT_FALSE(Certificate::from_der(View(der).first(der.size() - 1)));
    EXPECT_EQ(take(Certificate::list_from_pem(corpus("chain.pem"))).size(), 2U);
    expect_problem(Certificate::list_from_pem(corpus("ak.pem")), "PUBLIC KEY");
}

TEST(CertificateSubject, HasNoAttributeThatTheProfileDoesNot)
{
    const Key key = take(new_signing_key());
    const Certificate plain = take(issue({"name", "machine", {}}, Role::kRoot, key.get(), {nullptr, key.get()}));
    EXPECT_EQ(take(plain.subject()), (Subject{"name", "machine", {}}));
    X509Ptr copy(X509_dup(plain.get()));
    X509_NAME_add_entry_by_txt(X509_get_subject_name(copy.get()), "OU", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char *>("machine"), -1, -1, 0);
    expect_problem(Certificate(std::move(copy), {}).subject(), "twice");
    copy.reset(X509_dup(plain.get()));
    X509_NAME_add_entry_by_txt(X509_get_subject_name(copy.get()), "L", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char *>("x"), -1, -1, 0);
    expect_problem(Certificate(std::move(copy), {}).subject(), "an attribute that the profile does not");
}

} // namespace banyan::attest::testing
