//! The spellings that records, settings and image tools rely on.

use pika_incus_guest_role::IncusGuestRole::{self, JerichoRunner, ManagedOpenclaw};

#[test]
fn words_are_kebab_case_everywhere() {
    for (role, word) in [(ManagedOpenclaw, "managed-openclaw"), (JerichoRunner, "jericho-runner")] {
        assert_eq!(role.as_str(), word);
        assert_eq!(role.to_string(), word);
        assert_eq!(word.parse::<IncusGuestRole>(), Ok(role));
        assert_eq!(serde_json::to_value(role).unwrap(), word);
        assert_eq!(serde_json::from_value::<IncusGuestRole>(word.into()).unwrap(), role);
    }
    assert_eq!(format!("{JerichoRunner:>16}|{JerichoRunner:-<16}|"), "  jericho-runner|jericho-runner--|");
}

#[test]
fn the_old_runner_spelling_is_read_and_written_anew() {
    let role: IncusGuestRole = serde_json::from_str(r#""pikaci-runner""#).unwrap();
    assert_eq!(role, JerichoRunner);
    assert_eq!("pikaci-runner".parse(), Ok(JerichoRunner));
    assert_eq!(serde_json::to_string(&role).unwrap(), r#""jericho-runner""#);
}

#[test]
fn each_role_implies_its_image() {
    assert_eq!(JerichoRunner.image_alias(), "jericho/dev");
    assert_eq!(JerichoRunner.flake_attribute(), "pikaci-runner-incus-image");
    assert_eq!(JerichoRunner.flake_attributes(), ["pikaci-runner-incus-image", "pikaci-incus-dev-image"]);
    assert_eq!(JerichoRunner.image_name(), "pikaci-incus-dev");
    assert_eq!(JerichoRunner.disk_size_mib(), 12288);

    assert_eq!(ManagedOpenclaw.image_alias(), "pika-agent/dev");
    assert_eq!(ManagedOpenclaw.flake_attribute(), "managed-openclaw-incus-image");
    assert_eq!(
        ManagedOpenclaw.flake_attributes(),
        ["managed-openclaw-incus-image", "pika-agent-incus-dev-image"]
    );
    assert_eq!(ManagedOpenclaw.image_name(), "pika-agent-incus-dev");
    assert_eq!(ManagedOpenclaw.disk_size_mib(), 8192);
}

#[test]
fn a_wrong_word_is_answered_with_the_allowed_ones() {
    let error = "windows".parse::<IncusGuestRole>().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"unknown guest role "windows": allowed are `managed-openclaw`, `jericho-runner`"#
    );
    let error = "jericho_runer".parse::<IncusGuestRole>().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"unknown guest role "jericho_runer": allowed are `managed-openclaw`, `jericho-runner`; did you mean `jericho-runner`?"#
    );
    let error = serde_json::from_str::<IncusGuestRole>(r#""windows""#).unwrap_err().to_string();
    assert!(error.contains("managed-openclaw") && error.contains("jericho-runner"), "{error}");
}

#[test]
fn a_near_miss_is_suggested_and_a_far_one_is_not() {
    let suggestion = |word: &str| word.parse::<IncusGuestRole>().unwrap_err().suggestion;
    for near in ["Jericho-Runner", "jericho", "runner", "pikaci-runer", " jericho-runner ", "jericho runner"]
    {
        assert_eq!(suggestion(near), Some(JerichoRunner), "{near:?}");
    }
    for near in ["openclaw", "managed_openclaw", "manged-openclaw", "MANAGED-OPENCLAW"] {
        assert_eq!(suggestion(near), Some(ManagedOpenclaw), "{near:?}");
    }
    let long = "jericho-runner".repeat(100_000);
    for far in ["", " ", "-", "e", "incus", "läufer", "\u{0}\u{0}\u{0}", long.as_str()] {
        assert_eq!(suggestion(far), None);
    }
}

/// What builds the images spells roles by itself: Nix and shell cannot ask this crate.
#[test]
fn the_images_are_built_under_the_names_of_the_roles() {
    let root = jericho_testkit::crate_dir!().join("../..");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let (nix, front, recipe) =
        (read("nix/incus/roles.nix"), read("scripts/incus-role-image.sh"), read("scripts/lib/role-image.sh"));
    for role in IncusGuestRole::ALL {
        let [main, other] = role.flake_attributes();
        let (alias, name, size) = (role.image_alias(), role.image_name(), role.disk_size_mib());
        let described = format!(
            "  {role} = {{\n    attributes = [\n      \"{main}\"\n      \"{other}\"\n    ];\n    \
             alias = \"{alias}\";\n    name = \"{name}\";\n    diskSizeMiB = {size};\n"
        );
        assert!(nix.contains(&described), "{described}");
        let defaults = format!("  {role}) alias=${{alias:-{alias}}} nix_attribute={main} ;;\n");
        assert!(front.contains(&defaults), "{defaults}");
        let named = format!("    {role}) echo {name} ;;\n");
        assert!(recipe.contains(&named), "{named}");
        assert!(root.join(format!("images/debian/{role}.packages")).exists());
    }
}
