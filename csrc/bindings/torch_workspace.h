// The memory that walks of this process keep for later ones, while somebody asks for it.
#pragma once

#include <memory>

#include "workspace.h"

namespace rwpm::ops {

// Holds the workspace for the time of a walk, so that it may be closed meanwhile. Null: none is open.
std::shared_ptr<Workspace> open_workspace();

inline std::pmr::memory_resource* memory_of(const std::shared_ptr<Workspace>& workspace) {
  return workspace ? workspace.get() : heap_memory();
}

}  // namespace rwpm::ops
