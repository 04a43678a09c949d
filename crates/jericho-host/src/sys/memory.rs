//! The heap of this process.

/// Gives memory that was freed back to the system, where the allocator can be told to.
///
/// Threads that have ended leave what they freed in arenas that nobody allocates from any more:
/// after a burst of work on many threads, the next burst would come on top of it.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]
        // SAFETY: takes a number, and the allocator's own locks.
        unsafe {
            libc::malloc_trim(0)
        };
    }
}

/// Blocks of a MiB and more come from the system and go back to it, whatever was freed before.
///
/// Left to itself, glibc keeps such blocks once one of them was freed, and a vector that grows
/// is copied; apart, it grows where it is. For programs whose memory has a bound to keep:
/// called once, at their start.
pub fn keep_large_blocks_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
        // SAFETY: takes two numbers; one that it does not like is ignored.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20)
        };
    }
}
