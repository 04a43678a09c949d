//! Every key of a job, for every runtime: what it means, and where it has no meaning.

use std::collections::BTreeMap;

use jerichoci::model::demands::{
    ArtifactsWhen, CacheSharing, CacheSpec, SecretDelivery, SecretSpec, WorkspaceGit,
};
use jerichoci::model::job::{
    GuestCommand, IncusRuntimeConfig, JobPlacement, JobRuntimeConfig, JobSpec, TartRuntimeConfig,
};
use jerichoci::model::staged::StagedLinuxSnapshotProfile;
use pika_incus_guest_role::IncusGuestRole;

use super::*;
use crate::operator::Operator;

fn job(body: &str) -> JobSpec {
    declared(&format!("[targets.t.jobs.a]\n{body}")).targets.remove(0).jobs.remove(0)
}

#[test]
fn all_that_a_guest_can_ask_for_arrives() {
    let job = job(r#"
        command = "cargo nextest run"
        retries = 2
        runtime = "incus"
        on = "builder"
        image = "jericho/dev"
        writable = true
        network = true
        target = "@builders"
        cpus = 2
        memory = "4GiB"
        disk = "20GiB"
        caches = { cargo = "/cargo-home", target = { path = "/t/", sharing = "shared" } }
        secrets = ["REGISTRY_TOKEN", { name = "KEY", delivery = "file" }]
        artifacts = ["target/nextest/**/*.xml", "!target/nextest/old/**"]
        artifacts_when = "failure"
        git = "shallow"
        "#);
    assert_eq!(
        job.runtime,
        JobRuntimeConfig::Incus(IncusRuntimeConfig {
            guest_role: None,
            image_alias: Some("jericho/dev".to_owned()),
            vcpu_count: Some(2),
            memory_mib: Some(4096),
            root_disk_gib: Some(20),
            network: true,
            target: Some("@builders".to_owned()),
        })
    );
    assert_eq!(job.placement, JobPlacement::RemoteSsh { host: "builder".to_owned() });
    assert!(job.writable_workspace && job.retries == 2 && job.git == WorkspaceGit::Shallow);
    let cache = |path: &str, sharing| CacheSpec { path: path.to_owned(), sharing };
    assert_eq!(
        job.caches,
        BTreeMap::from([
            ("cargo".to_owned(), cache("/cargo-home", CacheSharing::Locked)),
            ("target".to_owned(), cache("/t", CacheSharing::Shared)),
        ])
    );
    let secret = |name: &str, delivery| SecretSpec { name: name.to_owned(), delivery };
    assert_eq!(
        job.secrets,
        [secret("REGISTRY_TOKEN", SecretDelivery::Env), secret("KEY", SecretDelivery::File)]
    );
    assert_eq!(job.artifacts, ["target/nextest/**/*.xml", "!target/nextest/old/**"]);
    assert_eq!(job.artifacts_when, ArtifactsWhen::Failure);
}

#[test]
fn a_guest_that_asks_for_nothing_gets_no_network_and_writes_nothing() {
    let plain = job("command = 'x'\nruntime = 'incus'");
    assert!(!plain.writable_workspace);
    assert_eq!(plain.runtime, JobRuntimeConfig::Incus(IncusRuntimeConfig::default()));
    assert_eq!(plain.placement, JobPlacement::Local);
    let role = job("command = 'x'\nruntime = 'incus'\nrole = 'managed-openclaw'");
    let JobRuntimeConfig::Incus(incus) = role.runtime else { panic!() };
    assert_eq!(incus.guest_role, Some(IncusGuestRole::ManagedOpenclaw));
}

#[test]
fn a_virtual_machine_is_named_by_image() {
    let job = job(
        "command = 'x'\nruntime = 'tart'\nimage = 'sequoia-base'\ncpus = 4\nmemory = '8GiB'\ndisk = '60GiB'\nwritable = true\nnetwork = true",
    );
    assert!(job.writable_workspace);
    assert_eq!(
        job.runtime,
        JobRuntimeConfig::Tart(TartRuntimeConfig {
            base_vm: Some("sequoia-base".to_owned()),
            vcpu_count: Some(4),
            memory_mib: Some(8192),
            root_disk_gib: Some(60),
            ..TartRuntimeConfig::default()
        })
    );
}

#[test]
fn a_host_process_has_all_that_is_no_guests() {
    let job = job(r#"
        command = "x"
        retries = 1
        writable = true
        network = true
        on = "local"
        caches = { npm = ".npm-cache" }
        secrets = ["TOKEN"]
        artifacts = ["out/**"]
        artifacts_when = "never"
        git = "full"
        nix_shell = "default"
        "#);
    assert_eq!(job.placement, JobPlacement::Local);
    assert_eq!(job.caches["npm"].path, ".npm-cache");
    assert_eq!((job.git, job.artifacts_when), (WorkspaceGit::Full, ArtifactsWhen::Never));
}

#[test]
fn a_command_as_root_of_a_guest_is_the_same_command() {
    let root = |command: &str| {
        let job = job(&format!("command = {command}\nruntime = 'incus'\nroot = true"));
        let GuestCommand::ShellCommandAsRoot { command } = job.command else { panic!("{job:?}") };
        command
    };
    assert_eq!(root("'apt-get update'"), "set -euo pipefail\napt-get update");
    assert_eq!(root("['echo', 'a b']"), "exec echo 'a b' \"$@\"");
    let not = job("command = 'x'\nruntime = 'incus'\nroot = false");
    assert_eq!(not.command, GuestCommand::Script { script: "x".to_owned() });
}

#[test]
fn a_staged_job_runs_a_wrapper_of_its_build() {
    let text = "command = 'run-tests'\nruntime = 'incus'\n[targets.t.jobs.a.staged]\ndeps = 'ci.x86_64-linux.deps'\nbuild = 'ci.x86_64-linux.build'\nprefix = 'check-linux-rust'\n";
    let staged = job(text).staged.unwrap();
    assert_eq!((staged.wrapper.as_str(), staged.prefix.as_str()), ("run-tests", "check-linux-rust"));
    assert_eq!(staged.profile, StagedLinuxSnapshotProfile::Rust);
    assert_eq!(
        (staged.deps.output_name.as_str(), staged.build.output_name.as_str()),
        ("ci.x86_64-linux.deps", "ci.x86_64-linux.build")
    );
    let plan = jerichoci::run::plan::plan(&[job(text)]).unwrap();
    assert!(plan.nodes().iter().any(|node| node.id.contains("check-linux-rust")));
    let followup = job(&format!("{text}profile = 'followup'")).staged.unwrap();
    assert_eq!(followup.profile, StagedLinuxSnapshotProfile::Followup);
}

#[test]
fn a_key_without_a_meaning_for_its_runtime_is_refused_with_the_reason() {
    insta::assert_snapshot!(told_of_jobs(&[
        "command = 'x'\nimage = 'a'\nrole = 'jericho-runner'",
        "command = 'x'\ncpus = 2\nmemory = '1GiB'\ndisk = '1GiB'\nroot = true",
        "command = 'x'\nruntime = 'host_process'\ncpus = 2",
        "command = 'x'\nwritable = false\nnetwork = false",
        "command = 'x'\nruntime = 'incus'\nnix_shell = 'default'",
        "command = 'x'\nruntime = 'tart'\nnix_shell = 'default'\nrole = 'jericho-runner'\nnetwork = false\nroot = true",
        "command = 'x'\nruntime = 'tart'\nstaged = { deps = 'a', build = 'b', prefix = 'c' }",
        "command = 'x'\nruntime = 'incus'\nroot = true\nstaged = { deps = 'a', build = 'b', prefix = 'c' }",
        "command = 'x'\nruntime = 'incus'\nimage = 'a'\nrole = 'jericho-runner'",
        "command = 'x'\ntarget = 'n2'",
        "command = 'x'\nruntime = 'tart'\ntarget = '@fast'",
    ]), @r#"
    command = 'x'\nimage = 'a'\nrole = 'jericho-runner'
        jericho.toml:3:1: `image` has no meaning where the runtime is `host_process`: it has the tools of its machine, and no image; leave it out, or write `runtime = "incus"`
        jericho.toml:4:1: `role` has no meaning where the runtime is `host_process`: it has the tools of its machine, and no image; leave it out, or write `runtime = "incus"`
        jericho.toml:4:1: `image` and `role` both say the image; leave one out
    command = 'x'\ncpus = 2\nmemory = '1GiB'\ndisk = '1GiB'\nroot = true
        jericho.toml:3:1: `cpus` has no meaning where the runtime is `host_process`: it shares its machine with everything else; leave it out, or write `runtime = "incus"`
        jericho.toml:4:1: `memory` has no meaning where the runtime is `host_process`: it shares its machine with everything else; leave it out, or write `runtime = "incus"`
        jericho.toml:5:1: `disk` has no meaning where the runtime is `host_process`: it shares its machine with everything else; leave it out, or write `runtime = "incus"`
        jericho.toml:6:1: `root` has no meaning where the runtime is `host_process`: it is the user who runs it; leave it out, or write `runtime = "incus"`
    command = 'x'\nruntime = 'host_process'\ncpus = 2
        jericho.toml:4:1: `cpus` has no meaning where the runtime is `host_process`: it shares its machine with everything else; leave it out
    command = 'x'\nwritable = false\nnetwork = false
        jericho.toml:3:1: `writable` has no meaning where the runtime is `host_process`: it always has a private copy that it may write; leave it out
        jericho.toml:4:1: `network` has no meaning where the runtime is `host_process`: it has the network of its machine; leave it out
    command = 'x'\nruntime = 'incus'\nnix_shell = 'default'
        jericho.toml:4:1: `nix_shell` has no meaning where the runtime is `incus`: only a host process enters a dev shell, and a guest has the tools of its image; leave it out
    command = 'x'\nruntime = 'tart'\nnix_shell = 'default'\nrole = 'jericho-runner'\nnetwork = false\nroot = true
        jericho.toml:4:1: `nix_shell` has no meaning where the runtime is `tart`: only a host process enters a dev shell, and a guest has the tools of its image; leave it out
        jericho.toml:5:1: `role` has no meaning where the runtime is `tart`: a role names an image of Incus, and `image` names the virtual machine that is cloned; leave it out
        jericho.toml:6:1: `network` has no meaning where the runtime is `tart`: its virtual machine always has a network; leave it out
        jericho.toml:7:1: `root` has no meaning where the runtime is `tart`: its commands run as the user of the virtual machine; leave it out
    command = 'x'\nruntime = 'tart'\nstaged = { deps = 'a', build = 'b', prefix = 'c' }
        jericho.toml:4:1: `staged` has no meaning where the runtime is `tart`: prepared outputs are for Linux; leave it out
    command = 'x'\nruntime = 'incus'\nroot = true\nstaged = { deps = 'a', build = 'b', prefix = 'c' }
        jericho.toml:4:1: `root` has no meaning beside `staged`: wrappers of prepared outputs run as the guest's own user; leave it out
    command = 'x'\nruntime = 'incus'\nimage = 'a'\nrole = 'jericho-runner'
        jericho.toml:5:1: `image` and `role` both say the image; leave one out
    command = 'x'\ntarget = 'n2'
        jericho.toml:3:1: `target` has no meaning where the runtime is `host_process`: it names a member of a cluster of Incus, and only guests of Incus go there; leave it out, or write `runtime = "incus"`
    command = 'x'\nruntime = 'tart'\ntarget = '@fast'
        jericho.toml:4:1: `target` has no meaning where the runtime is `tart`: it names a member of a cluster of Incus, and only guests of Incus go there; leave it out
    "#);
}

#[test]
fn what_a_job_cannot_ask_for_is_told_with_its_place() {
    insta::assert_snapshot!(told_of_jobs(&[
        "command = 'x'\nretries = -1",
        "command = 'x'\nretries = 1000",
        "command = 'x'\nretries = '1'",
        "command = 'x'\nruntime = 'incus'\ncpus = 0\nmemory = '4GB'\ndisk = 20",
        "command = 'x'\nruntime = 'incus'\ncpus = 256\nmemory = '0MiB'\ndisk = '1500MiB'",
        "command = 'x'\nruntime = 'incus'\nmemory = '15MiB'",
        "command = 'x'\nruntime = 'incus'\nimage = '--force'",
        "command = 'x'\nruntime = 'incus'\ntarget = '-n2'",
        "command = 'x'\nruntime = 'incus'\ntarget = '@'",
        "command = 'x'\nruntime = 'incus'\nrole = 'jericho-runer'",
        "command = 'x'\nruntime = 'incus'\nwritable = 'yes'\nnetwork = 1\nroot = 'no'",
        "command = 'x'\ncaches = { cargo = '/cargo' }",
        "command = 'x'\nruntime = 'incus'\ncaches = { cargo = 'cargo' }",
        "command = 'x'\nruntime = 'incus'\ncaches = { a = '/workspace/snapshot/', b = '/proc/x', c = '/usr', d = '/usr/local/x', e = '/workspace/snapshot/x' }",
        "command = 'x'\ncaches = { a = '../x', b = '.', c = '', d = 'x//y', e = '.git/x' }",
        "command = 'x'\ncaches = { a = 'x', b = 'x/y' }",
        "command = 'x'\ncaches = { a = { pth = 'x' }, b = {}, c = 1, 'd e' = 'z' }",
        "command = 'x'\ncaches = { a = { path = 'x', sharing = 'lock' } }",
        "command = 'x'\nsecrets = 'TOKEN'",
        "command = 'x'\nsecrets = ['a b', '', '1A', 'JERICHOCI_JOB', 1]",
        "command = 'x'\nsecrets = ['A', 'A']",
        "command = 'x'\nsecrets = ['A']\nenv = { A = 'x' }",
        "command = 'x'\nsecrets = [{ name = 'A', delivery = 'file' }]\nenv = { A_FILE = 'x' }",
        "command = 'x'\nsecrets = [{ nam = 'A' }, { delivery = 'env' }, { name = 'A', delivery = 'stdin' }]",
        "command = 'x'\nartifacts = ['/x', '../y', 'a/']",
        "command = 'x'\nartifacts_when = 'allways'",
        "command = 'x'\ngit = 'deep'",
        "command = 'cargo test'\nruntime = 'incus'\nstaged = { deps = 'a', build = 'b', prefix = 'c' }",
        "command = ['run', 'x']\nruntime = 'incus'\nstaged = { deps = '.#a', build = 'b', prefix = 'c d', profile = 'all' }",
        "command = 'x'\nstaged = { deps = 'a', build = 'b', prefix = 'p' }\n[targets.t.jobs.b]\ncommand = 'x'\nstaged = { deps = 'a', build = 'c', prefix = 'p' }",
        "command = 'x'\nruns-on = 'linux'\nstrategy = {}\nhost = 'x'",
        "command = 'x'\n[settings]\nmax_concurrent_executes = 0\nbase_ref = ''\nhost_local_nix_shell = 1\njobs = 2",
    ]), @r#"
    command = 'x'\nretries = -1
        jericho.toml:3:11: `retries` cannot be -1; write a whole number from 0 to 100
    command = 'x'\nretries = 1000
        jericho.toml:3:11: `retries` cannot be 1000; write a whole number from 0 to 100
    command = 'x'\nretries = '1'
        jericho.toml:3:11: `retries`: expected an integer, found the string `1`
    command = 'x'\nruntime = 'incus'\ncpus = 0\nmemory = '4GB'\ndisk = 20
        jericho.toml:4:8: `cpus` cannot be 0; write a whole number from 1 to 255
        jericho.toml:5:10: `4GB` is not a size; write a whole number of `MiB`, `GiB` or `TiB`, such as `"512MiB"`, `"4GiB"`
        jericho.toml:6:8: expected a size with its unit, found the integer 20; write a whole number of `MiB`, `GiB` or `TiB`, such as `"512MiB"`, `"4GiB"`
    command = 'x'\nruntime = 'incus'\ncpus = 256\nmemory = '0MiB'\ndisk = '1500MiB'
        jericho.toml:4:8: `cpus` cannot be 256; write a whole number from 1 to 255
        jericho.toml:5:10: `0MiB` is no size at all; write a whole number of `MiB`, `GiB` or `TiB`, such as `"512MiB"`, `"4GiB"`
        jericho.toml:6:8: `1500MiB` is not a whole number of GiB; write a whole number of `MiB`, `GiB` or `TiB`, such as `"512MiB"`, `"4GiB"`
    command = 'x'\nruntime = 'incus'\nmemory = '15MiB'
        jericho.toml:4:10: no guest lives in `15MiB`; write at least `"16MiB"`
    command = 'x'\nruntime = 'incus'\nimage = '--force'
        jericho.toml:4:9: `--force` is not the name of an image; a name is one word, such as `"jericho/dev"`
    command = 'x'\nruntime = 'incus'\ntarget = '-n2'
        jericho.toml:4:10: `-n2` is neither a member of a cluster nor a group of members; write `"MEMBER"` or `"@GROUP"`
    command = 'x'\nruntime = 'incus'\ntarget = '@'
        jericho.toml:4:10: `@` is neither a member of a cluster nor a group of members; write `"MEMBER"` or `"@GROUP"`
    command = 'x'\nruntime = 'incus'\nrole = 'jericho-runer'
        jericho.toml:4:8: `role` cannot be `jericho-runer`; did you mean `jericho-runner`?
    command = 'x'\nruntime = 'incus'\nwritable = 'yes'\nnetwork = 1\nroot = 'no'
        jericho.toml:4:12: `writable`: expected `true` or `false`, found the string `yes`
        jericho.toml:5:11: `network`: expected `true` or `false`, found the integer 1
        jericho.toml:6:8: `root`: expected `true` or `false`, found the string `no`
    command = 'x'\ncaches = { cargo = '/cargo' }
        jericho.toml:3:20: a cache cannot be at `/cargo`: a host process sees its caches below its workspace; write a relative path
    command = 'x'\nruntime = 'incus'\ncaches = { cargo = 'cargo' }
        jericho.toml:4:20: a cache cannot be at `cargo`: in a guest it is absolute; write a path that starts with `/`
    command = 'x'\nruntime = 'incus'\ncaches = { a = '/workspace/snapshot/', b = '/proc/x', c = '/usr', d = '/usr/local/x', e = '/workspace/snapshot/x' }
        jericho.toml:4:16: a cache cannot be at `/workspace/snapshot/`: the source of the job is there; choose a directory of its own, such as `"/cache"`, or one below `/workspace/snapshot`
        jericho.toml:4:44: a cache cannot be at `/proc/x`: the guest has /proc of its own; choose a directory of its own, such as `"/cache"`, or one below `/workspace/snapshot`
        jericho.toml:4:59: a cache cannot be at `/usr`: the guest has /usr of its own; choose a directory of its own, such as `"/cache"`, or one below `/workspace/snapshot`
    command = 'x'\ncaches = { a = '../x', b = '.', c = '', d = 'x//y', e = '.git/x' }
        jericho.toml:3:16: a cache cannot be at `../x`: it is no plain path to a directory; write it without `.`, `..` and empty parts
        jericho.toml:3:28: a cache cannot be at `.`: it is no plain path to a directory; write it without `.`, `..` and empty parts
        jericho.toml:3:37: a cache cannot be at ``: it is no plain path to a directory; write it without `.`, `..` and empty parts
        jericho.toml:3:45: a cache cannot be at `x//y`: it is no plain path to a directory; write it without `.`, `..` and empty parts
        jericho.toml:3:57: a cache cannot be at `.git/x`: that is git's own; choose another directory
    command = 'x'\ncaches = { a = 'x', b = 'x/y' }
        jericho.toml:3:25: `x` and `x/y` are caches, one inside the other; give each a directory of its own
    command = 'x'\ncaches = { a = { pth = 'x' }, b = {}, c = 1, 'd e' = 'z' }
        jericho.toml:3:18: unknown key `pth` of cache `a`; did you mean `path`?
        jericho.toml:3:35: cache `b` has no `path`
        jericho.toml:3:43: `c`: expected a path, or a table with `path` and `sharing`, found the integer 1
        jericho.toml:3:46: `d e` cannot be the name of a cache; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    command = 'x'\ncaches = { a = { path = 'x', sharing = 'lock' } }
        jericho.toml:3:40: `sharing` cannot be `lock`; write one of `locked`, `shared`
    command = 'x'\nsecrets = 'TOKEN'
        jericho.toml:3:11: `secrets`: expected an array of names, found the string `TOKEN`
    command = 'x'\nsecrets = ['a b', '', '1A', 'JERICHOCI_JOB', 1]
        jericho.toml:3:12: `a b` is not the name of a variable; a secret is named like its variable, such as `"REGISTRY_TOKEN"`
        jericho.toml:3:19: `` is not the name of a variable; a secret is named like its variable, such as `"REGISTRY_TOKEN"`
        jericho.toml:3:23: `1A` is not the name of a variable; a secret is named like its variable, such as `"REGISTRY_TOKEN"`
        jericho.toml:3:29: `JERICHOCI_JOB` is set by Jericho CI for each job; leave it out
        jericho.toml:3:46: `secrets`: expected the name of a variable, or a table with `name` and `delivery`, found the integer 1
    command = 'x'\nsecrets = ['A', 'A']
        jericho.toml:3:17: the secret `A` is named twice; leave one out
    command = 'x'\nsecrets = ['A']\nenv = { A = 'x' }
        jericho.toml:3:12: `env` has `A`, which the secret sets; leave it out of `env`
    command = 'x'\nsecrets = [{ name = 'A', delivery = 'file' }]\nenv = { A_FILE = 'x' }
        jericho.toml:3:21: `env` has `A_FILE`, which the secret sets; leave it out of `env`
    command = 'x'\nsecrets = [{ nam = 'A' }, { delivery = 'env' }, { name = 'A', delivery = 'stdin' }]
        jericho.toml:3:14: unknown key `nam` of a secret; did you mean `name`?
        jericho.toml:3:27: the secret has no `name`
        jericho.toml:3:74: `delivery` cannot be `stdin`; write one of `env`, `file`
    command = 'x'\nartifacts = ['/x', '../y', 'a/']
        jericho.toml:3:14: the pattern `/x` cannot match: it starts with `/`, and paths are relative to the root of the source tree; write `x`
        jericho.toml:3:20: the pattern `../y` cannot match: it contains `..`, which no path relative to the root of the source tree does
        jericho.toml:3:28: the pattern `a/` cannot match: it ends with `/`, and patterns match files, not directories; write `a/**`
    command = 'x'\nartifacts_when = 'allways'
        jericho.toml:3:18: `artifacts_when` cannot be `allways`; did you mean `always`?
    command = 'x'\ngit = 'deep'
        jericho.toml:3:7: `git` cannot be `deep`; write one of `none`, `shallow`, `full`
    command = 'cargo test'\nruntime = 'incus'\nstaged = { deps = 'a', build = 'b', prefix = 'c' }
        jericho.toml:2:11: beside `staged`, the command is a program in `bin/` of `build`; `cargo test` is none; write its file name, without arguments
    command = ['run', 'x']\nruntime = 'incus'\nstaged = { deps = '.#a', build = 'b', prefix = 'c d', profile = 'all' }
        jericho.toml:2:11: beside `staged`, the command is a program in `bin/` of `build`; a program with arguments is none; write its file name, without arguments
        jericho.toml:4:19: `.#a` is not an attribute of a flake; write names with dots between them, such as `"ci.x86_64-linux.workspaceDeps"`
        jericho.toml:4:48: `c d` cannot be the name of a prefix; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
        jericho.toml:4:65: `profile` cannot be `all`; write one of `rust`, `followup`
    command = 'x'\nstaged = { deps = 'a', build = 'b', prefix = 'p' }\n[targets.t.jobs.b]\ncommand = 'x'\nstaged = { deps = 'a', build = 'c', prefix = 'p' }
        jericho.toml:6:1: jobs `a` and `b` share the prefix `p`, and name different outputs; give each pair of outputs a prefix of its own
    command = 'x'\nruns-on = 'linux'\nstrategy = {}\nhost = 'x'
        jericho.toml:3:1: unknown key `runs-on` in job `a`; did you mean `on`?
        jericho.toml:4:1: unknown key `strategy` in job `a`; did you mean `matrix`?
        jericho.toml:5:1: unknown key `host` in job `a`; did you mean `on`?
    command = 'x'\n[settings]\nmax_concurrent_executes = 0\nbase_ref = ''\nhost_local_nix_shell = 1\njobs = 2
        jericho.toml:4:27: `max_concurrent_executes` cannot be 0; write a whole number from 1
        jericho.toml:5:12: `` is not the name of a revision
        jericho.toml:6:24: `host_local_nix_shell`: expected a string, found the integer 1
        jericho.toml:7:1: unknown key `jobs` in [settings]; did you mean `max_concurrent_executes`?
    "#);
}

#[test]
fn a_host_is_one_of_the_users_and_takes_the_runtime() {
    let operator = operator("[hosts.builder]\n[hosts.mac]\nallow = ['tart', 'host_process']");
    let told = |body: &str| {
        let text = format!("[targets.t.jobs.a]\ncommand = 'x'\n{body}\n");
        match parse(text.as_bytes(), &Origin::BuiltIn, &[], Some(&operator)) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(told("on = 'builder'\nruntime = 'incus'"), "accepted");
    assert_eq!(told("on = 'mac'"), "accepted");
    insta::assert_snapshot!(told("on = 'bilder'\nruntime = 'incus'"), @"jericho.toml:3:6: host `bilder` is not in `/home/u/.config/jerichoci/config.toml`; did you mean `builder`?");
    insta::assert_snapshot!(told("on = 'x'\nruntime = 'incus'"), @"jericho.toml:3:6: host `x` is not in `/home/u/.config/jerichoci/config.toml`; the hosts are `builder`, `mac`, `local`");
    insta::assert_snapshot!(told("on = 'builder'"), @"jericho.toml:3:6: host `builder` does not take jobs whose runtime is `host_process`; the runtimes it takes are `incus`, `tart`; see `allow` of the host");
    insta::assert_snapshot!(told("matrix = { h = ['mac', 'pc'] }\non = '${h}'\nruntime = 'tart'"), @"jericho.toml:4:6: host `pc` is not in `/home/u/.config/jerichoci/config.toml`; the hosts are `builder`, `mac`, `local`");
    let nobody = Operator::default();
    let text = b"[targets.t.jobs.a]\ncommand = 'x'\non = 'builder'\n";
    let error = parse(text, &Origin::BuiltIn, &[], Some(&nobody)).unwrap_err();
    insta::assert_snapshot!(error, @r#"jericho.toml:3:6: host `builder` is not in the user's file; add a table [hosts.NAME] there, or write `"local"`"#);
    assert!(parse(text, &Origin::BuiltIn, &[], None).is_ok(), "who does not ask for hosts is not told");
}

fn operator(text: &str) -> Operator {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, text).unwrap();
    let mut operator = Operator::load(&path).unwrap();
    operator.place = "/home/u/.config/jerichoci/config.toml".to_owned();
    operator
}

#[test]
fn settings_of_the_repository_arrive_with_their_place() {
    let root = tempfile::tempdir().unwrap();
    let text =
        "[settings]\nmax_concurrent_executes = 3\nbase_ref = 'origin/dev'\nhost_local_nix_shell = 'ci'\n";
    fs::write(root.path().join(FILE_NAME), text).unwrap();
    let settings = settings_of(root.path());
    let jobs = settings.max_concurrent_executes.unwrap();
    assert_eq!((jobs.value.get(), jobs.place), (3, (2, 27)));
    assert_eq!(settings.base_ref.unwrap().value, "origin/dev");
    assert_eq!(settings.host_local_nix_shell.unwrap().place, (4, 24));
    fs::write(root.path().join(FILE_NAME), "[settings]\nmax_concurrent_executes = 0\n").unwrap();
    assert_eq!(settings_of(root.path()), FileSettings::default(), "it is told by who reads the targets");
}
