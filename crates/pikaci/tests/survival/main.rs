//! What happens to a job in a guest over SSH when something between, around or below it goes.
//!
//! Each test makes one fault happen in the middle of a job, proves that it has hit, and holds what is
//! promised for it in `docs/hosts.md`: the verdict, the log without a gap or a repetition, and
//! that nothing is left on the host. `scripts/soak` repeats them.

mod faults;
mod world;
