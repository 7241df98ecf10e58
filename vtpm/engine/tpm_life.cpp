// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/tpm_life.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <sys/random.h>

#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_memory.h>
#include <libtpms/tpm_nvfilename.h>
#include <libtpms/tpm_tis.h>

#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::uint32_t kCcStartup = 0x0144;
constexpr std::uint32_t kCcShutdown = 0x0145;
constexpr std::uint32_t kCcStirRandom = 0x0146;

// What libtpms' callbacks reach: they have no argument of ours.
struct State {
    Bytes permanent;
    bool dirty = false;
    std::uint8_t locality = 0;
    unsigned char *response = nullptr;
    std::uint32_t response_room = 0;
};

State &state()
{
    static State the_one;
    return the_one;
}

bool is_permanent(const char *name)
{
    return std::strcmp(name, TPM_PERMANENT_ALL_NAME) == 0;
}

extern "C" {

static TPM_RESULT on_init()
{
    return TPM_SUCCESS;
}

static TPM_RESULT on_load(unsigned char **data, std::uint32_t *length, std::uint32_t /*tpm*/, const char *name)
{
    const Bytes &permanent = state().permanent;
    if (!is_permanent(name) || permanent.empty()) {
        return TPM_RETRY; // libtpms' word for "there is none"
    }
    *data = static_cast<unsigned char *>(std::malloc(permanent.size()));
    if (*data == nullptr) {
        return TPM_FAIL;
    }
    std::copy(permanent.begin(), permanent.end(), *data);
    *length = static_cast<std::uint32_t>(permanent.size());
    return TPM_SUCCESS;
}

// Must not fail: an error here puts the TPM into failure mode for good. Durability is dealt with outside.
static TPM_RESULT on_store(const unsigned char *data, std::uint32_t length, std::uint32_t /*tpm*/, const char *name)
{
    if (is_permanent(name)) {
        state().permanent.assign(data, data + length);
        state().dirty = true;
    }
    return TPM_SUCCESS;
}

static TPM_RESULT on_delete(std::uint32_t /*tpm*/, const char * /*name*/, TPM_BOOL /*must_exist*/)
{
    return TPM_SUCCESS;
}

static TPM_RESULT on_locality(TPM_MODIFIER_INDICATOR *locality, std::uint32_t /*tpm*/)
{
    *locality = state().locality;
    return TPM_SUCCESS;
}

static TPM_RESULT on_presence(TPM_BOOL *presence, std::uint32_t /*tpm*/)
{
    *presence = FALSE;
    return TPM_SUCCESS;
}
}

} // namespace

TpmLife::TpmLife() = default;

TpmLife::~TpmLife()
{
    end();
}

bool TpmLife::set_buffer_size(std::uint32_t size)
{
    return TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2) == TPM_SUCCESS &&
           TPMLIB_SetBufferSize(size, nullptr, nullptr) == size;
}

Status TpmLife::begin(std::span<const std::uint8_t> permanent, std::span<const std::uint8_t> volatile_state)
{
    end();
    libtpms_callbacks callbacks{};
    callbacks.sizeOfStruct = sizeof(callbacks);
    callbacks.tpm_nvram_init = on_init;
    callbacks.tpm_nvram_loaddata = on_load;
    callbacks.tpm_nvram_storedata = on_store;
    callbacks.tpm_nvram_deletename = on_delete;
    callbacks.tpm_io_init = on_init;
    callbacks.tpm_io_getlocality = on_locality;
    callbacks.tpm_io_getphysicalpresence = on_presence;
    if (TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2) != TPM_SUCCESS ||
        TPMLIB_RegisterCallbacks(&callbacks) != TPM_SUCCESS) {
        return fail(Errc::kUnsupported);
    }
    state().permanent.assign(permanent.begin(), permanent.end());
    state().dirty = false;
    if (!volatile_state.empty()) {
        // libtpms wants the permanent state through the same door when it is given a volatile one.
        if (TPMLIB_SetState(TPMLIB_STATE_PERMANENT, permanent.data(), static_cast<std::uint32_t>(permanent.size())) !=
                TPM_SUCCESS ||
            TPMLIB_SetState(TPMLIB_STATE_VOLATILE, volatile_state.data(),
                            static_cast<std::uint32_t>(volatile_state.size())) != TPM_SUCCESS) {
            return fail(Errc::kCorrupt);
        }
    }
    if (TPMLIB_MainInit() != TPM_SUCCESS) {
        TPMLIB_Terminate();
        return fail(Errc::kCorrupt);
    }
    alive_ = true;
    return {};
}

void TpmLife::end()
{
    if (alive_) {
        TPMLIB_Terminate();
        alive_ = false;
    }
}

