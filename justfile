# Recipes for daily work; `just` alone lists them. Arguments go on to the command behind the recipe.

[private]
default:
    @{{ just_executable() }} --list --unsorted

# everything CI checks
[group('check')]
ci *args:
    scripts/test {{ args }}

# the lints: formatting, clippy, documentation, scripts, rules of the repository
[group('check')]
lint:
    scripts/test --no-install fmt clippy docs shellcheck rules

# tests, by name where one is given
[group('check')]
test *filters:
    cargo nextest run --workspace --locked {{ filters }}

# the main job on this tree, as the README shows it
[group('check')]
smoke:
    cargo run --release --bin pikaci -- run jericho-smoke

# format all Rust code
[group('work')]
fmt:
    cargo fmt --all

# build the static programs that are sent to guests and remote hosts
[group('work')]
guest *args:
    scripts/build-guest {{ args }}

# build the documentation of all crates
[group('work')]
doc *args:
    cargo doc --workspace --no-deps --locked {{ args }}

# measure, as ratios against a peer in the same run
[group('work')]
bench *args:
    scripts/bench {{ args }}
