// Makes the library a Python module. The operators register themselves: csrc/bindings/torch_walk.cpp takes their
// namespace from TORCH_EXTENSION_NAME.
#include "registration.h"  // by kernel-builder

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
