//! Supervised commands, gentle and awkward: every rule under both isolations.

use std::time::Duration;

use jericho_host::{CancelToken, Command, EndedBy, Environment, Exit, Host, LocalHost, Supervision};

fn sh(script: &str) -> Command {
    let env: Environment = [("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")].into_iter().collect();
    Command::new("sh").arg("-c").arg(script).env(env)
}

#[test]
fn smoke() {
    let host = LocalHost::new();
    let token = CancelToken::new().unwrap();
    let out = host.run(&sh("echo hi; echo err >&2; exit 3"), &token).unwrap();
    assert_eq!((out.exit, &*out.stdout, &*out.stderr), (Exit::Code(3), &b"hi\n"[..], &b"err\n"[..]));
    let mut sink = Vec::new();
    let mut s = Supervision::new("JERICHO_TEST", "smoke");
    let f = host.supervise(&sh("echo a; echo b >&2; echo c; cat"), &s, &mut sink, &token).unwrap();
    assert_eq!(sink, b"a\nb\nc\n");
    println!("{f:?}");
    s.time_limit = Some(Duration::from_millis(100));
    let f = host
        .supervise(&sh("(setsid sleep 77 </dev/null >/dev/null 2>&1 &); sleep 78"), &s, &mut sink, &token)
        .unwrap();
    println!("{f:?}");
    assert_eq!(f.ended_by, EndedBy::TimeLimit);
    s.time_limit = None;
    let f = host
        .supervise(
            &sh("(setsid sleep 77 </dev/null >/dev/null 2>&1 &); sleep 79 & exit 4"),
            &s,
            &mut sink,
            &token,
        )
        .unwrap();
    println!("{f:?}");
}
