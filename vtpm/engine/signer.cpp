// SPDX-License-Identifier: GPL-2.0-or-later
// The signer: the one process that holds the platform key. Domain reports and receipts, docs/spec/evidence.md.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <poll.h>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include <cbor.h>
#include <nlohmann/json.hpp>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <seccomp.h>

#include "vtpm/engine/roles.hpp"
#include "vtpm/engine/text_file.hpp"
#include "vtpm/link/control.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::vtpm {
namespace {

constexpr int kCoseAlgorithmHeader = 1; // RFC 9052, section 3.1
constexpr int kCoseEs384 = -35;         // RFC 9053, section 2.1
constexpr std::uint64_t kCoseSign1Tag = 18;
constexpr int kCoordinate = 48; // of P-384

struct InsecureName {
    std::uint32_t bit;
    const char *name;
};
constexpr std::array kInsecureNames{
    InsecureName{BANYAN_INSECURE_DEBUG, "debug"},
    InsecureName{BANYAN_INSECURE_DMA_DRAIN, "dma-drain"},
    InsecureName{BANYAN_INSECURE_DEVICE_IRQ, "device-interrupts"},
    InsecureName{BANYAN_INSECURE_SERIAL_ARBITER, "serial-arbiter"},
    InsecureName{BANYAN_INSECURE_TEST_ENGINE, "test-engine"},
    InsecureName{BANYAN_INSECURE_ROLLBACK_REPORT, "rollback-report"},
    InsecureName{BANYAN_INSECURE_RESTORED, "restored"},
};

template <auto Free>
struct Releaser {
    template <typename T>
    void operator()(T *what) const
    {
        Free(what);
    }
};
using Key = std::unique_ptr<EVP_PKEY, Releaser<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Releaser<X509_free>>;

class Item { // a libcbor item that is dropped with its owner
public:
    explicit Item(cbor_item_t *item) : item_(item) {}
    Item(Item &&other) noexcept : item_(std::exchange(other.item_, nullptr)) {}
    Item(const Item &) = delete;
    Item &operator=(const Item &) = delete;
    Item &operator=(Item &&) = delete;
    ~Item()
    {
        if (item_ != nullptr) {
            cbor_decref(&item_);
        }
    }
    [[nodiscard]] cbor_item_t *get() const { return item_; }

private:
    cbor_item_t *item_;
};

Item bytes_item(std::span<const std::uint8_t> bytes)
{
    return Item(cbor_build_bytestring(bytes.data(), bytes.size()));
}

Item number_item(std::uint64_t value) // the shortest encoding, RFC 8949, 4.2.1
{
    if (value <= 0xff) {
        return Item(cbor_build_uint8(static_cast<std::uint8_t>(value)));
    }
    if (value <= 0xffff) {
        return Item(cbor_build_uint16(static_cast<std::uint16_t>(value)));
    }
    if (value <= 0xffff'ffff) {
        return Item(cbor_build_uint32(static_cast<std::uint32_t>(value)));
    }
    return Item(cbor_build_uint64(value));
}

Item text_item(std::string_view text)
{
    return Item(cbor_build_stringn(text.data(), text.size()));
}

std::optional<Bytes> encode(const Item &item)
{
    unsigned char *buffer = nullptr;
    std::size_t room = 0;
    const std::size_t size = cbor_serialize_alloc(item.get(), &buffer, &room);
    if (size == 0) {
        return std::nullopt;
    }
    Bytes bytes(buffer, buffer + size);
    free(buffer);
    return bytes;
}

void put(const Item &map, const char *key, Item value)
{
    const Item name = text_item(key);
    (void)cbor_map_add(map.get(), {name.get(), value.get()}); // takes references of its own
}

struct Names {
    Bytes ek;
    Bytes iak;
    std::uint64_t restores = 0;
};

class Signer {
public:
    explicit Signer(std::uint32_t instances) : names_(instances) {}