Bytes TpmLife::execute(std::uint8_t locality, std::span<const std::uint8_t> command)
{
    State &shared = state();
    shared.locality = locality;
    Bytes copy(command.begin(), command.end());
    std::uint32_t size = 0;
    const TPM_RESULT result = alive_ ? TPMLIB_Process(&shared.response, &size, &shared.response_room, copy.data(),
                                                      static_cast<std::uint32_t>(copy.size()))
                                     : TPM_FAIL;
    if (result != TPM_SUCCESS || size < kTpmHeaderSize || size > kTpmBufferSize) {
        const auto failure = error_response(TpmRc::kFailure);
        return {failure.begin(), failure.end()};
    }
    return {shared.response, shared.response + size};
}

bool TpmLife::startup_clear()
{
    constexpr std::array<std::uint8_t, 2> kTpmSuClear{0, 0};
    return response_code(execute(0, plain_command(kCcStartup, kTpmSuClear))) == 0;
}

bool TpmLife::shutdown_clear()
{
    constexpr std::array<std::uint8_t, 2> kTpmSuClear{0, 0};
    return response_code(execute(0, plain_command(kCcShutdown, kTpmSuClear))) == 0;
}

std::uint32_t TpmLife::stir()
{
    std::array<std::uint8_t, 34> body{0, 32};
    if (::getrandom(body.data() + 2, 32, 0) != 32) {
        return static_cast<std::uint32_t>(TpmRc::kFailure);
    }
    return response_code(execute(0, plain_command(kCcStirRandom, body)));
}

std::string TpmLife::information(bool specification, bool attributes)
{
    if (TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2) != TPM_SUCCESS) {
        return {};
    }
    const unsigned flags = (specification ? static_cast<unsigned>(TPMLIB_INFO_TPMSPECIFICATION) : 0U) |
                           (attributes ? static_cast<unsigned>(TPMLIB_INFO_TPMATTRIBUTES) : 0U);
    char *text = TPMLIB_GetInfo(static_cast<TPMLIB_InfoFlags>(flags));
    std::string copy = text != nullptr ? text : "";
    std::free(text);
    return copy;
}

bool TpmLife::hash_start()
{
    return alive_ && TPM_IO_Hash_Start() == TPM_SUCCESS; // before MainInit it would crash
}

bool TpmLife::hash_data(std::span<const std::uint8_t> data)
{
    return alive_ && TPM_IO_Hash_Data(data.data(), static_cast<std::uint32_t>(data.size())) == TPM_SUCCESS;
}

bool TpmLife::hash_end()
{
    return alive_ && TPM_IO_Hash_End() == TPM_SUCCESS;
}

const Bytes &TpmLife::permanent() const // NOLINT(readability-convert-member-functions-to-static)
{
    return state().permanent;
}

bool TpmLife::dirty() const // NOLINT(readability-convert-member-functions-to-static)
{
    return state().dirty;
}

void TpmLife::clean() // NOLINT(readability-convert-member-functions-to-static)
{
    state().dirty = false;
}

void TpmLife::touch() // NOLINT(readability-convert-member-functions-to-static)
{
    state().dirty = true;
}

Result<Bytes> TpmLife::volatile_state() const
{
    unsigned char *data = nullptr;
    std::uint32_t size = 0;
    if (!alive_ || TPMLIB_GetState(TPMLIB_STATE_VOLATILE, &data, &size) != TPM_SUCCESS) {
        return fail(Errc::kBadState);
    }
    Bytes bytes(data, data + size);
    std::free(data);
    return bytes;
}

void TpmLife::cancel()
{
    TPMLIB_CancelCommand();
}

Bytes plain_command(std::uint32_t code, std::span<const std::uint8_t> body)
{
    const auto size = static_cast<std::uint32_t>(kTpmHeaderSize + body.size());
    Bytes command(size);
    command[0] = kTpmStNoSessions >> 8;
    command[1] = kTpmStNoSessions & 0xff;
    for (unsigned i = 0; i < 4; ++i) {
        command[kTpmSizeAt + i] = static_cast<std::uint8_t>(size >> (24 - 8 * i));
        command[kTpmCodeAt + i] = static_cast<std::uint8_t>(code >> (24 - 8 * i));
    }
    std::copy(body.begin(), body.end(), command.begin() + kTpmHeaderSize);
    return command;
}

std::uint32_t response_code(std::span<const std::uint8_t> response)
{
    return response.size() < kTpmHeaderSize ? static_cast<std::uint32_t>(TpmRc::kFailure)
                                            : load_be32(response, kTpmCodeAt);
}

} // namespace banyan::vtpm
