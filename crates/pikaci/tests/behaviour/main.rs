//! Every rule of `docs/behaviour.md` that the program itself can show: real git, real processes.

mod cargo;
mod children;
mod common;
mod concurrent;
mod disk;
mod ending;
mod environment;
mod filters;
mod input;
mod killed;
mod logs;
mod records;
mod source;
mod table;
mod waiting;
