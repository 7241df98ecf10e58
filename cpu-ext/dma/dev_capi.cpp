// SPDX-License-Identifier: GPL-2.0-or-later
#include "banyan/capi/dev.h"

#include <new>

#include "banyan/base/result.hpp"
#include "cpu-ext/dma/dev_registers.hpp"

static_assert(BANYAN_DEV_DEVICE == banyan::dt::kDevDevice);
static_assert(BANYAN_DEV_FUNCTION == banyan::dma::dev::kFunction);
static_assert(BANYAN_DEV_LINK_FUNCTION == banyan::dma::dev::kLinkFunction);
static_assert(BANYAN_DEV_CAPABILITY_ID == banyan::dma::dev::kCapabilityId);
static_assert(BANYAN_DEV_CAPABILITY == static_cast<unsigned>(banyan::dma::dev::Reg::kHeader));
static_assert(BANYAN_DEV_CAPABILITY_SIZE == banyan::dma::dev::kCapabilitySize);
static_assert(BANYAN_DEV_SLB_PROTECTION == banyan::dma::dev::kSlbProtection);

struct banyan_dev {
    banyan::dma::DevRegisters registers;
};

banyan_status banyan_dev_create(banyan_dev **out)
{
    if (out == nullptr) {
        return -static_cast<banyan_status>(banyan::Errc::kBadArgument);
    }
    *out = new (std::nothrow) banyan_dev;
    return *out == nullptr ? -static_cast<banyan_status>(banyan::Errc::kNoSpace) : BANYAN_OK;
}

void banyan_dev_destroy(banyan_dev *dev)
{
    delete dev;
}

void banyan_dev_reset(banyan_dev *dev, std::uint32_t domain)
{
    dev->registers.reset(domain);
}

std::uint32_t banyan_dev_read(const banyan_dev *dev, std::uint32_t domain, std::uint32_t function, std::uint32_t offset,
                              int closed)
{
    return dev->registers.read(domain, static_cast<std::uint8_t>(function), static_cast<std::uint16_t>(offset),
                               closed != 0);
}

int banyan_dev_write(banyan_dev *dev, std::uint32_t domain, std::uint32_t function, std::uint32_t offset,
                     unsigned width, std::uint32_t value, int closed)
{
    return dev->registers.write(domain, static_cast<std::uint8_t>(function), static_cast<std::uint16_t>(offset), width,
                                value, closed != 0) == banyan::dma::DevWish::kLiftWindow
               ? 1
               : 0;
}