    bool open_platform(const std::string &folder, std::string &why);
    bool make_test_key();
    void set_names(const SignerNames &names);
    void answer(const SignRequest &request, SignReply &reply);

private:
    [[nodiscard]] std::optional<Bytes> payload(const banyan_report_facts &facts) const;
    [[nodiscard]] std::optional<Bytes> signature(const Bytes &protected_header, const Bytes &payload) const;
    bool take_certificate(X509 *certificate);

    Key key_;
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> machine_{};
    bool test_ = false;
    std::string class_ = "test"; // else as the platform's certificate says
    std::vector<Names> names_;
};

Bytes from_hex(const std::string &text)
{
    Bytes bytes(text.size() / 2 + 1);
    std::size_t size = 0;
    if (OPENSSL_hexstr2buf_ex(bytes.data(), bytes.size(), &size, text.c_str(), '\0') != 1) {
        return {};
    }
    bytes.resize(size);
    return bytes;
}

bool Signer::take_certificate(X509 *certificate)
{
    unsigned char *der = nullptr;
    const int size = i2d_X509(certificate, &der);
    if (size <= 0) {
        return false;
    }
    SHA256(der, static_cast<std::size_t>(size), machine_.data());
    OPENSSL_free(der);
    return true;
}

bool Signer::open_platform(const std::string &folder, std::string &why)
{
    const std::string key_text = read_text(folder + "/platform.key");
    std::unique_ptr<BIO, Releaser<BIO_free_all>> key_source(
        BIO_new_mem_buf(key_text.data(), static_cast<int>(key_text.size())));
    key_.reset(PEM_read_bio_PrivateKey(key_source.get(), nullptr, nullptr, nullptr));
    if (!key_ || EVP_PKEY_get_bits(key_.get()) != 384 || EVP_PKEY_get_base_id(key_.get()) != EVP_PKEY_EC) {
        why = folder + "/platform.key: no P-384 private key in PEM";
        return false;
    }
    const std::string text = read_text(folder + "/platform.crt");
    std::unique_ptr<BIO, Releaser<BIO_free_all>> source(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    const Certificate certificate(PEM_read_bio_X509(source.get(), nullptr, nullptr, nullptr));
    if (!certificate || !take_certificate(certificate.get()) ||
        X509_check_private_key(certificate.get(), key_.get()) != 1) {
        why = folder + "/platform.crt: no certificate of platform.key in PEM";
        return false;
    }
    std::array<char, 32> unit{};
    if (X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_organizationalUnitName, unit.data(),
                                  unit.size()) <= 0) {
        why = folder + "/platform.crt: it names no class";
        return false;
    }
    class_ = unit.data();
    for (std::uint32_t i = 0; i < names_.size(); ++i) {
        const auto json = nlohmann::json::parse(read_text(instance_file(folder, i, "names")), nullptr, false);
        if (json.is_object() && json.contains("ek") && json.contains("iak") && json["ek"].is_string() &&
            json["iak"].is_string()) {
            names_[i] = {from_hex(json["ek"].get<std::string>()), from_hex(json["iak"].get<std::string>()), 0};
        }
    }
    return true;
}

bool Signer::make_test_key()
{
    test_ = true;
    key_.reset(EVP_EC_gen("P-384"));
    const Certificate certificate(X509_new());
    if (!key_ || !certificate) {
        return false;
    }
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 86400);
    X509_set_pubkey(certificate.get(), key_.get());
    return X509_sign(certificate.get(), key_.get(), EVP_sha384()) > 0 && take_certificate(certificate.get());
}

void Signer::set_names(const SignerNames &names)
{
    if (names.instance >= names_.size() || names.ek_size > sizeof(names.ek) || names.iak_size > sizeof(names.iak)) {
        return;
    }
    if (!names.only_restores) {
        names_[names.instance].ek.assign(names.ek, names.ek + names.ek_size);
        names_[names.instance].iak.assign(names.iak, names.iak + names.iak_size);
    }
    names_[names.instance].restores = names.restores;
}

