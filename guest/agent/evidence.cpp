// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/agent/evidence.hpp"

#include <cstdio>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "guest/agent/ustar.hpp"
#include "guest/loader/hash/digest.hpp"

namespace banyan::agent {
namespace {

// What the platform puts into each vTPM: docs/spec/platform.md.
const std::string kIak = "0x81010100";
const std::string kSecret = "0x81000100"; // ours: in the owner's range
constexpr const char *kSecretBank = "sha256:17";

const std::string kFolder = "/run/evidence";

std::string path(const char *name)
{
    return kFolder + "/" + name;
}

/// One of the stock tpm2-tools, which are one program of many names.
void tpm2(std::vector<std::string> arguments)
{
    arguments.insert(arguments.begin(), "/usr/bin/tpm2_" + arguments.front());
    arguments.erase(arguments.begin() + 1);
    run(kFolder, arguments);
}

std::string sha256_hex(const std::string &bytes)
{
    loader::Sha256 hash;
    hash.update({reinterpret_cast<const std::uint8_t *>(bytes.data()), bytes.size()});
    const auto digest = hash.finish();
    return hex_of({reinterpret_cast<const char *>(digest.data()), digest.size()});
}

void read_certificate(const std::string &index, const char *file)
{
    tpm2({"nvread", index, "-C", index, "-o", file});
}

std::string describe_system()
{
    utsname name{};
    ::uname(&name);
    return std::string(name.sysname) + " " + name.release + " " + name.version + " " + name.machine + "\n";
}

/// Seals fresh random bytes to PCR 17 and leaves them in the TPM's own storage.
std::string seal()
{
    const std::string secret = random_bytes(32);
    write_file(path("secret"), secret);
    std::string ignored;
    try_run(kFolder, {"/usr/bin/tpm2_evictcontrol", "-C", "o", "-c", kSecret}, ignored); // an older secret, if any
    tpm2({"createprimary", "-Q", "-C", "o", "-G", "ecc256", "-c", "primary.ctx"});
    tpm2({"createpolicy", "-Q", "--policy-pcr", "-l", kSecretBank, "-L", "policy"});
    tpm2({"create", "-Q", "-C", "primary.ctx", "-L", "policy", "-a", "fixedtpm|fixedparent|noda", "-i", "secret", "-u",
          "secret.pub", "-r", "secret.priv"});
    tpm2({"load", "-Q", "-C", "primary.ctx", "-u", "secret.pub", "-r", "secret.priv", "-c", "secret.ctx"});
    tpm2({"evictcontrol", "-Q", "-C", "o", "-c", "secret.ctx", kSecret});
    return "sealed " + sha256_hex(secret) + "\n";
}

std::string unseal()
{
    std::string reason;
    if (!try_run(kFolder,
                 {"/usr/bin/tpm2_unseal", "-Q", "-c", kSecret, "-p", std::string("pcr:") + kSecretBank, "-o", "secret"},
                 reason)) {
        return "refused " + reason + "\n";
    }
    return "unsealed " + sha256_hex(read_file(path("secret"))) + "\n";
}

/// What Linux has found: the driver's name, and which banks have PCRs.
std::string describe_driver(const std::string &tpm)
{
    const std::string folder = "/sys/class/tpm/" + tpm;
    char target[256];
    const ssize_t size = ::readlink((folder + "/device/driver").c_str(), target, sizeof(target));
    const std::string driver(target, size < 0 ? 0 : static_cast<std::size_t>(size));
    std::string text = driver.substr(driver.rfind('/') + 1) + ", banks";
    for (const char *bank : {"sha1", "sha256", "sha384"}) {
        if (::access((folder + "/pcr-" + bank).c_str(), F_OK) == 0) {
            text += std::string(" ") + bank;
        }
    }
    return text;
}

} // namespace

std::vector<std::string> describe_tpms()
{
    std::vector<std::string> lines;
    ::mkdir(kFolder.c_str(), 0700);
    for (unsigned number = 0;; ++number) {
        const std::string tpm = "tpm" + std::to_string(number);
        if (::access(("/dev/" + tpm).c_str(), F_OK) != 0) {
            return lines;
        }
        std::string line = tpm + ": " + describe_driver(tpm);
        if (number != 0) { // the first one's is in the evidence
            std::string why;
            const bool there = try_run(
                kFolder,
                {"/usr/bin/tpm2_readpublic", "-Q", "-T", "device:/dev/" + tpm, "-c", kIak, "-n", tpm + ".name"}, why);
            line += ", IAK " + (there ? hex_of(read_file(kFolder + "/" + tpm + ".name")) : "unread: " + why);
        }
        lines.push_back(line);
    }
}

std::string collect_evidence(const Request &request, OwnPage &own_page)
{
    if (::access("/dev/tpm0", F_OK) != 0) {
        throw Failed("find the TPM: Linux has no /dev/tpm0");
    }
    ::mkdir(kFolder.c_str(), 0700);
    Ustar archive;

    tpm2({"readpublic", "-Q", "-c", kIak, "-f", "pem", "-o", "ak.pem"});
    tpm2({"quote", "-Q", "-c", kIak, "-l", "sha256:all+sha384:all", "-q", hex_of(request.nonce), "-g", "sha384", "-m",
          "quote.msg", "-s", "quote.sig", "-o", "pcrs.bin"});
    read_certificate("0x01C00016", "ek.crt");
    read_certificate("0x01C00002", "ek-rsa.crt");
    read_certificate("0x01C90100", "iak.crt");
    for (const char *file : {"ak.pem", "quote.msg", "quote.sig", "pcrs.bin", "ek.crt", "ek-rsa.crt", "iak.crt"}) {
        archive.add(file, read_file(path(file)));
    }
    archive.add("nonce", request.nonce);
    archive.add("eventlog.bin", read_file("/sys/kernel/security/tpm0/binary_bios_measurements"));
    archive.add("report.cose", own_page.report(request.nonce));
    if (const auto ima = read_if_there("/sys/kernel/security/ima/ascii_runtime_measurements")) {
        archive.add("ima.log", *ima);
    }
    archive.add("uname.txt", describe_system());

    switch (request.secret) {
    case Request::Secret::kNone:
        break;
    case Request::Secret::kSeal:
        archive.add("seal.txt", seal());
        break;
    case Request::Secret::kUnseal:
        archive.add("unseal.txt", unseal());
        break;
    }
    return archive.finish();
}

} // namespace banyan::agent
