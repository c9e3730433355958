//! What memory holds when nobody uses it any more: nothing.
//!
//! A secret does not stay in the one value that is called so. It is rendered into texts, which are parts of resources, plans
//! and messages to hosts; libraries make strings of it, and strings that grow leave their former place behind. So it is
//! not types that wipe here but the allocator: whatever is given back is wiped first, whoever it belonged to. What is left
//! for types is what no allocator sees: the keys that lie on a stack.

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

/// Keeps the memory of this process from being written to disk when it dies, and from other processes of the same user.
/// A process that is started from here is not bound by it.
pub fn keep_private() {
    // Where the kernel refuses, there is nothing to be done about it, and no secret in the open for that.
    _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
