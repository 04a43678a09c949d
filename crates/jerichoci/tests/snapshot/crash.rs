//! Killed at any moment, and several at once: the store stays right.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use jericho_host::CancelToken;
use jericho_testkit::repo::{self, Random, Repo};
use jerichoci::snapshot::{materialize, workspace};

use crate::rig::{self, Rig, again, expected_tree, open_store, oracle, variable};

/// Takes snapshots of a changing tree and leases trees for them until it is killed.
#[test]
fn child_takes_snapshots_for_ever() -> Result<()> {
    let (Some(root), Some(state)) = (variable("JERICHO_TEST_ROOT"), variable("JERICHO_TEST_STATE")) else {
        return Ok(());
    };
    let cancel = CancelToken::new()?;
    let repo = Repo::at(&root);
    for round in 0u64.. {
        for number in 0..60 {
            repo.write(format!("d{}/f{number}", number % 5), format!("{round} {number}").repeat(200))?;
        }
        let store = open_store(&state)?;
        if round == 0 {
            tell("ready");
        }
        let snapshot = store.take(&rig::spec(&root), &cancel)?;
        let slots = state.join("slots");
        drop(workspace::lease_tree(&store, &slots, &snapshot.manifest, "/x", &cancel)?);
        let private = state.join("private");
        drop(workspace::private_copy(&store, &private, &snapshot.manifest, &cancel)?);
    }
    Ok(())
}

fn tell(word: &str) {
    let mut out = std::io::stdout().lock();
    // A parent that is gone kills nothing here; the child is killed by it in any case.
    drop(writeln!(out, "\n{word}").and_then(|()| out.flush()));
}

/// Waits for the word of a child that was started with a pipe.
fn wait_for(child: &mut Child, word: &str) -> Result<()> {
    let lines = BufReader::new(child.stdout.take().context("no pipe")?).lines();
    for line in lines {
        if line? == word {
            return Ok(());
        }
    }
    anyhow::bail!("the child ended without {word}")
}

#[test]
fn killed_at_any_moment_the_store_and_the_trees_stay_right() -> Result<()> {
    let (rig, _repo) = Rig::with_repo()?;
    let mut random = Random::new(std::process::id().into());
    for round in 0..25 {
        let mut child = again(
            "crash::child_takes_snapshots_for_ever",
            &[("JERICHO_TEST_ROOT", &rig.root), ("JERICHO_TEST_STATE", &rig.state())],
        )?
        .stdout(Stdio::piped())
        .spawn()?;
        wait_for(&mut child, "ready")?;
        // Some random time, given up at once should the child end by itself.
        let (_keep, never) = mpsc::channel::<()>();
        let moment = Duration::from_micros(random.below(60_000) as u64);
        assert_eq!(never.recv_timeout(moment), Err(mpsc::RecvTimeoutError::Timeout));
        child.kill()?;
        child.wait()?;

        let store = open_store(&rig.state())?;
        for entry in fs::read_dir(rig.state().join("snapshots"))? {
            let hash = entry?.file_name().to_string_lossy().parse()?;
            // The directory may be there before the manifest is.
            if let Some(manifest) = store.load(&hash)? {
                let dest = rig.tmp.path().join(format!("out-{round}-{hash}"));
                materialize::write_tree(&store, &manifest, &dest, &rig.cancel)?;
                expected_tree(&manifest, &dest)?;
                fs::remove_dir_all(dest)?;
            }
        }
        let snapshot = store.take(&rig.spec(), &rig.cancel)?;
        assert_eq!(snapshot.hash, oracle(&rig.root)?.hash());
        let slots = rig.state().join("slots");
        let lease = workspace::lease_tree(&store, &slots, &snapshot.manifest, "/x", &rig.cancel)?;
        expected_tree(&snapshot.manifest, &lease.path)?;
        let private = rig.state().join("private");
        let copy = workspace::private_copy(&store, &private, &snapshot.manifest, &rig.cancel)?;
        expected_tree(&snapshot.manifest, &copy.path)?;
        store.collect(|| Ok([snapshot.hash].into()), false, &rig.cancel)?;
    }
    Ok(())
}

/// Takes snapshots of one tree while others do the same with theirs, and checks each.
#[test]
fn child_takes_and_checks() -> Result<()> {
    let (Some(root), Some(state)) = (variable("JERICHO_TEST_SHARED_ROOT"), variable("JERICHO_TEST_STATE"))
    else {
        return Ok(());
    };
    let cancel = CancelToken::new()?;
    let own = root.with_extension("own");
    let mut random = Random::new(std::process::id().into());
    Repo::init(own.join(std::process::id().to_string()))?;
    let own = own.join(std::process::id().to_string());
    for _ in 0..12 {
        repo::mutate(&own, &mut random)?;
        let store = open_store(&state)?;
        for root in [&own, &root] {
            let snapshot = store.take(&rig::spec(root), &cancel)?;
            anyhow::ensure!(snapshot.hash == oracle(root)?.hash(), "another snapshot");
            let lease =
                workspace::lease_tree(&store, &state.join("slots"), &snapshot.manifest, "/x", &cancel)?;
            expected_tree(&snapshot.manifest, &lease.path)?;
        }
        store.collect(|| Ok([].into()), random.once_in(2), &cancel)?;
    }
    Ok(())
}

#[test]
fn engines_that_share_a_store_each_see_their_own_source() -> Result<()> {
    let rig = Rig::new()?;
    repo::grow(&rig.root, &mut Random::new(7))?;
    let state = rig.state();
    let variables =
        [("JERICHO_TEST_SHARED_ROOT", rig.root.as_path()), ("JERICHO_TEST_STATE", state.as_path())];
    let children = (0..4)
        .map(|_| Ok(again("crash::child_takes_and_checks", &variables)?.stdout(Stdio::piped()).spawn()?))
        .collect::<Result<Vec<_>>>()?;
    for child in children {
        let output = child.wait_with_output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

#[test]
fn threads_that_share_a_store_each_see_their_own_source() -> Result<()> {
    let rig = Rig::new()?;
    repo::grow(&rig.root, &mut Random::new(11))?;
    let expected = oracle(&rig.root)?.hash();
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| rig.take().map(|snapshot| snapshot.hash));
        (rig.take().map(|snapshot| snapshot.hash), other.join().unwrap())
    });
    assert_eq!((first?, second?), (expected, expected));
    Ok(())
}
