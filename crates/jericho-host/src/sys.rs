//! System calls that need unsafe code or exist on Linux only.
