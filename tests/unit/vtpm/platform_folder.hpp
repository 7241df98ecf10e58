// SPDX-License-Identifier: GPL-2.0-or-later
// A private platform folder with manufactured instances, and commands for their NV memory.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "tests/unit/vtpm/vtpm_machine.hpp"
#include "vtpm/engine/manufacture.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::vtpm::testing {

constexpr std::uint32_t kIndex = 0x01800001; // of the owner

class PlatformFolder : public ::testing::Test {
protected:
    static void SetUpTestSuite()
    {
        char name[] = "/tmp/banyan-platform-XXXXXX";
        folder_ = ::mkdtemp(name);
        std::filesystem::create_directory(folder_ + "/instances");
        key_ = EVP_EC_gen("P-384");
        X509 *certificate = X509_new();
        X509_set_version(certificate, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
        X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "OU", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char *>("machine"), -1, -1, 0);
        X509_set_pubkey(certificate, key_);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "OU", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char *>("machine"), -1, -1, 0);
        X509_sign(certificate, key_, EVP_sha384());
        unsigned char *der = nullptr;
        const int size = i2d_X509(certificate, &der);
        machine_id_.resize(SHA256_DIGEST_LENGTH);
        SHA256(der, static_cast<std::size_t>(size), machine_id_.data());
        OPENSSL_free(der);
        FILE *file = std::fopen((folder_ + "/platform.key").c_str(), "w");
        PEM_write_PrivateKey(file, key_, nullptr, nullptr, 0, nullptr, nullptr);
        std::fclose(file);
        file = std::fopen((folder_ + "/platform.crt").c_str(), "w");
        PEM_write_X509(file, certificate);
        std::fclose(file);
        X509_free(certificate);
        std::ofstream(folder_ + "/store.key", std::ios::binary)
            .write(reinterpret_cast<const char *>(store_key().data()), kStoreKeySize);
        make_instance(0);
        make_instance(1);
    }
    static void TearDownTestSuite()
    {
        EVP_PKEY_free(key_);
        std::filesystem::remove_all(folder_);
    }

    static StoreKey store_key()
    {
        StoreKey key{};
        key.fill(0x77);
        return key;
    }

    static Bytes certificate(std::uint8_t fill) { return Bytes(1500, fill); }

    static void make_instance(std::uint32_t index)
    {
        const pid_t child = ::fork();
        if (child == 0) {
            std::string why;
            const auto made = manufacture(
                [](const Publics &) -> Result<Certificates> {
                    return Certificates{certificate(1), certificate(2), certificate(3)};
                },
                &why);
            if (!made) {
                std::fprintf(stderr, "%s\n", why.c_str());
                ::_exit(1);
            }
            std::ofstream(instance_file(folder_, index, "names")) << names_json(made->publics);
            std::ofstream spki(instance_file(folder_, index, "iak"), std::ios::binary);
            spki.write(reinterpret_cast<const char *>(made->publics.iak.name.data()),
                       static_cast<std::streamsize>(made->publics.iak.name.size()));
            spki.close();
            const bool stored = create_instance(folder_, store_key(), index, made->permanent).has_value();
            ::_exit(stored ? 0 : 1);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }

    static Machine::Options options()
    {
        Machine::Options options;
        options.instances = 2;
        options.platform = folder_;
        return options;
    }

    static Bytes nv_read(std::uint32_t index, std::uint16_t size, std::uint16_t offset)
    {
        Bytes body;
        put32(body, index);
        put32(body, index);
        const Bytes area = auth_area();
        body.insert(body.end(), area.begin(), area.end());
        put16(body, size);
        put16(body, offset);
        return tpm_command(0x8002, 0x14e, body);
    }
    static Bytes nv_define(std::uint32_t index)
    {
        Bytes body;
        put32(body, 0x40000001);
        const Bytes area = auth_area();
        body.insert(body.end(), area.begin(), area.end());
        put16(body, 0);
        put16(body, 14);
        put32(body, index);
        put16(body, 0x000b);
        put32(body, 0x02060006); // OWNERWRITE AUTHWRITE OWNERREAD AUTHREAD NO_DA
        put16(body, 0);
        put16(body, 8);
        return tpm_command(0x8002, 0x12a, body);
    }
    static Bytes nv_write(std::uint32_t index, std::uint8_t fill)
    {
        Bytes body;
        put32(body, index);
        put32(body, index);
        const Bytes area = auth_area();
        body.insert(body.end(), area.begin(), area.end());
        put16(body, 8);
        body.insert(body.end(), 8, fill);
        put16(body, 0);
        return tpm_command(0x8002, 0x137, body);
    }
    static Bytes data_of(const Bytes &response) // header, parameterSize, size, data, session
    {
        return response.size() < 16 ? Bytes{}
                                    : Bytes(response.begin() + 16, response.begin() + 16 + load_be16(response, 14));
    }

    static inline std::string folder_;
    static inline EVP_PKEY *key_ = nullptr;
    static inline Bytes machine_id_;
};

} // namespace banyan::vtpm::testing
