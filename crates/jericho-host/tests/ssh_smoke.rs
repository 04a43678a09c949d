//! Smoke.
mod common;
use common::*;
use jericho_host::*;
use jericho_testkit::ssh::Rig;
#[test]
fn smoke() {
    let rig = Rig::start("smoke").unwrap();
    let config = SshConfig { config_file: Some(rig.config()), control_dir: rig.control_dir(), env: env(), ..SshConfig::new("rig") };
    let host = SshHost::new(config).unwrap();
    for _ in 0..3 {
    let t = std::time::Instant::now();
    let out = host.run(&sh("cat; env; pwd; echo err >&2; exit 3").cwd("/usr").stdin("hello\n"), &token()).unwrap();
    println!("{:?} {:?}\n{}\n{}", t.elapsed(), out.exit, String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    }
    let t = std::time::Instant::now();
    let mut sink = Vec::new();
    let f = host.supervise(&sh("echo hi; sleep 300 & exit 4"), &Supervision::new(TAG, unique("x")), &mut sink, &token()).unwrap();
    println!("{:?} {f:?} {sink:?}", t.elapsed());
    let t = std::time::Instant::now();
    println!("{:?}", host.list("/usr".as_ref()));
    println!("{:?}", t.elapsed());
    println!("{}", rig.log());
}
