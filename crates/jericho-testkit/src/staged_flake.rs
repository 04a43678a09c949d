//! The fixture flake: the prepared outputs of every staged target of the Pika catalog, without nixpkgs.
//!
//! All fourteen attributes `ci.x86_64-linux.*` build with the real nix in tenths of a second, into outputs
//! with a payload manifest. The wrappers in them check what they see in the guest: both outputs mounted read-only,
//! user 1000, `/workspace/snapshot`, and that they were built from the source that lies there. So the
//! flake stands at the root of the source tree.
//!
//! | file | who uses it |
//! |---|---|
//! | `dependencies.txt` | the deps outputs, and through them the build outputs |
//! | `src/greeting.txt` | the build outputs; a change rebuilds them alone |
//! | `knobs.toml` | the outputs that it names: makes things fail |
//! | `wrappers.toml` | the build outputs: which programs they have |
//! | any other | nobody; a change rebuilds nothing |

use std::fs;
use std::io;
use std::path::Path;

macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("../fixtures/staged-flake/", $name)))
    };
}

const FILES: [(&str, &str); 6] = [
    file!("dependencies.txt"),
    file!("flake.nix"),
    file!("knobs.toml"),
    file!("src/greeting.txt"),
    file!("wrapper.sh"),
    file!("wrappers.toml"),
];

/// Writes the flake into `tree`, which exists; nothing goes wrong in it.
///
/// # Errors
/// When a file cannot be written.
pub fn write(tree: &Path) -> io::Result<()> {
    fs::create_dir_all(tree.join("src"))?;
    for (name, content) in FILES {
        fs::write(tree.join(name), content)?;
    }
    Ok(())
}

/// Makes things go wrong: `knobs` is the new content of `knobs.toml`, where what is not named is as it was at first.
///
/// `red = ["run-pika-actionlint"]` lets a wrapper fail, `broken = ["rmpWorkspaceBuild"]` a builder,
/// `throws = [...]` an evaluation; outputs in `no_manifest` have none, and in `[manifests]` another one;
/// in `[gates]` a builder waits until it has read a line from a FIFO (`rmpWorkspaceBuild = "/path"`).
///
/// # Errors
/// When the file cannot be written.
pub fn turn(tree: &Path, knobs: &str) -> io::Result<()> {
    fs::write(tree.join("knobs.toml"), knobs)
}
