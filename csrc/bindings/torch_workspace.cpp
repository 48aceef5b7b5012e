// Functions of librwpm_ops.so that are called as they are, without torch's dispatcher.
#include "bindings/torch_workspace.h"

#include <cstdint>
#include <mutex>

namespace {

std::mutex guard;
int64_t opened = 0;
std::shared_ptr<rwpm::Workspace> workspace;

}  // namespace

namespace rwpm::ops {

std::shared_ptr<Workspace> open_workspace() {
  const std::lock_guard<std::mutex> lock(guard);
  return workspace;
}

}  // namespace rwpm::ops

extern "C" {

#define RWPM_EXPORT __attribute__((visibility("default")))

// Rises when the schema or the meaning of an operator that exports call changes, rwpm::walk or rwpm::score_map; OP_ABI
// of rwpm_fast/ops/library.py.
RWPM_EXPORT int rwpm_op_abi(void) { return 1; }

// From the first call of open on, all walks of the process take their memory from one workspace, which keeps it; after
// as many calls of close it is given back. Returns 0, or 1 if there is no memory.
RWPM_EXPORT int rwpm_workspace_open(void) {
  const std::lock_guard<std::mutex> lock(guard);
  try {
    if (!workspace) workspace = std::make_shared<rwpm::Workspace>();
  } catch (const std::bad_alloc&) {
    return 1;
  }
  ++opened;
  return 0;
}

RWPM_EXPORT void rwpm_workspace_close(void) {
  std::shared_ptr<rwpm::Workspace> last;  // declared first, so that it is unmapped when the lock is released
  const std::lock_guard<std::mutex> lock(guard);
  if (opened > 0 && --opened == 0) last.swap(workspace);
}

// Bytes that it holds, about; 0 where none is open.
RWPM_EXPORT int64_t rwpm_workspace_bytes(void) {
  const std::shared_ptr<rwpm::Workspace> held = rwpm::ops::open_workspace();
  return held ? int64_t(held->peak_bytes()) : 0;
}

}  // extern "C"