std::optional<Bytes> Signer::payload(const banyan_report_facts &facts) const
{
    const Names &names = names_[facts.instance];
    const std::uint32_t insecure = facts.insecure | (test_ ? BANYAN_INSECURE_TEST_ENGINE : 0) |
                                   (names.restores != 0 ? BANYAN_INSECURE_RESTORED : 0);
    std::vector<const char *> weak;
    for (const InsecureName &one : kInsecureNames) {
        if ((insecure & one.bit) != 0) {
            weak.push_back(one.name);
        }
    }
    const Item list(cbor_new_definite_array(weak.size()));
    for (const char *name : weak) {
        const Item text = text_item(name);
        (void)cbor_array_push(list.get(), text.get());
    }
    const std::string_view name(facts.name, ::strnlen(facts.name, sizeof(facts.name)));

    const Item map(cbor_new_definite_map(names.restores != 0 ? 17 : 16));
    put(map, "schema", number_item(1));
    put(map, "kind", number_item(facts.kind));
    put(map, "machine", bytes_item(machine_));
    put(map, "class", text_item(class_));
    put(map, "domain", number_item(facts.domain));
    put(map, "name", text_item(name));
    put(map, "instance", number_item(facts.instance));
    put(map, "start", number_item(facts.start_count));
    put(map, "launch", number_item(facts.launch_count));
    put(map, "descriptor", bytes_item(facts.digest));
    put(map, "hypervisor", bytes_item(facts.hypervisor));
    put(map, "flags", number_item(facts.flags));
    put(map, "insecure", Item(cbor_incref(list.get())));
    put(map, "ek", bytes_item(names.ek));
    put(map, "iak", bytes_item(names.iak));
    put(map, "nonce", bytes_item({facts.nonce, facts.nonce_size}));
    if (names.restores != 0) {
        put(map, "restores", number_item(names.restores));
    }
    return encode(map);
}

std::optional<Bytes> Signer::signature(const Bytes &protected_header, const Bytes &payload) const
{
    // Sig_structure, RFC 9052, section 4.4
    const Item parts(cbor_new_definite_array(4));
    for (const Item &one :
         {text_item("Signature1"), bytes_item(protected_header), bytes_item({}), bytes_item(payload)}) {
        (void)cbor_array_push(parts.get(), one.get());
    }
    const auto text = encode(parts);
    if (!text) {
        return std::nullopt;
    }
    std::unique_ptr<EVP_MD_CTX, Releaser<EVP_MD_CTX_free>> context(EVP_MD_CTX_new());
    Bytes der(160);
    std::size_t size = der.size();
    if (!context || EVP_DigestSignInit(context.get(), nullptr, EVP_sha384(), nullptr, key_.get()) != 1 ||
        EVP_DigestSign(context.get(), der.data(), &size, text->data(), text->size()) != 1) {
        return std::nullopt;
    }
    const unsigned char *at = der.data();
    std::unique_ptr<ECDSA_SIG, Releaser<ECDSA_SIG_free>> pair(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)));
    Bytes raw(std::size_t{2} * kCoordinate);
    if (!pair || BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), raw.data(), kCoordinate) != kCoordinate ||
        BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), raw.data() + kCoordinate, kCoordinate) != kCoordinate) {
        return std::nullopt;
    }
    return raw;
}

