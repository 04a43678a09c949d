//! The keys of the user's file, as data.

use crate::targets::file::keys::{KeySpec, RUNTIMES, SETTINGS, Shape, TableSpec, key};

/// The whole file.
pub(crate) const FILE: TableSpec = TableSpec {
    keys: &[
        key("hosts", Shape::Named(&Shape::Table(&HOST)), "machines that jobs can run on, by name", "none"),
        key("incus", Shape::Table(&INCUS), "where instances are made on this machine", "the defaults below"),
        key("secrets", Shape::Table(&SECRETS), "what targets may use of your environment", "none"),
        key("settings", Shape::Table(&SETTINGS), "settings for every repository", "none"),
    ],
    required: &[],
    filled: false,
    elsewhere: &[("host", "hosts"), ("secret", "secrets"), ("setting", "settings")],
};

pub(crate) const HOST: TableSpec = TableSpec {
    keys: HOST_KEYS,
    required: &[],
    filled: false,
    elsewhere: &[("address", "ssh"), ("hostname", "ssh"), ("url", "ssh"), ("runtimes", "allow")],
};

const HOST_KEYS: &[KeySpec] = &[
    key("ssh", Shape::Text, "where it is: anything that ssh(1) understands", "the name of the host"),
    key(
        "work_dir",
        Shape::Text,
        "directory on the host for snapshots and outputs, absolute",
        "`\"/var/tmp/jerichoci-prepared-output\"`",
    ),
    key("incus", Shape::Table(&INCUS), "where instances are made there", "the defaults below"),
    key("nix", Shape::Text, "Nix program on the host, a name or an absolute path", "`\"nix\"`"),
    key(
        "allow",
        Shape::List(&Shape::Word(&RUNTIMES)),
        "runtimes that jobs on the host may have; `host_process` only when it is listed",
        "`[\"incus\", \"tart\"]`",
    ),
    key(
        "disk_budget",
        Shape::Text,
        "how much of the host's disk may be used: a share `\"20%\"`, or a size `\"200GiB\"`",
        "`\"20%\"`",
    ),
];

pub(crate) const INCUS: TableSpec = TableSpec {
    keys: &[
        key("project", Shape::Text, "project of the instances", "`\"pika-managed-agents\"`"),
        key("profile", Shape::Text, "profile of the instances", "`\"pika-agent-dev\"`"),
        key(
            "image",
            Shape::Text,
            "image of jobs that name neither an `image` nor a `role`",
            "that of the role",
        ),
        key(
            "target",
            Shape::Text,
            "cluster member, or group of members as `@GROUP`, of jobs that name no `target`",
            "chosen by Incus",
        ),
        key(
            "network",
            Shape::Text,
            "network of jobs that have one",
            "that of the profile, else the first managed bridge of the project",
        ),
        key("socket", Shape::Text, "socket of the daemon, absolute", "`\"/var/lib/incus/unix.socket\"`"),
    ],
    required: &[],
    filled: false,
    elsewhere: &[("image_alias", "image")],
};

pub(crate) const SECRETS: TableSpec = TableSpec {
    keys: &[key(
        "allow",
        Shape::List(&Shape::Text),
        "variables that targets may name as secrets where the caller is not trusted",
        "`[]`",
    )],
    required: &[],
    filled: false,
    elsewhere: &[("allowed", "allow")],
};
