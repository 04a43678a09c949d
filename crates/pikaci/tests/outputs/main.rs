//! Prepared outputs through the real programs: `pikaci` and its two helpers, with the real nix.

mod copied;
mod documented;
mod faults;
mod handover;
mod helpers;
mod killed;
mod matrix;
mod moved;
mod rig;
