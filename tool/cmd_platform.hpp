// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "attest/platform.hpp"

namespace banyan::tool {

/// Makes one vTPM in a throw-away process and stores it in the platform's private folder.
attest::Expected<attest::ManufacturedInstance> manufacture_instance(const std::filesystem::path &private_folder,
                                                                    unsigned instance,
                                                                    const attest::StoreKeyBytes &store_key,
                                                                    const attest::CertifyInstance &certify);
/// With an ECC P-256 endorsement key too.
attest::Expected<attest::ManufacturedInstance>
manufacture_instance_with_p256(const std::filesystem::path &private_folder, unsigned instance,
                               const attest::StoreKeyBytes &store_key, const attest::CertifyInstance &certify);

} // namespace banyan::tool
