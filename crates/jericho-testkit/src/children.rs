//! Awkward children: shell programs that misbehave in one way each.
//!
//! They need `sh`, `sleep`, `env`, `head` and `setsid` in `PATH`. All of them would run for
//! minutes if nobody ended them.

/// A child that does not end by itself, in a way that is hard to end.
#[derive(Debug, Clone, Copy)]
pub struct Endless {
    /// What is awkward about it.
    pub name: &'static str,
    /// For `sh -c`. Prints a line with `ready` as soon as everything is in place.
    pub script: &'static str,
}

/// Every way of being hard to end.
pub const ENDLESS: &[Endless] = &[
    Endless { name: "plain", script: "echo ready; exec sleep 300" },
    Endless { name: "ignores TERM", script: "trap '' TERM; echo ready; while :; do sleep 300; done" },
    Endless { name: "has a grandchild on the pipe", script: "sleep 300 & echo ready; wait" },
    Endless { name: "has a session leader", script: "setsid sleep 300 & echo ready; wait" },
    Endless {
        name: "has a session leader that ignores TERM",
        script: "setsid sh -c 'trap \"\" TERM; echo ready; while :; do sleep 300; done' & wait",
    },
    Endless {
        name: "has a daemon",
        script: "(setsid sh -c '(exec sleep 300) & echo ready >&3; exec 3>&-; wait' </dev/null 3>&1 >/dev/null 2>&1 &) ; exec sleep 300",
    },
    Endless {
        name: "has a child without environment",
        script: "setsid env -i $(command -v sleep) 300 & echo ready; wait",
    },
    Endless {
        name: "has a child without environment and output that ignores TERM",
        script: "env -i $(command -v sh) -c 'trap \"\" TERM; echo ready; exec >&- 2>&-; while :; do sleep 300; done' & wait",
    },
    Endless { name: "has closed its output", script: "echo ready; exec >&- 2>&-; exec sleep 300" },
    Endless { name: "stops itself", script: "echo ready; kill -STOP $$; exec sleep 300" },
];

/// A command that ends at once with code 3 and leaves one `sleep 300`.
#[derive(Debug, Clone, Copy)]
pub struct Leaver {
    /// How it leaves it.
    pub name: &'static str,
    /// For `sh -c`.
    pub script: &'static str,
    /// Whether what is left holds the output.
    pub holds_output: bool,
}

/// Every way of leaving something behind.
pub const LEAVERS: &[Leaver] = &[
    Leaver { name: "background child", script: "sleep 300 & exit 3", holds_output: true },
    Leaver { name: "session leader", script: "setsid sleep 300 & exit 3", holds_output: true },
    Leaver {
        name: "double fork, no output",
        script: "(setsid sleep 300 </dev/null >/dev/null 2>&1 &); exit 3",
        holds_output: false,
    },
    Leaver {
        name: "without environment, on the pipe",
        script: "s=$(command -v sleep); (setsid env -i $s 300 &); exit 3",
        holds_output: true,
    },
    Leaver {
        name: "without environment and output, in the session",
        script: "env -i $(command -v sleep) 300 >/dev/null 2>&1 & exit 3",
        holds_output: false,
    },
    Leaver {
        name: "ignores TERM",
        script: "trap '' TERM; (setsid sleep 300 </dev/null >/dev/null 2>&1 &); exit 3",
        holds_output: false,
    },
];
