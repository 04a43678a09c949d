//! Quoting, asked of a real `sh`.

mod common;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use common::{sh, token};
use jericho_host::{Host, LocalHost, quote};
use proptest::prelude::*;

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(1u8.., 0..40),
        // Denser in what a shell gives a meaning to.
        prop::collection::vec(
            prop::sample::select(&b"'\"\\$`*?[]{}()<>|&;!#~=%^ \t\n-aZ0_./,:@+"[..]),
            0..12
        ),
        prop::sample::select(&["if", "done", "{", "!", "time", "-n", "~", "a=b", "--a=b", ":"][..])
            .prop_map(|word| word.as_bytes().to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shell_reads_back_the_words_that_were_quoted(words in prop::collection::vec(word(), 1..8)) {
        let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
        // As arguments, and on standard input as ssh gives them to a remote shell.
        let line = quote::join(&words).unwrap();
        let mut script = OsString::from("printf '%s\\0' ");
        script.push(&line);
        let expected: Vec<u8> = words.iter().flat_map(|w| [w.as_bytes(), b"\0"].concat()).collect();
        let mut command = sh("");
        command.args[1] = script.clone();
        let output = LocalHost::new().run(&command, &token()).unwrap();
        prop_assert_eq!(&output.stdout, &expected);
        let output = LocalHost::new().run(&sh("sh").stdin(script.as_bytes()), &token()).unwrap();
        prop_assert_eq!(&output.stdout, &expected);
    }

    #[test]
    fn a_quoted_word_is_never_grammar_or_an_assignment(word in word()) {
        // As the first word it is a command that is not there, or runs under another name.
        let name = OsString::from_vec([b"jericho-no-", word.as_slice()].concat());
        let mut script = OsString::from("PATH=; ");
        script.push(quote::quote(&name).unwrap());
        script.push(" 2>/dev/null; echo $?");
        let mut command = sh("");
        command.args[1] = script;
        let output = LocalHost::new().run(&command, &token()).unwrap();
        prop_assert!(output.stdout == b"127\n" || output.stdout == b"126\n", "{:?}", output);
    }
}