void Signer::answer(const SignRequest &request, SignReply &reply)
{
    reply.slot = request.slot;
    reply.ticket = request.ticket;
    const auto refuse = [&](Errc why) { reply.status = -static_cast<std::int32_t>(why); };
    const banyan_report_facts &facts = request.facts;
    if (facts.instance >= names_.size() || facts.nonce_size > BANYAN_NONCE_MAX) {
        return refuse(Errc::kBadArgument);
    }
    if (names_[facts.instance].iak.empty()) {
        return refuse(Errc::kNotFound); // no TPM was made for this instance yet
    }
    const Item algorithm(cbor_new_definite_map(1));
    const Item label(cbor_build_uint8(kCoseAlgorithmHeader));
    const Item value(cbor_build_negint8(static_cast<std::uint8_t>(-1 - kCoseEs384)));
    (void)cbor_map_add(algorithm.get(), {label.get(), value.get()});
    const auto protected_header = encode(algorithm);
    const auto body = payload(facts);
    const auto raw = protected_header && body ? signature(*protected_header, *body) : std::nullopt;
    if (!raw) {
        return refuse(Errc::kIo);
    }
    const Item parts(cbor_new_definite_array(4));
    for (const Item &one :
         {bytes_item(*protected_header), Item(cbor_new_definite_map(0)), bytes_item(*body), bytes_item(*raw)}) {
        (void)cbor_array_push(parts.get(), one.get());
    }
    const Item tagged(cbor_build_tag(kCoseSign1Tag, parts.get()));
    const auto message = encode(tagged);
    if (!message || message->size() > sizeof(reply.bytes)) {
        return refuse(Errc::kNoSpace);
    }
    std::copy(message->begin(), message->end(), reply.bytes);
    reply.size = static_cast<std::uint32_t>(message->size());
}

} // namespace

void run_signer(int clients, int zygote, const EngineOptions &options)
{
    name_process("vtpm-signer");
    ::signal(SIGPIPE, SIG_IGN);
    const std::string &platform = options.platform;
    Signer signer(options.instances);
    std::string why;
    SignerHello hello;
    if (!(platform.empty() ? signer.make_test_key() : signer.open_platform(platform, why))) {
        hello.status = -static_cast<std::int32_t>(Errc::kNotFound);
    }
    // Once before the filter: OpenSSL fetches its algorithms at the first use.
    SignRequest first;
    SignReply unused;
    SignerNames names;
    names.iak_size = 1;
    if (platform.empty() && hello.status == 0) {
        signer.set_names(names);
        signer.answer(first, unused);
        names.iak_size = 0;
        signer.set_names(names);
    } else if (hello.status == 0) {
        signer.answer(first, unused);
    }
    hello.landlock = deny_files();
    Filter filter;
    if (hello.status == 0 &&
        (!compile_filter({SCMP_SYS(read),    SCMP_SYS(write),      SCMP_SYS(poll),         SCMP_SYS(restart_syscall),
                          SCMP_SYS(recvmsg), SCMP_SYS(recvfrom),   SCMP_SYS(sendmsg),      SCMP_SYS(sendto),
                          SCMP_SYS(mmap),    SCMP_SYS(munmap),     SCMP_SYS(mremap),       SCMP_SYS(brk),
                          SCMP_SYS(madvise), SCMP_SYS(futex),      SCMP_SYS(getrandom),    SCMP_SYS(clock_gettime),
                          SCMP_SYS(getpid),  SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn), SCMP_SYS(close)},
                         filter) ||
         !apply_filter(filter))) {
        hello.status = -static_cast<std::int32_t>(Errc::kUnsupported);
        why = "seccomp is not available";
    }
    (void)std::snprintf(hello.text, sizeof(hello.text), "%s", why.c_str());
    (void)::send(zygote, &hello, sizeof(hello), MSG_NOSIGNAL);
    if (hello.status != 0) {
        quit(1);
    }
    for (;;) {
        pollfd fds[2] = {{zygote, POLLIN, 0}, {clients, POLLIN, 0}};
        if (::poll(fds, 2, -1) < 0) {
            continue;
        }
        if (fds[0].revents != 0) {
            if (::recv(zygote, &names, sizeof(names), 0) != static_cast<ssize_t>(sizeof(names))) {
                quit(0); // the zygote has ended
            }
            signer.set_names(names);
        } else if (fds[1].revents != 0) {
            SignRequest request;
            const ssize_t got = ::recv(clients, &request, sizeof(request), 0);
            if (got <= 0) {
                quit(0);
            }
            if (got == static_cast<ssize_t>(sizeof(request)) && request.version == kControlVersion) {
                SignReply reply;
                signer.answer(request, reply);
                (void)::send(clients, &reply, sizeof(reply), MSG_NOSIGNAL);
            }
        }
    }
}

} // namespace banyan::vtpm
