//! Atomic writes, publication by rename, removal: on this machine.
